// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/host_addresses.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cstring>
#include <ifaddrs.h>
#include <memory>
#include <netinet/in.h>
#include <optional>
#include <set>

namespace shoal::daemon {

namespace {

std::optional<IpAddress> ip_of(const sockaddr* address) {
  if (address == nullptr)
    return std::nullopt;
  if (address->sa_family == AF_INET) {
    in_addr four;
    std::memcpy(&four, &reinterpret_cast<const sockaddr_in*>(address)->sin_addr, sizeof(four));
    return IpAddress::v4(ntohl(four.s_addr));
  }
  if (address->sa_family != AF_INET6)
    return std::nullopt;
  IpAddress::Bytes bytes;
  std::memcpy(bytes.data(), &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr,
              bytes.size());
  return IpAddress::from_bytes(bytes);
}

}  // namespace

std::vector<HostAddress> list_host_addresses(bool ipv6) {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0)
    return {};
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> held(list, ::freeifaddrs);
  std::vector<HostAddress> out;
  for (const ifaddrs* entry = list; entry; entry = entry->ifa_next)
    if (const auto ip = ip_of(entry->ifa_addr);
        ip && (ip->is_v4() || (ipv6 && !ip->is_link_local())))
      out.push_back({entry->ifa_name, *ip});
  return out;
}

std::vector<IpAddress> node_port_addresses(const std::vector<HostAddress>& all,
                                           const std::vector<std::string>& uplinks,
                                           const IpAddress& underlay,
                                           const std::vector<IpPrefix>& prefixes) {
  std::set<IpAddress> out;
  if (prefixes.empty())
    out.insert(underlay);
  for (const HostAddress& address : all) {
    const bool wanted =
        prefixes.empty() ? std::ranges::find(uplinks, address.device) != uplinks.end()
                         : std::any_of(prefixes.begin(), prefixes.end(),
                                       [&](const IpPrefix& p) { return p.contains(address.ip); });
    if (wanted && !address.ip.is_loopback())
      out.insert(address.ip);
  }
  return {out.begin(), out.end()};
}

}  // namespace shoal::daemon
