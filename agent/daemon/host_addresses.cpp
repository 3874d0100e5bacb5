// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/host_addresses.h"

#include <algorithm>
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <memory>
#include <netinet/in.h>
#include <set>

namespace shoal::daemon {

std::vector<HostAddress> list_host_addresses() {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0)
    return {};
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> held(list, ::freeifaddrs);
  std::vector<HostAddress> out;
  for (const ifaddrs* entry = list; entry; entry = entry->ifa_next) {
    if (!entry->ifa_addr || entry->ifa_addr->sa_family != AF_INET)
      continue;
    char text[INET_ADDRSTRLEN] = {};
    const auto* address = reinterpret_cast<const sockaddr_in*>(entry->ifa_addr);
    ::inet_ntop(AF_INET, &address->sin_addr, text, sizeof(text));
    if (const auto ip = IpAddress::parse(text))
      out.push_back({entry->ifa_name, *ip});
  }
  return out;
}

std::vector<IpAddress> node_port_addresses(const std::vector<HostAddress>& all,
                                           std::string_view uplink, const IpAddress& underlay,
                                           const std::vector<IpPrefix>& prefixes) {
  std::set<IpAddress> out;
  if (prefixes.empty())
    out.insert(underlay);
  for (const HostAddress& address : all) {
    const bool wanted =
        prefixes.empty() ? address.device == uplink
                         : std::any_of(prefixes.begin(), prefixes.end(),
                                       [&](const IpPrefix& p) { return p.contains(address.ip); });
    if (wanted && !address.ip.is_loopback())
      out.insert(address.ip);
  }
  return {out.begin(), out.end()};
}

}  // namespace shoal::daemon
