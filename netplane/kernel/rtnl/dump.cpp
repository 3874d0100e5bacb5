// SPDX-License-Identifier: Apache-2.0
// The network of a namespace as sorted text.
#include "netplane/kernel/rtnl/rtnl.h"

#include <algorithm>
#include <fmt/format.h>
#include <map>

namespace shoal::kernel {
namespace {

using Names = std::map<std::uint32_t, std::string>;

std::string name_of(const Names& names, std::uint32_t index) {
  const auto found = names.find(index);
  return found == names.end() ? fmt::format("if{}", index) : found->second;
}

std::string line_of(const Link& link) {
  return fmt::format("link {}{}{} mac {} mtu {} {}{}", link.name, link.kind.empty() ? "" : " kind ",
                     link.kind, link.mac.to_string(), link.mtu, link.up ? "up" : "down",
                     link.group == 0 ? "" : fmt::format(" group {}", link.group));
}

std::string line_of(const Names& names, const Route& route) {
  std::string line = fmt::format("route {}", route.destination.to_string());
  if (route.encap)
    line += fmt::format(" encap ip id {} dst {}", route.encap->id, route.encap->remote.to_string());
  if (route.gateway)
    line += " via " + route.gateway->to_string();
  line += " dev " + name_of(names, route.link);
  if (route.onlink)
    line += " onlink";
  if (route.source)
    line += " src " + route.source->to_string();
  line += fmt::format(" scope {}", to_string(route.scope));
  if (route.mtu != 0)
    line += fmt::format(" mtu {}", route.mtu);
  if (route.metric != 0)
    line += fmt::format(" metric {}", route.metric);
  if (route.table != 254)
    line += fmt::format(" table {}", route.table);
  return line + fmt::format(" proto {}", route.protocol);
}

}  // namespace

Result<std::string> dump_network(Rtnl& rtnl) {
  std::vector<std::string> lines;
  Names names;
  for (const Link& link : SHOAL_TRY(rtnl.links())) {
    names[link.index] = link.name;
    lines.push_back(line_of(link));
  }
  for (const LinkAddress& address : SHOAL_TRY(rtnl.addresses()))
    lines.push_back(fmt::format("address {}/{} dev {} scope {}", address.ip.to_string(),
                                address.prefix_length, name_of(names, address.link),
                                to_string(address.scope)));
  for (const Family family : {Family::kV4, Family::kV6})
    for (const Route& route : SHOAL_TRY(rtnl.routes(family)))
      lines.push_back(line_of(names, route));
  for (const Neighbour& neighbour : SHOAL_TRY(rtnl.neighbours()))
    lines.push_back(fmt::format("neighbour {} dev {} mac {}{}", neighbour.ip.to_string(),
                                name_of(names, neighbour.link), neighbour.mac.to_string(),
                                neighbour.permanent ? " permanent" : ""));
  for (const Proxy& proxy : SHOAL_TRY(rtnl.proxies()))
    lines.push_back(
        fmt::format("proxy {} dev {}", proxy.ip.to_string(), name_of(names, proxy.link)));
  std::ranges::sort(lines);
  std::string text;
  for (const std::string& line : lines)
    text += line + "\n";
  return text;
}

}  // namespace shoal::kernel
