// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/rtnl/pod_net.h"
#include "netplane/kernel/rtnl/rtnl.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::kernel {
namespace {

const Link* by_index(const std::vector<Link>& links, std::uint32_t index) {
  const auto found = std::ranges::find(links, index, &Link::index);
  return found == links.end() ? nullptr : &*found;
}

const Route* default_route(const std::vector<Route>& routes) {
  const Route* best = nullptr;
  for (const Route& route : routes)
    if (route.destination.length() == 0 && route.destination.is_v4() && route.table == 254 &&
        (best == nullptr || route.metric < best->metric))
      best = &route;
  return best;
}

bool is_loopback(const Link& link) { return link.name == "lo"; }

// Pods' links and overlays, ours and others': there from the agent's first run on.
bool leads_inward(const Link& link) { return link.group == kPodLinkGroup || link.kind == "vxlan"; }

std::string names_of(const std::vector<Link>& links) {
  std::string names;
  for (const Link& link : links)
    if (!is_loopback(link))
      names += (names.empty() ? "" : ", ") + link.name;
  return names.empty() ? "none" : names;
}

Result<const Link*> choose_link(const std::vector<Link>& links,
                                const std::vector<LinkAddress>& addresses, const Route* leading,
                                std::string_view wanted, std::optional<IpAddress> underlay) {
  if (!wanted.empty()) {
    const auto found = std::ranges::find(links, wanted, &Link::name);
    if (found == links.end())
      return fail(Errc::kNotFound, fmt::format("uplink {}: there is no such link; there is: {}",
                                               wanted, names_of(links)));
    return &*found;
  }
  if (underlay) {
    const auto found = std::ranges::find(addresses, *underlay, &LinkAddress::ip);
    if (found == addresses.end())
      return fail(Errc::kNotFound, fmt::format("uplink: no link has the address {}; give this host "
                                               "the address or change it in the config",
                                               underlay->to_string()));
    if (const Link* link = by_index(links, found->link))
      return link;
  }
  if (leading != nullptr)
    if (const Link* link = by_index(links, leading->link))
      return link;
  const Link* only = nullptr;
  std::size_t candidates = 0;
  for (const Link& link : links)
    if (link.up && !is_loopback(link) && !leads_inward(link)) {
      only = &link;
      ++candidates;
    }
  if (candidates == 1)
    return only;
  return fail(Errc::kNotFound,
              fmt::format("uplink: no default route, and {} links are up; name one in the config, "
                          "of: {}",
                          candidates, names_of(links)));
}

}  // namespace

std::string_view to_string(Scope scope) {
  switch (scope) {
  case Scope::kGlobal:
    return "global";
  case Scope::kLink:
    return "link";
  case Scope::kHost:
    return "host";
  }
  return "?";
}

Result<Uplink> choose_uplink(const std::vector<Link>& links,
                             const std::vector<LinkAddress>& addresses,
                             const std::vector<Route>& routes, std::string_view wanted_name,
                             std::optional<IpAddress> underlay) {
  const Route* leading = default_route(routes);
  const Link* link = SHOAL_TRY(choose_link(links, addresses, leading, wanted_name, underlay));
  Uplink uplink{link->index, link->name,   link->mac,    link->mtu,
                {},          std::nullopt, std::nullopt, link->kind};
  if (leading != nullptr && leading->link == link->index)
    uplink.gateway = leading->gateway;
  const LinkAddress* own = nullptr;
  for (const LinkAddress& address : addresses) {
    if (address.link != link->index)
      continue;
    if (underlay ? address.ip == *underlay
                 : (address.ip.is_v4() && address.scope == Scope::kGlobal && own == nullptr))
      own = &address;
  }
  if (own == nullptr)
    return fail(Errc::kNotFound, underlay
                                     ? fmt::format("uplink {} does not have the address {}",
                                                   link->name, underlay->to_string())
                                     : fmt::format("uplink {} has no IPv4 address", link->name));
  uplink.address = own->ip;
  for (const LinkAddress& address : addresses)
    if (address.link == link->index && address.ip.is_v6() && address.scope == Scope::kGlobal &&
        (!uplink.address_v6 || address.ip < *uplink.address_v6))
      uplink.address_v6 = address.ip;
  return uplink;
}

Result<Uplink> find_uplink(Rtnl& rtnl, std::string_view wanted_name,
                           std::optional<IpAddress> underlay) {
  const auto links = SHOAL_TRY(rtnl.links());
  const auto addresses = SHOAL_TRY(rtnl.addresses());
  const auto routes = SHOAL_TRY(rtnl.routes(Family::kV4));
  return choose_uplink(links, addresses, routes, wanted_name, underlay);
}

}  // namespace shoal::kernel
