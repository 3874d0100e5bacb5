// SPDX-License-Identifier: Apache-2.0
// The addresses of this host that node ports are served on.
#pragma once

#include "netplane/base/ip.h"

#include <string>
#include <string_view>
#include <vector>

namespace shoal::daemon {

struct HostAddress {
  std::string device;
  IpAddress ip;
  auto operator<=>(const HostAddress&) const = default;
};
// All IPv4 addresses of this network namespace, as the kernel has them now; and its IPv6 ones,
// those of one link only left out.
std::vector<HostAddress> list_host_addresses(bool ipv6);

// Those in `prefixes`; without prefixes those of the uplinks, and the underlay address in any case:
// it is how the other hosts know this one. Loopback is never among them: each pod has its own.
std::vector<IpAddress> node_port_addresses(const std::vector<HostAddress>& all,
                                           const std::vector<std::string>& uplinks,
                                           const IpAddress& underlay,
                                           const std::vector<IpPrefix>& prefixes);

}  // namespace shoal::daemon
