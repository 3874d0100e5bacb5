// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/diag/sock_diag.h"

#include "netplane/kernel/rtnl/netlink_answers.h"
#include "netplane/kernel/rtnl/netns.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <optional>
#include <sys/socket.h>
#include <sys/time.h>

namespace shoal::kernel {
namespace {

constexpr timeval kTimeout{5, 0};
constexpr std::size_t kRequestBytes = 256;
static_assert(sizeof(inet_diag_sockid) == std::tuple_size_v<decltype(ConnectedSocket::id)>);

constexpr std::uint32_t bit(unsigned state) { return 1U << state; }
constexpr std::uint32_t kTcpStates = bit(TCP_ESTABLISHED) | bit(TCP_SYN_SENT) | bit(TCP_FIN_WAIT1) |
                                     bit(TCP_FIN_WAIT2) | bit(TCP_CLOSE_WAIT);
constexpr std::uint32_t kUdpStates = bit(TCP_ESTABLISHED);  // connect() was called

struct MnlCloser {
  void operator()(mnl_socket* socket) const { mnl_socket_close(socket); }
};

IpAddress address_of(std::uint8_t family, const std::uint32_t (&words)[4]) {
  IpAddress::Bytes raw{};
  if (family == AF_INET) {
    raw[10] = raw[11] = 0xff;  // an IPv4 address lies mapped
    std::memcpy(raw.data() + 12, words, 4);
  } else {
    std::memcpy(raw.data(), words, raw.size());
  }
  return IpAddress::from_bytes(raw);
}

void put_address(std::uint32_t (&words)[4], const IpAddress& ip) {
  if (ip.is_v4())
    std::memcpy(words, ip.bytes().data() + 12, 4);
  else
    std::memcpy(words, ip.bytes().data(), 16);
}

ConnectedSocket socket_of(L4Proto proto, const inet_diag_msg& message) {
  ConnectedSocket out;
  out.proto = proto;
  out.family = message.idiag_family;
  out.local = {address_of(message.idiag_family, message.id.idiag_src),
               ntohs(message.id.idiag_sport)};
  out.remote = {address_of(message.idiag_family, message.id.idiag_dst),
                ntohs(message.id.idiag_dport)};
  out.cookie =
      static_cast<std::uint64_t>(message.id.idiag_cookie[1]) << 32 | message.id.idiag_cookie[0];
  std::memcpy(out.id.data(), &message.id, sizeof(message.id));
  return out;
}

const nlattr* find_between(const void* from, const void* end, std::uint16_t type) {
  const auto* attribute = static_cast<const nlattr*>(from);
  const auto left = [&] {
    return static_cast<int>(static_cast<const char*>(end) -
                            reinterpret_cast<const char*>(attribute));
  };
  for (; mnl_attr_ok(attribute, left()); attribute = mnl_attr_next(attribute))
    if (mnl_attr_get_type(attribute) == type)
      return attribute;
  return nullptr;
}

const nlattr* find_in(const nlattr* nest, std::uint16_t type) {
  const void* from = mnl_attr_get_payload(nest);
  return find_between(from, static_cast<const char*>(from) + mnl_attr_get_payload_len(nest), type);
}

// One map was asked for, so there is one value at most.
std::span<const std::uint8_t> storage_of(const nlmsghdr* message) {
  const nlattr* found =
      find_between(mnl_nlmsg_get_payload_offset(message, sizeof(inet_diag_msg)),
                   mnl_nlmsg_get_payload_tail(message), INET_DIAG_SK_BPF_STORAGES);
  if (found)
    found = find_in(found, SK_DIAG_BPF_STORAGE);
  if (found)
    found = find_in(found, SK_DIAG_BPF_STORAGE_MAP_VALUE);
  if (!found)
    return {};
  return {static_cast<const std::uint8_t*>(mnl_attr_get_payload(found)),
          mnl_attr_get_payload_len(found)};
}

class KernelSockDiag final : public SockDiag {
public:
  using MnlPtr = std::unique_ptr<mnl_socket, MnlCloser>;
  explicit KernelSockDiag(MnlPtr socket) : socket_(std::move(socket)) {}

  Result<> each(L4Proto proto, int storage_fd, const Visit& visit) override {
    for (const std::uint8_t family : {AF_INET, AF_INET6})
      SHOAL_TRY(
          list(family, proto, proto == L4Proto::kTcp ? kTcpStates : kUdpStates, storage_fd, visit));
    return {};
  }
  // Of sockets in no state there are none. ENOENT: this kernel has no sock_diag for TCP.
  Result<> try_list() {
    return list(AF_INET, L4Proto::kTcp, 0, -1,
                [](const ConnectedSocket&, std::span<const std::uint8_t>) {});
  }

  Result<bool> destroy(const ConnectedSocket& socket) override {
    alignas(nlmsghdr) char buffer[kRequestBytes] = {};
    nlmsghdr* request =
        start(buffer, SOCK_DESTROY, NLM_F_ACK, socket.family, socket.proto, bit(TCP_ESTABLISHED));
    auto* asked = static_cast<inet_diag_req_v2*>(mnl_nlmsg_get_payload(request));
    std::memcpy(&asked->id, socket.id.data(), sizeof(asked->id));
    Result<> done = transact(request, [](const nlmsghdr*) {}, "close a socket");
    if (done)
      return true;
    if (done.error().sys_errno() == ENOENT)
      return false;
    if (done.error().sys_errno() == EOPNOTSUPP)
      return fail(std::move(done).error().with_code(Errc::kUnsupported));
    return fail(std::move(done).error());
  }

private:
  nlmsghdr* start(char* buffer, std::uint16_t type, int flags, std::uint8_t family, L4Proto proto,
                  std::uint32_t states) {
    nlmsghdr* request = mnl_nlmsg_put_header(buffer);
    request->nlmsg_type = type;
    request->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
    request->nlmsg_seq = ++sequence_;
    auto* asked = static_cast<inet_diag_req_v2*>(
        mnl_nlmsg_put_extra_header(request, sizeof(inet_diag_req_v2)));
    asked->sdiag_family = family;
    asked->sdiag_protocol = static_cast<std::uint8_t>(proto);
    asked->idiag_states = states;
    return request;
  }

  Result<> list(std::uint8_t family, L4Proto proto, std::uint32_t states, int storage_fd,
                const Visit& visit) {
    alignas(nlmsghdr) char buffer[kRequestBytes] = {};
    nlmsghdr* request = start(buffer, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, family, proto, states);
    if (storage_fd >= 0) {
      nlattr* storages = mnl_attr_nest_start(request, INET_DIAG_REQ_SK_BPF_STORAGES);
      mnl_attr_put_u32(request, SK_DIAG_BPF_STORAGE_REQ_MAP_FD,
                       static_cast<std::uint32_t>(storage_fd));
      mnl_attr_nest_end(request, storages);
    }
    return transact(
        request,
        [&](const nlmsghdr* message) {
          if (message->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
              mnl_nlmsg_get_payload_len(message) < sizeof(inet_diag_msg))
            return;
          const auto* found = static_cast<const inet_diag_msg*>(mnl_nlmsg_get_payload(message));
          if (found->id.idiag_dport != 0)
            visit(socket_of(proto, *found), storage_of(message));
        },
        "list sockets");
  }

  Result<> transact(const nlmsghdr* request, const std::function<void(const nlmsghdr*)>& each,
                    const char* what) {
    if (mnl_socket_sendto(socket_.get(), request, request->nlmsg_len) < 0)
      return fail_errno(what);
    return receive_answers(socket_.get(), sequence_, what, each);
  }

  MnlPtr socket_;
  std::uint32_t sequence_ = 0;
};

Result<std::unique_ptr<KernelSockDiag>> open_kernel(int netns_fd) {
  std::optional<NetnsScope> scope;
  if (netns_fd >= 0)
    scope.emplace(SHOAL_TRY(NetnsScope::enter(netns_fd)));
  KernelSockDiag::MnlPtr socket(mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC));
  if (!socket || mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0)
    return fail_errno("open sock_diag");
  if (::setsockopt(mnl_socket_get_fd(socket.get()), SOL_SOCKET, SO_RCVTIMEO, &kTimeout,
                   sizeof(kTimeout)) != 0)
    return fail_errno("set a receive timeout");
  return std::make_unique<KernelSockDiag>(std::move(socket));
}

}  // namespace

Result<std::unique_ptr<SockDiag>> open_sock_diag(int netns_fd) {
  return std::unique_ptr<SockDiag>(SHOAL_TRY(open_kernel(netns_fd)));
}

// Of a socket that cannot be: between two addresses of a network for documentation (RFC 5737).
Result<bool> can_destroy_sockets() {
  const auto diag = SHOAL_TRY(open_kernel(-1));
  if (Result<> listed = diag->try_list(); !listed) {
    if (listed.error().sys_errno() == ENOENT)
      return false;
    return fail(std::move(listed).error());
  }
  inet_diag_sockid id{};
  put_address(id.idiag_src, IpAddress::v4(0xc0000201));
  put_address(id.idiag_dst, IpAddress::v4(0xc0000202));
  id.idiag_sport = htons(1);
  id.idiag_dport = htons(1);
  id.idiag_cookie[0] = id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  ConnectedSocket nobody;
  nobody.family = AF_INET;
  std::memcpy(nobody.id.data(), &id, sizeof(id));
  const Result<bool> destroyed = diag->destroy(nobody);
  if (destroyed)
    return true;
  if (destroyed.error().code() == Errc::kUnsupported)
    return false;
  return fail(destroyed.error());
}

}  // namespace shoal::kernel
