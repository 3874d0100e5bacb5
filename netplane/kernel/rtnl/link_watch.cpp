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

bool matters(nlmsghdr* message) {
  switch (message->nlmsg_type) {
  case RTM_NEWLINK:
  case RTM_DELLINK: {
    nlattr* parts[IFLA_MAX + 1] = {};
    return nlmsg_parse(message, sizeof(ifinfomsg), parts, IFLA_MAX, nullptr) < 0 ||
           parts[IFLA_GROUP] == nullptr || nla_get_u32(parts[IFLA_GROUP]) != kPodLinkGroup;
  }
  case RTM_NEWROUTE:
  case RTM_DELROUTE: {
    // Each link has some of the kernel's own in the table `local`.
    const auto* route = static_cast<const rtmsg*>(nlmsg_data(message));
    return route->rtm_protocol != kRouteProtocolShoal && route->rtm_table == RT_TABLE_MAIN;
  }
  default:
    return message->nlmsg_type == RTM_NEWADDR || message->nlmsg_type == RTM_DELADDR;
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

bool LinkWatch::stirred() {
  alignas(nlmsghdr) char buffer[kReceiveBytes];
  bool any = false;
  for (int reads = 0; reads < kReadsMax; reads++) {
    const ssize_t n = ::recv(socket_.get(), buffer, sizeof(buffer), 0);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0 && errno == ENOBUFS) {
      any = true;
      continue;
    }
    if (n <= 0)
      break;
    int left = static_cast<int>(n);
    for (auto* message = reinterpret_cast<nlmsghdr*>(buffer); nlmsg_ok(message, left);
         message = nlmsg_next(message, &left))
      any = any || matters(message);
  }
  return any;
}

}  // namespace shoal::kernel
