// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/rtnl/nl_socket.h"

#include "netplane/kernel/rtnl/netns.h"
#include "netplane/kernel/rtnl/rtnl.h"

#include <arpa/inet.h>
#include <cerrno>
#include <fmt/format.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netlink/errno.h>
#include <optional>
#include <string>
#include <sys/socket.h>
#include <sys/time.h>

#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif

namespace shoal::kernel {
namespace {

// Only an allocation can fail here, and attributes that exceed a message of our own making are a
// bug.
constexpr std::size_t kMessageBytes = 4096;
constexpr std::size_t kReceiveBytes = 65'536;

struct Verdict {
  std::uint32_t sequence = 0;
  std::optional<int> error;  // 0: acknowledged
  std::string text;
};

int on_sequence(nl_msg* message, void* argument) {
  const auto* verdict = static_cast<const Verdict*>(argument);
  // A late answer to a request that timed out is skipped.
  return nlmsg_hdr(message)->nlmsg_seq == verdict->sequence ? NL_OK : NL_SKIP;
}

int on_ack(nl_msg*, void* argument) {
  static_cast<Verdict*>(argument)->error = 0;
  return NL_STOP;
}

int on_error(sockaddr_nl*, nlmsgerr* error, void* argument) {
  auto* verdict = static_cast<Verdict*>(argument);
  verdict->error = -error->error;
  // With NETLINK_CAP_ACK the attributes follow the request's header at once.
  const auto* header =
      reinterpret_cast<const nlmsghdr*>(reinterpret_cast<const char*>(error) - NLMSG_HDRLEN);
  if (!(header->nlmsg_flags & NLM_F_ACK_TLVS))
    return NL_STOP;
  const auto* attributes = reinterpret_cast<const nlattr*>(error + 1);
  const int bytes =
      static_cast<int>(header->nlmsg_len) - NLMSG_HDRLEN - static_cast<int>(sizeof(*error));
  if (const nlattr* message = nla_find(attributes, bytes, NLMSGERR_ATTR_MSG))
    verdict->text.assign(nla_get_string(message),
                         strnlen(nla_get_string(message), nla_len(message)));
  return NL_STOP;
}

}  // namespace

Error nl_error(int error, std::string_view what) {
  const Errc code = -error == NLE_AGAIN ? Errc::kTimeout : Errc::kIo;
  return Error(code, fmt::format("{}: {}", what, nl_geterror(error)));
}

NlMessage::NlMessage(int type, int flags) : msg_(nlmsg_alloc_size(kMessageBytes)) {
  SHOAL_ASSERT(msg_ != nullptr);
  SHOAL_ASSERT(nlmsg_put(msg_.get(), NL_AUTO_PORT, NL_AUTO_SEQ, type, 0,
                         flags | NLM_F_REQUEST | NLM_F_ACK) != nullptr);
}

NlMessage& NlMessage::append(const void* data, std::size_t size) {
  SHOAL_ASSERT(nlmsg_append(msg_.get(), const_cast<void*>(data), size, NLMSG_ALIGNTO) == 0);
  return *this;
}

NlMessage& NlMessage::put(int attribute, const void* data, std::size_t size) {
  SHOAL_ASSERT(nla_put(msg_.get(), attribute, static_cast<int>(size), data) == 0);
  return *this;
}

NlMessage& NlMessage::be16(int attribute, std::uint16_t value) {
  const std::uint16_t network_order = htons(value);
  return put(attribute, &network_order, sizeof(network_order));
}

NlMessage& NlMessage::text(int attribute, std::string_view value) {
  const std::string terminated(value);
  return put(attribute, terminated.c_str(), terminated.size() + 1);
}

NlMessage& NlMessage::mac(int attribute, const MacAddress& value) {
  return put(attribute, value.bytes().data(), value.bytes().size());
}

NlMessage& NlMessage::ip(int attribute, const IpAddress& value) {
  return value.is_v4() ? put(attribute, value.bytes().data() + 12, 4)
                       : put(attribute, value.bytes().data(), 16);
}

nlattr* NlMessage::begin(int attribute) {
  nlattr* nest = nla_nest_start(msg_.get(), attribute);
  SHOAL_ASSERT(nest != nullptr);
  return nest;
}

void NlMessage::end(nlattr* nest) { nla_nest_end(msg_.get(), nest); }

Result<NlSocket> NlSocket::open(int netns_fd, int group) {
  std::optional<NetnsScope> scope;
  if (netns_fd >= 0)
    scope.emplace(SHOAL_TRY(NetnsScope::enter(netns_fd)));
  NlSockPtr sock(nl_socket_alloc());
  if (!sock)
    return fail(Errc::kExhausted, "open rtnetlink: out of memory");
  if (const int error = nl_connect(sock.get(), NETLINK_ROUTE); error < 0)
    return fail(nl_error(error, "open rtnetlink"));
  // A buffer that holds what the kernel puts into one message of a dump, instead of a look at each
  // first.
  nl_socket_disable_msg_peek(sock.get());
  if (const int error = nl_socket_set_msg_buf_size(sock.get(), kReceiveBytes); error < 0)
    return fail(nl_error(error, "rtnetlink receive buffer"));
  const int fd = nl_socket_get_fd(sock.get());
  const timeval timeout{kRtnlTimeout.count() / 1000, (kRtnlTimeout.count() % 1000) * 1000};
  const int on = 1;
  if (::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) != 0)
    return fail_errno("rtnetlink receive timeout");
  // Both are for better messages only: a kernel without them still works.
  ::setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
  ::setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
  if (group != 0)
    if (const int error = nl_socket_add_membership(sock.get(), group); error < 0)
      return fail(nl_error(error, "listen to rtnetlink notifications"));
  return NlSocket(std::move(sock));
}

Result<> NlSocket::transact(const NlMessage& message) {
  Verdict verdict;
  if (const int error = nl_send_auto(sock_.get(), message.get()); error < 0)
    return fail(nl_error(error, "send to rtnetlink"));
  verdict.sequence = nlmsg_hdr(message.get())->nlmsg_seq;
  NlCbPtr callbacks(nl_cb_alloc(NL_CB_DEFAULT));
  SHOAL_ASSERT(callbacks != nullptr);
  nl_cb_set(callbacks.get(), NL_CB_SEQ_CHECK, NL_CB_CUSTOM, on_sequence, &verdict);
  nl_cb_set(callbacks.get(), NL_CB_ACK, NL_CB_CUSTOM, on_ack, &verdict);
  nl_cb_err(callbacks.get(), NL_CB_CUSTOM, on_error, &verdict);
  while (!verdict.error)
    if (const int error = nl_recvmsgs(sock_.get(), callbacks.get()); error < 0 && !verdict.error)
      return fail(nl_error(error, "wait for rtnetlink"));
  if (*verdict.error == 0)
    return {};
  Error refused = Error::from_errno(*verdict.error, "kernel");
  if (!verdict.text.empty())
    refused = Error(refused.code(), fmt::format("{} ({})", refused.message(), verdict.text),
                    refused.sys_errno());
  return fail(std::move(refused));
}

Result<> NlSocket::dump(const NlMessage& message, const std::function<void(nlmsghdr*)>& each) {
  if (const int error = nl_send_auto(sock_.get(), message.get()); error < 0)
    return fail(nl_error(error, "send to rtnetlink"));
  struct Reader {
    const std::function<void(nlmsghdr*)>& each;
    std::uint32_t sequence;
  } reader{each, nlmsg_hdr(message.get())->nlmsg_seq};
  const NlCbPtr callbacks(nl_cb_alloc(NL_CB_DEFAULT));
  SHOAL_ASSERT(callbacks != nullptr);
  nl_cb_set(
      callbacks.get(), NL_CB_SEQ_CHECK, NL_CB_CUSTOM, [](nl_msg*, void*) { return int{NL_OK}; },
      nullptr);
  nl_cb_set(
      callbacks.get(), NL_CB_VALID, NL_CB_CUSTOM,
      [](nl_msg* answer, void* argument) {
        const auto& to = *static_cast<Reader*>(argument);
        if (nlmsg_hdr(answer)->nlmsg_seq == to.sequence)
          to.each(nlmsg_hdr(answer));
        return int{NL_OK};
      },
      &reader);
  if (const int error = nl_recvmsgs(sock_.get(), callbacks.get()); error < 0)
    return fail(nl_error(error, "read from rtnetlink"));
  return {};
}

}  // namespace shoal::kernel
