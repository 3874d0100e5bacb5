// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/rtnl/pod_net.h"

#include "netplane/base/hash.h"

#include <algorithm>
#include <cerrno>
#include <fmt/format.h>
#include <optional>
#include <utility>

namespace shoal::kernel {
namespace {

// The kernel may be without IPv6: then there is nothing to switch off.
Result<> set_ipv6_sysctl(Rtnl& rtnl, std::string_view link, std::string_view key,
                         std::string_view value) {
  auto set = rtnl.set_sysctl(fmt::format("ipv6/conf/{}/{}", link, key), value);
  if (!set && set.error().code() != Errc::kNotFound)
    return set;
  return {};
}

// No router advertisement is listened to, so that none configures an address, and no link-local one
// is made up. To be done before the link goes up: then is when the kernel would begin.
Result<> silence_ipv6(Rtnl& rtnl, std::string_view link) {
  SHOAL_TRY(set_ipv6_sysctl(rtnl, link, "accept_ra", "0"));
  SHOAL_TRY(set_ipv6_sysctl(rtnl, link, "addr_gen_mode", "1"));  // IN6_ADDR_GEN_MODE_NONE
  return {};
}

// Distributions and container hosts may have it off for new links.
Result<> enable_ipv6(Rtnl& rtnl, std::string_view link) {
  return set_ipv6_sysctl(rtnl, link, "disable_ipv6", "0");
}

bool has_ipv6(const PodNetSpec& spec) {
  return std::ranges::any_of(spec.ips, [](const IpAddress& ip) { return ip.is_v6(); });
}

IpPrefix default_of(IpFamily family) {
  return family == IpFamily::kV4 ? IpPrefix::containing(IpAddress::v4(0), 0) : IpPrefix();
}

std::string text_of(const std::vector<IpAddress>& ips) {
  std::string out;
  for (const IpAddress& ip : ips)
    out += (out.empty() ? "" : ", ") + ip.to_string();
  return out;
}

// Nothing when there is none.
Result<std::optional<Link>> find_link(Rtnl& rtnl, std::string_view name) {
  auto found = rtnl.link(name);
  if (found)
    return std::optional(std::move(*found));
  if (found.error().code() == Errc::kNotFound)
    return std::optional<Link>();
  return fail(std::move(found).error());
}

struct Pair {
  Link host;
  Link pod;
};

bool are_one_pair(const Pair& pair, const PodNetSpec& spec) {
  return pair.host.kind == "veth" && pair.pod.kind == "veth" &&
         pair.host.peer_index == pair.pod.index && pair.pod.peer_index == pair.host.index &&
         pair.host.mac == spec.host_mac && pair.pod.mac == spec.pod_mac;
}

// The pair an earlier attach made, or nothing. What only looks like it is taken away when it is
// ours to take.
Result<std::optional<Pair>> existing_pair(Rtnl& host, Rtnl& pod, const PodNetSpec& spec) {
  auto host_end = SHOAL_TRY(find_link(host, spec.host_link));
  auto pod_end = SHOAL_TRY(find_link(pod, kPodInterface));
  if (host_end && pod_end)
    if (Pair pair{*host_end, *pod_end}; are_one_pair(pair, spec))
      return std::optional(std::move(pair));
  if (host_end) {
    if (host_end->kind != "veth" || host_end->group != kPodLinkGroup)
      return fail(
          Errc::kExists,
          fmt::format("link {} is there and is not Shoal's; delete or rename it", spec.host_link));
    // The other end lies in a namespace that this pod had before.
    SHOAL_TRY(host.delete_link(host_end->index));
    pod_end = SHOAL_TRY(find_link(pod, kPodInterface));
  }
  if (pod_end)
    return fail(Errc::kExists, fmt::format("the pod's namespace has an {} already, made by "
                                           "another program",
                                           kPodInterface));
  return std::optional<Pair>();
}

Result<Pair> create_pair(Rtnl& host, Rtnl& pod, const PodNetSpec& spec) {
  Pair pair;
  pair.host = SHOAL_TRY(host.create_veth({.name = spec.host_link,
                                          .mac = spec.host_mac,
                                          .peer_name = std::string(kPodInterface),
                                          .peer_mac = spec.pod_mac,
                                          .peer_netns_fd = pod.netns_fd(),
                                          .mtu = spec.mtu,
                                          .group = kPodLinkGroup}));
  auto pod_end = pod.link(kPodInterface);
  if (!pod_end) {
    static_cast<void>(host.delete_link(pair.host.index));
    return fail(std::move(pod_end).error());
  }
  pair.pod = std::move(*pod_end);
  return pair;
}

Result<> configure_pod_address(Rtnl& pod, std::uint32_t link, const IpAddress& ip,
                               const PodNetSpec& spec) {
  const IpAddress gateway = pod_gateway(ip.family());
  SHOAL_TRY(
      pod.replace_address({.link = link, .ip = ip, .prefix_length = IpPrefix::host(ip).length()}));
  SHOAL_TRY(pod.replace_neighbour({.link = link, .ip = gateway, .mac = spec.host_mac}));
  if (ip.is_v4())
    SHOAL_TRY(pod.replace_route(
        {.destination = IpPrefix::host(gateway), .link = link, .scope = Scope::kLink}));
  return pod.replace_route({.destination = default_of(ip.family()),
                            .link = link,
                            .gateway = gateway,
                            .mtu = spec.mtu,
                            .metric = default_metric(ip.family())});
}

Result<> configure_pod_end(Rtnl& pod, const Pair& pair, const PodNetSpec& spec) {
  const std::uint32_t link = pair.pod.index;
  SHOAL_TRY(silence_ipv6(pod, kPodInterface));
  if (has_ipv6(spec))
    for (const std::string_view name : {kPodInterface, std::string_view("lo")})
      SHOAL_TRY(enable_ipv6(pod, name));
  if (pair.pod.mtu != spec.mtu)
    SHOAL_TRY(pod.set_link_mtu(link, spec.mtu));
  const Link loopback = SHOAL_TRY(pod.link("lo"));
  SHOAL_TRY(pod.set_link_up(loopback.index, true));
  SHOAL_TRY(pod.set_link_up(link, true));
  for (const IpAddress& ip : spec.ips)
    SHOAL_TRY(configure_pod_address(pod, link, ip, spec));
  return {};
}

Result<> configure_host_end(Rtnl& host, const Pair& pair, const PodNetSpec& spec) {
  const std::uint32_t link = pair.host.index;
  SHOAL_TRY(silence_ipv6(host, spec.host_link));
  if (has_ipv6(spec))
    SHOAL_TRY(enable_ipv6(host, spec.host_link));
  SHOAL_TRY(host.set_sysctl(fmt::format("ipv4/conf/{}/rp_filter", spec.host_link), "0"));
  if (pair.host.mtu != spec.mtu)
    SHOAL_TRY(host.set_link_mtu(link, spec.mtu));
  SHOAL_TRY(host.set_link_up(link, true));
  for (const IpAddress& ip : spec.ips)
    SHOAL_TRY(host.replace_neighbour({.link = link, .ip = ip, .mac = spec.pod_mac}));
  return {};
}

// The first packet after an attach must pass, in both directions: a lost SYN costs a probe a
// second. An end that goes up second sends at once. The one that went up first gets its carrier
// then, and a queue that sends only when a kernel worker comes round to it; asking for the link
// makes newer kernels (6.9) do that worker's work at once.
Result<> configure(Rtnl& host, Rtnl& pod, const Pair& pair, const PodNetSpec& spec) {
  SHOAL_TRY(configure_host_end(host, pair, spec));
  SHOAL_TRY(configure_pod_end(pod, pair, spec));
  SHOAL_TRY(host.link(pair.host.index));
  // Last: only now do the pod's addresses lead anywhere.
  for (const IpAddress& ip : spec.ips)
    SHOAL_TRY(host.replace_route({.destination = IpPrefix::host(ip),
                                  .link = pair.host.index,
                                  .scope = ip.is_v4() ? Scope::kLink : Scope::kGlobal,
                                  .metric = default_metric(ip.family())}));
  return {};
}

// Forwarding makes a router of the host, and a router takes no advertisements unless it is told to.
Result<> keep_listening(Rtnl& host, std::string_view link) {
  const std::string key = fmt::format("ipv6/conf/{}/accept_ra", link);
  const auto now = host.sysctl(key);
  if (now && *now == "1")
    SHOAL_TRY(host.set_sysctl(key, "2"));
  return {};
}

Result<> forward_ipv6(Rtnl& host, const std::vector<Uplink>& uplinks) {
  constexpr std::string_view kForwarding = "ipv6/conf/all/forwarding";
  for (const Uplink& uplink : uplinks)
    SHOAL_TRY(keep_listening(host, uplink.name));
  const auto now = host.sysctl(kForwarding);
  if (now && *now == "1")
    return {};
  // Before it is switched on: what was learned goes with the first moment without.
  for (const Link& link : SHOAL_TRY(host.links()))
    SHOAL_TRY(keep_listening(host, link.name));
  return host.set_sysctl(kForwarding, "1");
}

}  // namespace

IpAddress pod_gateway(IpFamily family) {
  return family == IpFamily::kV4
             ? IpAddress::v4(0xA9FE0101)
             : IpAddress::from_bytes({0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1});
}

std::string pod_link_name(std::string_view uid) {
  return fmt::format("{}{:08x}", kPodLinkPrefix, static_cast<std::uint32_t>(hash64(uid)));
}

PodNetSpec make_pod_net_spec(std::string_view uid, std::vector<IpAddress> ips, std::uint32_t mtu) {
  return {.host_link = pod_link_name(uid),
          .ips = std::move(ips),
          .pod_mac = MacAddress::from_name(fmt::format("{}/pod", uid)),
          .host_mac = MacAddress::from_name(fmt::format("{}/host", uid)),
          .mtu = mtu};
}

Result<AttachedPod> attach_pod(Rtnl& host, Rtnl& pod, const PodNetSpec& spec) {
  const std::string what = fmt::format("attach {} to {}", text_of(spec.ips), spec.host_link);
  auto pair = SHOAL_TRY_WRAP(existing_pair(host, pod, spec), what);
  const bool made_here = !pair;
  if (made_here)
    pair = SHOAL_TRY_WRAP(create_pair(host, pod, spec), what);
  if (auto configured = configure(host, pod, *pair, spec); !configured) {
    // The first error is the one to tell; a pair that cannot be deleted now is found by the sweep.
    if (made_here)
      static_cast<void>(host.delete_link(pair->host.index));
    return fail(std::move(configured).error().wrap(what));
  }
  return AttachedPod{.host_ifindex = pair->host.index,
                     .pod_ifindex = pair->pod.index,
                     .host_mac = pair->host.mac,
                     .pod_mac = pair->pod.mac};
}

Result<> detach_pod(Rtnl& host, std::string_view host_link) {
  const std::string what = fmt::format("detach {}", host_link);
  const auto link = SHOAL_TRY_WRAP(find_link(host, host_link), what);
  if (!link)
    return {};
  auto deleted = host.delete_link(link->index);
  if (!deleted && deleted.error().code() != Errc::kNotFound)
    return fail(std::move(deleted).error().wrap(what));
  return {};
}

Result<std::vector<Link>> pod_links(Rtnl& host) {
  std::vector<Link> result;
  for (Link& link : SHOAL_TRY(host.links()))
    if (link.kind == "veth" && link.group == kPodLinkGroup && link.name.starts_with(kPodLinkPrefix))
      result.push_back(std::move(link));
  return result;
}

Result<Link> ensure_overlay(Rtnl& host, const VxlanSpec& spec, bool ipv6) {
  const std::string what = fmt::format("overlay device {}", spec.name);
  auto link = SHOAL_TRY_WRAP(find_link(host, spec.name), what);
  if (link && (link->kind != "vxlan" || link->mac != spec.mac)) {
    SHOAL_TRY_WRAP(host.delete_link(link->index), what);
    link.reset();
  }
  if (!link)
    link = SHOAL_TRY(host.create_vxlan(spec));
  if (link->mtu != spec.mtu)
    SHOAL_TRY_WRAP(host.set_link_mtu(link->index, spec.mtu), what);
  SHOAL_TRY_WRAP(silence_ipv6(host, spec.name), what);
  if (ipv6)
    SHOAL_TRY_WRAP(enable_ipv6(host, spec.name), what);
  SHOAL_TRY_WRAP(host.set_sysctl(fmt::format("ipv4/conf/{}/rp_filter", spec.name), "2"), what);
  // The kernel lets nobody's packet in by a device without any address, however loose rp_filter is:
  // those of balanced flows come from machines outside. With the pods' gateway, it also answers a
  // pod that asks for that.
  SHOAL_TRY_WRAP(host.replace_address({.link = link->index,
                                       .ip = pod_gateway(IpFamily::kV4),
                                       .prefix_length = 32,
                                       .scope = Scope::kLink}),
                 what);
  auto up = host.set_link_up(link->index, true);
  if (!up && up.error().sys_errno() == EADDRINUSE)  // its socket is opened only now
    return fail(
        Error(up.error().code(),
              fmt::format("{}: another program has UDP port {} (`ss -lunp` shows which): "
                          "stop it; the port is network.vxlan_port of when the cluster began",
                          what, spec.port),
              EADDRINUSE));
  SHOAL_TRY_WRAP(std::move(up), what);
  return host.link(link->index);
}

Result<> prepare_host(Rtnl& host, const std::vector<Uplink>& uplinks, bool ipv6) {
  SHOAL_TRY_WRAP(host.set_sysctl("ipv4/ip_forward", "1"), "switch IPv4 forwarding on");
  // The kernel takes the larger of `all` and the link's own value, and 2 (loose) is above 1
  // (strict): replies that come by another way than the route back would take are let in, whatever
  // the distribution set for `all`.
  for (const Uplink& uplink : uplinks)
    SHOAL_TRY_WRAP(host.set_sysctl(fmt::format("ipv4/conf/{}/rp_filter", uplink.name), "2"),
                   fmt::format("loosen rp_filter of the uplink {}", uplink.name));
  if (ipv6)
    SHOAL_TRY_WRAP(forward_ipv6(host, uplinks), "switch IPv6 forwarding on");
  return {};
}

}  // namespace shoal::kernel
