// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/nft/conntrack.h"

#include "netplane/kernel/nft/nft_batch.h"
#include "netplane/kernel/rtnl/netlink_answers.h"
#include "netplane/kernel/rtnl/netns.h"

#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <optional>
#include <sys/socket.h>
#include <sys/time.h>
#include <vector>

namespace shoal::kernel {
namespace {

constexpr timeval kTimeout{5, 0};
constexpr std::size_t kRequestBytes = 512;

// Attributes by type; nullptr where there is none.
using Attributes = std::vector<const nlattr*>;

int note_attribute(const nlattr* attribute, void* to) {
  auto& out = *static_cast<Attributes*>(to);
  if (mnl_attr_get_type(attribute) < out.size())
    out[mnl_attr_get_type(attribute)] = attribute;
  return MNL_CB_OK;
}

Attributes nested(const nlattr* parent, std::uint16_t max) {
  Attributes out(max + 1U, nullptr);
  mnl_attr_parse_nested(parent, note_attribute, &out);
  return out;
}

struct Tuple {
  L4Proto proto = L4Proto::kTcp;
  SocketAddress source;
  SocketAddress destination;
};

std::optional<IpAddress> ip_of(const nlattr* v4, const nlattr* v6) {
  const nlattr* attribute = v4 != nullptr ? v4 : v6;
  const std::size_t size = v4 != nullptr ? 4 : 16;
  if (attribute == nullptr || mnl_attr_get_payload_len(attribute) != size)
    return std::nullopt;
  IpAddress::Bytes raw{};
  if (v4 != nullptr)
    raw[10] = raw[11] = 0xff;  // an IPv4 address lies mapped
  std::memcpy(raw.data() + raw.size() - size, mnl_attr_get_payload(attribute), size);
  return IpAddress::from_bytes(raw);
}

// Nothing for other protocols than TCP and UDP.
std::optional<Tuple> tuple_of(const nlattr* attribute) {
  if (attribute == nullptr)
    return std::nullopt;
  const Attributes tuple = nested(attribute, CTA_TUPLE_MAX);
  if (tuple[CTA_TUPLE_IP] == nullptr || tuple[CTA_TUPLE_PROTO] == nullptr)
    return std::nullopt;
  const Attributes ip = nested(tuple[CTA_TUPLE_IP], CTA_IP_MAX);
  const Attributes proto = nested(tuple[CTA_TUPLE_PROTO], CTA_PROTO_MAX);
  const auto source = ip_of(ip[CTA_IP_V4_SRC], ip[CTA_IP_V6_SRC]);
  const auto destination = ip_of(ip[CTA_IP_V4_DST], ip[CTA_IP_V6_DST]);
  if (!source || !destination || proto[CTA_PROTO_NUM] == nullptr ||
      proto[CTA_PROTO_SRC_PORT] == nullptr || proto[CTA_PROTO_DST_PORT] == nullptr)
    return std::nullopt;
  const std::uint8_t number = mnl_attr_get_u8(proto[CTA_PROTO_NUM]);
  if (number != IPPROTO_TCP && number != IPPROTO_UDP)
    return std::nullopt;
  return Tuple{static_cast<L4Proto>(number),
               {*source, ntohs(mnl_attr_get_u16(proto[CTA_PROTO_SRC_PORT]))},
               {*destination, ntohs(mnl_attr_get_u16(proto[CTA_PROTO_DST_PORT]))}};
}

// What netfilter knows of a TCP connection: there is nothing to be said of it any more.
bool is_over(const nlattr* protoinfo) {
  if (protoinfo == nullptr)
    return false;
  const nlattr* tcp = nested(protoinfo, CTA_PROTOINFO_MAX)[CTA_PROTOINFO_TCP];
  if (tcp == nullptr)
    return false;
  const nlattr* state = nested(tcp, CTA_PROTOINFO_TCP_MAX)[CTA_PROTOINFO_TCP_STATE];
  if (state == nullptr)
    return false;
  const std::uint8_t is = mnl_attr_get_u8(state);
  return is == TCP_CONNTRACK_NONE || is == TCP_CONNTRACK_LAST_ACK ||
         is == TCP_CONNTRACK_TIME_WAIT || is == TCP_CONNTRACK_CLOSE;
}

nlmsghdr* start_request(char* buffer, std::uint16_t type, std::uint16_t flags,
                        std::uint8_t family) {
  nlmsghdr* message = mnl_nlmsg_put_header(buffer);
  message->nlmsg_type = static_cast<std::uint16_t>(NFNL_SUBSYS_CTNETLINK << 8 | type);
  message->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
  auto* header = static_cast<nfgenmsg*>(mnl_nlmsg_put_extra_header(message, sizeof(nfgenmsg)));
  header->nfgen_family = family;
  header->version = NFNETLINK_V0;
  return message;
}

void put_ip(nlmsghdr* message, const IpAddress& ip, std::uint16_t v4, std::uint16_t v6) {
  if (ip.is_v4())
    mnl_attr_put(message, v4, 4, ip.bytes().data() + 12);
  else
    mnl_attr_put(message, v6, 16, ip.bytes().data());
}

void put_tuple(nlmsghdr* message, const Tuple& tuple) {
  nlattr* outer = mnl_attr_nest_start(message, CTA_TUPLE_ORIG);
  nlattr* ip = mnl_attr_nest_start(message, CTA_TUPLE_IP);
  put_ip(message, tuple.source.ip, CTA_IP_V4_SRC, CTA_IP_V6_SRC);
  put_ip(message, tuple.destination.ip, CTA_IP_V4_DST, CTA_IP_V6_DST);
  mnl_attr_nest_end(message, ip);
  nlattr* proto = mnl_attr_nest_start(message, CTA_TUPLE_PROTO);
  mnl_attr_put_u8(message, CTA_PROTO_NUM, static_cast<std::uint8_t>(tuple.proto));
  mnl_attr_put_u16(message, CTA_PROTO_SRC_PORT, htons(tuple.source.port));
  mnl_attr_put_u16(message, CTA_PROTO_DST_PORT, htons(tuple.destination.port));
  mnl_attr_nest_end(message, proto);
  mnl_attr_nest_end(message, outer);
}

class KernelConntrack final : public Conntrack {
public:
  using MnlPtr = std::unique_ptr<mnl_socket, NftFreer<mnl_socket_close>>;
  explicit KernelConntrack(MnlPtr socket) : socket_(std::move(socket)) {}

  Result<> each(const std::function<void(const TrackedFlow&)>& visit) override {
    for (const std::uint8_t family : {AF_INET, AF_INET6})
      SHOAL_TRY(list(family, visit));
    return {};
  }

  Result<> forget(const TrackedFlow& flow) override {
    return forget(Tuple{flow.proto, flow.source, flow.destination});
  }

  Result<std::size_t> forget_udp(const std::function<bool(const UdpFlow&)>& stale) override {
    std::vector<TrackedFlow> found;
    SHOAL_TRY(each([&](const TrackedFlow& flow) {
      if (flow.proto == L4Proto::kUdp && stale({flow.source, flow.destination, flow.reply_source}))
        found.push_back(flow);
    }));
    for (const TrackedFlow& flow : found)
      SHOAL_TRY(forget(flow));
    return found.size();
  }

private:
  Result<> list(std::uint8_t family, const std::function<void(const TrackedFlow&)>& visit) {
    alignas(nlmsghdr) char buffer[kRequestBytes] = {};
    nlmsghdr* request = start_request(buffer, IPCTNL_MSG_CT_GET, NLM_F_DUMP, family);
    request->nlmsg_seq = ++sequence_;
    if (mnl_socket_sendto(socket_.get(), request, request->nlmsg_len) < 0)
      return fail_errno("list connections");
    return receive_answers(
        socket_.get(), sequence_, "list connections", [&](const nlmsghdr* message) {
          Attributes parts(CTA_MAX + 1U, nullptr);
          mnl_attr_parse(message, sizeof(nfgenmsg), note_attribute, &parts);
          const auto original = tuple_of(parts[CTA_TUPLE_ORIG]);
          const auto reply = tuple_of(parts[CTA_TUPLE_REPLY]);
          if (original && reply && parts[CTA_ZONE] == nullptr)
            visit({original->proto, original->source, original->destination, reply->source,
                   reply->destination, is_over(parts[CTA_PROTOINFO])});
        });
  }

  Result<> forget(const Tuple& tuple) {
    alignas(nlmsghdr) char buffer[kRequestBytes] = {};
    nlmsghdr* request = start_request(buffer, IPCTNL_MSG_CT_DELETE, NLM_F_ACK,
                                      tuple.source.ip.is_v4() ? AF_INET : AF_INET6);
    request->nlmsg_seq = ++sequence_;
    put_tuple(request, tuple);
    if (mnl_socket_sendto(socket_.get(), request, request->nlmsg_len) < 0)
      return fail_errno("forget a connection");
    Result<> done =
        receive_answers(socket_.get(), sequence_, "forget a connection", [](const nlmsghdr*) {});
    if (!done && done.error().sys_errno() == ENOENT)
      return {};  // it has ended by itself
    return done;
  }

  MnlPtr socket_;
  std::uint32_t sequence_ = 0;
};

}  // namespace

Result<std::unique_ptr<Conntrack>> open_conntrack(int netns_fd) {
  std::optional<NetnsScope> scope;
  if (netns_fd >= 0)
    scope.emplace(SHOAL_TRY(NetnsScope::enter(netns_fd)));
  KernelConntrack::MnlPtr socket(mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC));
  if (!socket || mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0)
    return fail_errno("open ctnetlink");
  if (::setsockopt(mnl_socket_get_fd(socket.get()), SOL_SOCKET, SO_RCVTIMEO, &kTimeout,
                   sizeof(kTimeout)) != 0)
    return fail_errno("set a receive timeout");
  return std::make_unique<KernelConntrack>(std::move(socket));
}

}  // namespace shoal::kernel
