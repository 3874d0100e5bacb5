// SPDX-License-Identifier: Apache-2.0
// NlSocket: one rtnetlink socket in one network namespace, and the owners of libnl's objects.
// Private to rtnl/.
//
// A request is built with NlMessage and sent by transact(), which waits for the kernel's verdict
// and turns a refusal into an Error with errno and the extended-ack text ("Device is in use by
// another master").
#pragma once

#include "netplane/base/ip.h"
#include "netplane/base/result.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <netlink/attr.h>
#include <netlink/cache.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <string_view>
#include <type_traits>

namespace shoal::kernel {

template <auto Free>
struct Freer {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};
using NlSockPtr = std::unique_ptr<nl_sock, Freer<nl_socket_free>>;
using NlMsgPtr = std::unique_ptr<nl_msg, Freer<nlmsg_free>>;
using NlCachePtr = std::unique_ptr<nl_cache, Freer<nl_cache_free>>;
using NlCbPtr = std::unique_ptr<nl_cb, Freer<nl_cb_put>>;

// libnl's own error number (negative) as an Error.
Error nl_error(int error, std::string_view what);

class NlMessage {
public:
  NlMessage(int type, int flags);  // NLM_F_REQUEST and NLM_F_ACK are added

  template <class Header>
  NlMessage& header(const Header& value) {
    static_assert(std::is_trivially_copyable_v<Header>);
    return append(&value, sizeof(value));
  }
  NlMessage& put(int attribute, const void* data, std::size_t size);
  NlMessage& u8(int attribute, std::uint8_t value) { return put(attribute, &value, sizeof(value)); }
  NlMessage& u16(int attribute, std::uint16_t value) {
    return put(attribute, &value, sizeof(value));
  }
  NlMessage& u32(int attribute, std::uint32_t value) {
    return put(attribute, &value, sizeof(value));
  }
  NlMessage& be16(int attribute, std::uint16_t value);
  NlMessage& text(int attribute, std::string_view value);  // with its terminating zero
  NlMessage& mac(int attribute, const MacAddress& value);
  NlMessage& ip(int attribute, const IpAddress& value);  // 4 or 16 bytes
  nlattr* begin(int attribute);
  void end(nlattr* nest);

  nl_msg* get() const { return msg_.get(); }

private:
  NlMessage& append(const void* data, std::size_t size);
  NlMsgPtr msg_;
};

class NlSocket {
public:
  // group 0: none; otherwise an RTNLGRP_* to listen to.
  static Result<NlSocket> open(int netns_fd, int group = 0);

  Result<> transact(const NlMessage& message);
  // A dump, message by message.
  Result<> dump(const NlMessage& message, const std::function<void(nlmsghdr*)>& each);
  nl_sock* get() const { return sock_.get(); }
  int fd() const { return nl_socket_get_fd(sock_.get()); }

private:
  explicit NlSocket(NlSockPtr sock) : sock_(std::move(sock)) {}
  NlSockPtr sock_;
};

}  // namespace shoal::kernel
