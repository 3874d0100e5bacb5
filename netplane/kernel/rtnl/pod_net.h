// SPDX-License-Identifier: Apache-2.0
// pod_net: the wire between a pod's network namespace and its host.
//
//   pod's namespace                          host's namespace
//   lo, up
//   eth0  10.244.1.7/32  --- veth ---  shl1a2b3c4d   no address
//   169.254.1.1 dev eth0 scope link          10.244.1.7 dev shl1a2b3c4d scope link
//   default via 169.254.1.1 mtu M            neighbour 10.244.1.7 at the pod's MAC, permanent
//   neighbour 169.254.1.1 at the host
//   end's MAC, permanent
// and with an IPv6 address:
//        fd10:244:0:1::7/128                 fd10:244:0:1::7 dev shl1a2b3c4d
//   default via fe80::1 mtu M                neighbour fd10:244:0:1::7 at the pod's MAC, permanent
//   neighbour fe80::1 as above
//
// Nobody sends ARP or neighbour solicitations: both ends know each other's MAC for good. Neither
// has a link-local address, and routers are not listened to. The MACs follow from the pod's uid, so
// that a second attach finds what the first one made.
//
// attach_pod may be repeated and mends what is missing. When it fails, what this call made is gone
// again; what was there before is left. Duration: about 1 ms, most of it in the kernel's link
// registration.
#pragma once

#include "netplane/kernel/rtnl/rtnl.h"

#include <string>
#include <string_view>
#include <vector>

namespace shoal::kernel {

inline constexpr std::string_view kPodLinkPrefix =
    "shl";  // then 8 hex digits of the pod's uid, hashed
inline constexpr std::string_view kPodInterface = "eth0";
inline constexpr std::uint32_t kPodLinkGroup = 0x73686c;  // `ip link show group 7563372`
IpAddress pod_gateway(IpFamily family);                   // 169.254.1.1, fe80::1

struct PodNetSpec {
  std::string host_link;       // name of the host's end
  std::vector<IpAddress> ips;  // at most one of each family
  MacAddress pod_mac;
  MacAddress host_mac;
  std::uint32_t mtu = 1450;
  auto operator<=>(const PodNetSpec&) const = default;
};

// Names and MACs from the uid.
std::string pod_link_name(std::string_view uid);
PodNetSpec make_pod_net_spec(std::string_view uid, std::vector<IpAddress> ips, std::uint32_t mtu);

struct AttachedPod {
  std::uint32_t host_ifindex = 0;
  std::uint32_t pod_ifindex = 0;
  MacAddress host_mac;
  MacAddress pod_mac;
  auto operator<=>(const AttachedPod&) const = default;
};

Result<AttachedPod> attach_pod(Rtnl& host, Rtnl& pod, const PodNetSpec& spec);

// Removes the pair by the host's end; routes and neighbours go with it. A pair that is not there is
// success: the namespace may have died first and taken it along.
Result<> detach_pod(Rtnl& host, std::string_view host_link);

// The host ends that are there, for the sweep at start: those whose name is in no running pod's
// spec are left over.
Result<std::vector<Link>> pod_links(Rtnl& host);

// The VXLAN device as given, up: made when it is not there or is another's, mended otherwise. A
// device of the same name and MAC keeps its index, so that attached programs stay. ipv6: it carries
// that, too.
Result<Link> ensure_overlay(Rtnl& host, const VxlanSpec& spec, bool ipv6 = false);

// What the host needs once for all pods: IPv4 forwarding on, rp_filter loose enough for the uplinks
// and the tunnel. ipv6: forwarding of that, too; links that learn addresses and routes from router
// advertisements go on doing so.
Result<> prepare_host(Rtnl& host, const std::vector<Uplink>& uplinks, bool ipv6 = false);

}  // namespace shoal::kernel
