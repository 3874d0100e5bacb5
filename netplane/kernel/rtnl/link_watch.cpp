// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/rtnl/link_watch.h"

#include "netplane/kernel/rtnl/netns.h"
#include "netplane/kernel/rtnl/pod_net.h"
#include "netplane/kernel/rtnl/rtnl.h"

#include <cerrno>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <optional>
#include <sys/socket.h>

namespace shoal::kernel {
namespace {

constexpr std::size_t kReceiveBytes = 16'384;
constexpr int kReadsMax = 64;  // in one call; more come with the next one

constexpr Stir kAll{.uplinks = true, .routes = true};

Stir by_route(nlmsghdr* message) {
  const auto* route = static_cast<const rtmsg*>(nlmsg_data(message));
  // Each link has some of the kernel's own in the table `local`.
  if (route->rtm_table != RT_TABLE_MAIN)
    return {};
  nlattr* parts[RTA_MAX + 1] = {};
  if (nlmsg_parse(message, sizeof(*route), parts, RTA_MAX, nullptr) < 0)
    return kAll;
  const bool by_gateway =
      parts[RTA_GATEWAY] != nullptr || parts[RTA_VIA] != nullptr || parts[RTA_MULTIPATH] != nullptr;
  if (route->rtm_protocol == kRouteProtocolShoal)
    return {.routes = message->nlmsg_type == RTM_DELROUTE && by_gateway};
  return {.uplinks = route->rtm_dst_len == 0 || !by_gateway};
}

Stir by_message(nlmsghdr* message) {
  switch (message->nlmsg_type) {
  case RTM_NEWLINK:
  case RTM_DELLINK: {
    nlattr* parts[IFLA_MAX + 1] = {};
    const bool pods = nlmsg_parse(message, sizeof(ifinfomsg), parts, IFLA_MAX, nullptr) >= 0 &&
                      parts[IFLA_GROUP] != nullptr &&
                      nla_get_u32(parts[IFLA_GROUP]) == kPodLinkGroup;
    return pods ? Stir() : kAll;
  }
  case RTM_NEWADDR:
  case RTM_DELADDR:
    return kAll;
  case RTM_NEWROUTE:
  case RTM_DELROUTE:
    return by_route(message);
  default:
    return {};
  }
}

}  // namespace

Result<LinkWatch> LinkWatch::open(int netns_fd) {
  std::optional<NetnsScope> scope;
  if (netns_fd >= 0)
    scope.emplace(SHOAL_TRY(NetnsScope::enter(netns_fd)));
  UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups =
      RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE;
  if (!fd || ::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0)
    return fail_errno("listen to rtnetlink notifications");
  return LinkWatch(std::move(fd));
}

Stir LinkWatch::stirred() {
  alignas(nlmsghdr) char buffer[kReceiveBytes];
  Stir said;
  for (int reads = 0; reads < kReadsMax; reads++) {
    const ssize_t n = ::recv(socket_.get(), buffer, sizeof(buffer), 0);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0 && errno == ENOBUFS) {
      said = kAll;
      continue;
    }
    if (n <= 0)
      break;
    int left = static_cast<int>(n);
    for (auto* message = reinterpret_cast<nlmsghdr*>(buffer); nlmsg_ok(message, left);
         message = nlmsg_next(message, &left))
      said |= by_message(message);
  }
  return said;
}

}  // namespace shoal::kernel
