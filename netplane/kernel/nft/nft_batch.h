// SPDX-License-Identifier: Apache-2.0
// NftSocket and NftBatch: nfnetlink transactions and dumps over libmnl. Private to nft/.
//
// A batch is applied as a whole or not at all. The kernel handles it within the system call that
// sends it, so that its answers are there when the call returns.
#pragma once

#include "netplane/base/result.h"

#include <cstdint>
#include <functional>
#include <libmnl/libmnl.h>
#include <libnftnl/common.h>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::kernel {

template <auto Free>
struct NftFreer {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};

inline constexpr std::uint16_t kInetFamily = 1;  // NFPROTO_INET

class NftBatch {
public:
  static constexpr std::size_t kMessageBytesMax = 32'768;

  NftBatch();
  // One message: its type and flags, what it does (for errors), and a function that fills in its
  // payload.
  void add(std::uint16_t type, std::uint16_t flags, std::string what,
           const std::function<void(nlmsghdr*)>& fill, std::uint16_t family = kInetFamily);

private:
  friend class NftSocket;
  std::vector<char> scratch_;
  std::string bytes_;
  std::size_t last_ = 0;           // where the last message lies in bytes_
  std::vector<std::string> what_;  // by sequence number
};

class NftSocket {
public:
  static Result<NftSocket> open(int netns_fd);

  Result<> commit(NftBatch batch);
  // Asks for a dump and hands every message to `each`. `fill` may be empty. family: NFPROTO_UNSPEC
  // for all. A dump that the kernel calls inconsistent is taken again, at most kDumpTriesMax times;
  // `restart` runs before each.
  static constexpr int kDumpTriesMax = 5;
  Result<> dump(std::uint16_t type, std::uint16_t family, std::string_view what,
                const std::function<void(nlmsghdr*)>& fill, const std::function<void()>& restart,
                const std::function<void(const nlmsghdr*)>& each);

private:
  using MnlPtr = std::unique_ptr<mnl_socket, NftFreer<mnl_socket_close>>;
  explicit NftSocket(MnlPtr socket) : socket_(std::move(socket)) {}
  Result<bool> dump_once(nlmsghdr* request, std::string_view what,
                         const std::function<void(const nlmsghdr*)>& each);

  MnlPtr socket_;
  std::uint32_t sequence_ = 0;
};

}  // namespace shoal::kernel
