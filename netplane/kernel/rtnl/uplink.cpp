// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/rtnl/pod_net.h"
#include "netplane/kernel/rtnl/rtnl.h"

#include "netplane/base/strings.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <set>

namespace shoal::kernel {
namespace {

constexpr std::uint32_t kMainTable = 254;
constexpr std::uint32_t kTcpIpv4HeaderBytes = 40;  // what an MSS leaves out of an MTU

const Link* by_index(const std::vector<Link>& links, std::uint32_t index) {
  const auto found = std::ranges::find(links, index, &Link::index);
  return found == links.end() ? nullptr : &*found;
}

bool is_loopback(const Link& link) { return link.name == "lo"; }

// Pods' links and overlays, ours and others': there from the agent's first run on.
bool leads_inward(const Link& link) {
  return is_loopback(link) || link.group == kPodLinkGroup || link.kind == "vxlan" ||
         link.kind == "geneve" || link.kind == "dummy";
}

// What container engines make. The name says more than the kind: a machine's only wire can be a
// veth or a bridge, too.
bool is_of_containers(const Link& link) {
  return std::ranges::any_of(
      std::to_array<std::string_view>(
          {"docker", "br-", "veth", "cni", "podman", "virbr", "cali", "lxc"}),
      [&](std::string_view prefix) { return link.name.starts_with(prefix); });
}

// The last one, as of a port of a bond that is a port of a bridge. A port of a VRF has addresses
// and routes of its own.
const Link& master_of(const std::vector<Link>& links, const Link& port) {
  constexpr int kDepthMax = 8;  // as the kernel has it
  const Link* link = &port;
  for (int depth = 0; depth < kDepthMax && link->master != 0; depth++) {
    const Link* master = by_index(links, link->master);
    if (master == nullptr || master->kind == "vrf")
      break;
    link = master;
  }
  return *link;
}

bool is_default(const Route& route) {
  return route.destination.length() == 0 && route.table == kMainTable;
}

std::vector<const Route*> default_routes(const HostNetwork& host, IpFamily family) {
  std::vector<const Route*> out;
  for (const Route& route : host.routes)
    if (const Link* link = by_index(host.links, route.link);
        is_default(route) && route.destination.family() == family && link != nullptr &&
        !leads_inward(*link) && link->ethernet)
      out.push_back(&route);
  std::ranges::sort(out, {},
                    [](const Route* route) { return std::pair(route->metric, route->link); });
  return out;
}

std::string names_of(const std::vector<Link>& links) {
  std::string names;
  for (const Link& link : links)
    if (!leads_inward(link))
      names += (names.empty() ? "" : ", ") + link.name;
  return names.empty() ? "none" : names;
}

bool has_address(const HostNetwork& host, const Link& link) {
  return std::ranges::any_of(host.addresses, [&](const LinkAddress& address) {
    return address.link == link.index && address.ip.is_v4() && address.scope == Scope::kGlobal;
  });
}

bool is_named(const Link& link, const std::string& name) {
  const bool pattern = name.find('*') != std::string::npos;
  return !leads_inward(link) && matches_wildcard(name, link.name) &&
         (!pattern || (link.up && !is_of_containers(link)));
}

bool is_meant(const Link& link, const std::string& name) {
  return link.ethernet && is_named(link, name);
}

// All that `names` mean, masters in place of their ports, each once.
std::vector<const Link*> named_links(const HostNetwork& host,
                                     const std::vector<std::string>& names) {
  std::set<std::uint32_t> chosen;
  for (const std::string& name : names)
    for (const Link& link : host.links)
      if (is_meant(link, name))
        chosen.insert(master_of(host.links, link).index);
  std::vector<const Link*> out;
  for (const Link& link : host.links)
    if (chosen.contains(link.index))
      out.push_back(&link);
  return out;
}

Result<const Link*> link_with(const HostNetwork& host, const IpAddress& address) {
  const auto found = std::ranges::find(host.addresses, address, &LinkAddress::ip);
  const Link* link = found == host.addresses.end() ? nullptr : by_index(host.links, found->link);
  if (link == nullptr)
    return fail(Errc::kNotFound, fmt::format("uplink: no link has the address {}; give this host "
                                             "the address or change it in the config",
                                             address.to_string()));
  return link;
}

Result<const Link*> only_link(const HostNetwork& host) {
  const Link* only = nullptr;
  std::size_t candidates = 0;
  for (const Link& link : host.links)
    if (link.up && link.ethernet && !leads_inward(link) && !is_of_containers(link) &&
        &master_of(host.links, link) == &link) {
      only = &link;
      ++candidates;
    }
  if (candidates == 1)
    return only;
  return fail(Errc::kNotFound,
              fmt::format("uplink: no default route, and {} links are up; name one in the config, "
                          "of: {}",
                          candidates, names_of(host.links)));
}

Result<const Link*> main_link(const HostNetwork& host, const UplinkWish& wish,
                              const std::vector<const Link*>& named) {
  if (!wish.device.empty()) {
    const auto found = std::ranges::find(host.links, wish.device, &Link::name);
    if (found == host.links.end())
      return fail(Errc::kNotFound, fmt::format("uplink {}: there is no such link; there is: {}",
                                               wish.device, names_of(host.links)));
    return &master_of(host.links, *found);
  }
  if (wish.address)
    return link_with(host, *wish.address);
  const auto is_wanted = [&](const Link& link) {
    return wish.names.empty() || std::ranges::find(named, &link) != named.end();
  };
  for (const Route* route : default_routes(host, IpFamily::kV4))
    if (const Link& link = master_of(host.links, *by_index(host.links, route->link));
        is_wanted(link) && has_address(host, link))
      return &link;
  for (const Link* link : named)
    if (has_address(host, *link))
      return link;
  if (!wish.names.empty())
    return fail(Errc::kNotFound,
                fmt::format("uplink: none of {} is a link with an IPv4 address; there is: {}; give "
                            "one of them an address, or name others",
                            fmt::join(wish.names, ", "), names_of(host.links)));
  return only_link(host);
}

// The underlay is IPv4, and so are the routes that count.
std::uint32_t path_mtu(const HostNetwork& host, const Link& link, const IpAddress& own) {
  std::uint32_t mtu = link.mtu;
  for (const Route& route : host.routes) {
    if (route.link != link.index || route.table != kMainTable || !route.destination.is_v4() ||
        !(is_default(route) || (!route.gateway && route.destination.contains(own))))
      continue;
    if (route.mtu != 0)
      mtu = std::min(mtu, route.mtu);
    else if (route.advmss != 0)
      mtu = std::min(mtu, route.advmss + kTcpIpv4HeaderBytes);
  }
  return mtu;
}

std::vector<IpPrefix> subnets_of(const HostNetwork& host, const Link& link) {
  std::set<IpPrefix> out;
  const auto add = [&](const IpPrefix& prefix) {
    if (prefix.length() != 0 && !prefix.address().is_link_local() &&
        prefix != IpPrefix::host(prefix.address()))
      out.insert(prefix);
  };
  for (const LinkAddress& address : host.addresses)
    if (address.link == link.index && address.scope == Scope::kGlobal)
      add(IpPrefix::containing(address.ip, address.prefix_length));
  for (const Route& route : host.routes)
    if (route.link == link.index && route.table == kMainTable && !route.gateway && !route.encap &&
        route.protocol != kRouteProtocolShoal)
      add(route.destination);
  return {out.begin(), out.end()};
}

Uplink uplink_of(const HostNetwork& host, const Link& link) {
  Uplink out{.index = link.index, .name = link.name, .mac = link.mac, .mtu = link.mtu};
  out.kind = link.kind;
  out.ethernet = link.ethernet;
  for (const LinkAddress& address : host.addresses) {
    if (address.link != link.index || address.scope != Scope::kGlobal)
      continue;
    if (address.ip.is_v4() && out.address.is_unspecified())
      out.address = address.ip;
    if (address.ip.is_v6() && address.lasting && (!out.address_v6 || address.ip < *out.address_v6))
      out.address_v6 = address.ip;
  }
  for (const IpFamily family : {IpFamily::kV4, IpFamily::kV6})
    for (const Route* route : default_routes(host, family)) {
      if (route->link != link.index)
        continue;
      (family == IpFamily::kV4 ? out.leads_out_v4 : out.leads_out_v6) = true;
      if (family == IpFamily::kV4 && !out.gateway)
        out.gateway = route->gateway;
    }
  out.subnets = subnets_of(host, link);
  out.mtu = path_mtu(host, link, out.address);
  return out;
}

Result<Uplink> main_uplink(const HostNetwork& host, const UplinkWish& wish, const Link& link) {
  Uplink out = uplink_of(host, link);
  if (wish.address) {
    const auto own = std::ranges::any_of(host.addresses, [&](const LinkAddress& address) {
      return address.link == link.index && address.ip == *wish.address;
    });
    if (!own)
      return fail(Errc::kNotFound, fmt::format("uplink {} does not have the address {}", link.name,
                                               wish.address->to_string()));
    out.address = *wish.address;
    out.mtu = path_mtu(host, link, out.address);
  }
  if (out.address.is_unspecified())
    return fail(Errc::kNotFound, fmt::format("uplink {} has no IPv4 address", link.name));
  return out;
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

bool Uplink::reaches(const IpAddress& ip) const {
  return std::ranges::any_of(subnets, [&](const IpPrefix& subnet) { return subnet.contains(ip); });
}

Result<std::vector<Uplink>> choose_uplinks(const HostNetwork& host, const UplinkWish& wish) {
  const auto named = named_links(host, wish.names);
  const Link* first = SHOAL_TRY(main_link(host, wish, named));
  std::vector<Uplink> out{SHOAL_TRY(main_uplink(host, wish, *first))};
  std::set<std::uint32_t> others;
  for (const Link* link : named)
    others.insert(link->index);
  if (wish.names.empty())
    for (const IpFamily family : {IpFamily::kV4, IpFamily::kV6})
      for (const Route* route : default_routes(host, family))
        others.insert(master_of(host.links, *by_index(host.links, route->link)).index);
  others.erase(first->index);
  if (others.size() >= kUplinksMax)
    return fail(Errc::kExhausted,
                fmt::format("{} links are uplinks, and {} is the most: name fewer",
                            others.size() + 1, kUplinksMax));
  for (const std::uint32_t index : others)
    out.push_back(uplink_of(host, *by_index(host.links, index)));
  return out;
}

std::vector<std::string> missing_uplinks(const HostNetwork& host, const UplinkWish& wish) {
  std::vector<std::string> out;
  for (const std::string& name : wish.names)
    if (std::ranges::none_of(host.links, [&](const Link& link) { return is_named(link, name); }))
      out.push_back(name);
  return out;
}

std::vector<std::string> unfit_uplinks(const HostNetwork& host, const UplinkWish& wish) {
  const auto is_asked_for = [&](const Link& link) {
    const auto holds_underlay = [&](const LinkAddress& address) {
      return address.link == link.index && address.ip == wish.address;
    };
    return link.name == wish.device || std::ranges::any_of(host.addresses, holds_underlay) ||
           std::ranges::any_of(wish.names,
                               [&](const std::string& name) { return is_named(link, name); });
  };
  std::vector<std::string> out;
  for (const Link& link : host.links)
    if (!link.ethernet && !is_loopback(link) && is_asked_for(link))
      out.push_back(link.name);
  return out;
}

const Uplink& uplink_towards(const std::vector<Uplink>& uplinks, const IpAddress& ip) {
  SHOAL_ASSERT(!uplinks.empty());
  const auto on_link =
      std::ranges::find_if(uplinks, [&](const Uplink& uplink) { return uplink.reaches(ip); });
  if (on_link != uplinks.end())
    return *on_link;
  const auto out =
      std::ranges::find_if(uplinks, ip.is_v4() ? &Uplink::leads_out_v4 : &Uplink::leads_out_v6);
  return out == uplinks.end() ? uplinks.front() : *out;
}

Result<HostNetwork> read_host_network(Rtnl& rtnl) {
  HostNetwork host;
  host.links = SHOAL_TRY(rtnl.links());
  host.addresses = SHOAL_TRY(rtnl.addresses());
  for (const Family family : {Family::kV4, Family::kV6}) {
    auto routes = SHOAL_TRY(rtnl.routes(family));
    host.routes.insert(host.routes.end(), routes.begin(), routes.end());
  }
  return host;
}

Result<std::vector<Uplink>> find_uplinks(Rtnl& rtnl, const UplinkWish& wish) {
  return choose_uplinks(SHOAL_TRY(read_host_network(rtnl)), wish);
}

}  // namespace shoal::kernel
