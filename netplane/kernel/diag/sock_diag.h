// SPDX-License-Identifier: Apache-2.0
// SockDiag: the connected TCP and UDP sockets of one network namespace, over sock_diag(7), and the
// end of single ones. A TCP connection is ended as its process would end it that closes a socket
// with unread data: the other side gets a reset with the right sequence number, also where nothing
// has been sent for days; the process gets ECONNABORTED from its next call.
//
// Listing works on any kernel; destroy() needs one with CONFIG_INET_DIAG_DESTROY. Threading: one
// thread at a time; which one does not matter.
#pragma once

#include "netplane/base/ip.h"
#include "netplane/base/result.h"

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

namespace shoal::kernel {

// An IPv6 socket that speaks IPv4 has IPv4 addresses here.
struct ConnectedSocket {
  L4Proto proto = L4Proto::kTcp;
  SocketAddress local;
  SocketAddress remote;
  std::uint64_t cookie = 0;           // bpf_get_socket_cookie()
  std::uint8_t family = 0;            // of the socket itself
  std::array<std::uint8_t, 48> id{};  // the kernel's name for it
};

class SockDiag {
public:
  virtual ~SockDiag() = default;
  // Those with both ends, TCP up to the last that may still send (not LAST_ACK, TIME_WAIT).
  // `storage`: what the socket storage map of that descriptor (BPF_MAP_TYPE_SK_STORAGE) holds of
  // the socket; empty: nothing. -1: is not asked.
  using Visit = std::function<void(const ConnectedSocket&, std::span<const std::uint8_t> storage)>;
  virtual Result<> each(L4Proto proto, int storage_fd, const Visit& visit) = 0;
  // False: it has ended by itself. kUnsupported: this kernel cannot.
  virtual Result<bool> destroy(const ConnectedSocket& socket) = 0;
};

// In that namespace; -1: the calling thread's own.
Result<std::unique_ptr<SockDiag>> open_sock_diag(int netns_fd = -1);

// Can this kernel end sockets? Ends none to find out. An error: that could not be found out.
Result<bool> can_destroy_sockets();

}  // namespace shoal::kernel
