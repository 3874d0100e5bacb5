// SPDX-License-Identifier: Apache-2.0
#include "netplane/apply/host_links.h"

#include <algorithm>
#include <fmt/format.h>
#include <utility>

namespace shoal::apply {
namespace {

constexpr std::uint32_t kMainTable = 254;

}  // namespace

Result<HostLinks> ensure_host_links(kernel::Rtnl& rtnl, const Config& config) {
  HostLinks links;
  const kernel::HostNetwork host =
      SHOAL_TRY_WRAP(kernel::read_host_network(rtnl), "find the uplinks");
  links.uplinks =
      SHOAL_TRY_WRAP(kernel::choose_uplinks(host, config.uplink_wish()), "find the uplinks");
  links.missing = kernel::missing_uplinks(host, config.uplink_wish());
  links.unfit = kernel::unfit_uplinks(host, config.uplink_wish());
  const kernel::Uplink& uplink = links.uplink();
  const std::uint32_t mtu_min = config.ipv6 ? kPodMtuMinV6 : kPodMtuMin;
  if (uplink.mtu < mtu_min + kOverlayOverheadBytes)
    return fail(Errc::kInvalid,
                fmt::format("the uplink {} has an MTU of {}; the overlay needs {}", uplink.name,
                            uplink.mtu, mtu_min + kOverlayOverheadBytes));
  const std::uint32_t overlay_mtu_max = uplink.mtu - kOverlayOverheadBytes;
  const std::uint32_t pod_mtu_max = config.native_routes ? uplink.mtu : overlay_mtu_max;
  links.pod_mtu = config.mtu != 0 ? config.mtu : pod_mtu_max;
  if (links.pod_mtu < mtu_min || links.pod_mtu > pod_mtu_max)
    return fail(Errc::kInvalid,
                fmt::format("pod MTU {} (network.mtu) does not fit: it must be {} to {}, since the "
                            "uplink {} has {}{}",
                            links.pod_mtu, mtu_min, pod_mtu_max, uplink.name, uplink.mtu,
                            config.native_routes
                                ? ""
                                : fmt::format(" and the overlay adds {}", kOverlayOverheadBytes)));
  kernel::VxlanSpec spec;
  spec.name = kOverlayLink;
  spec.mac = MacAddress::from_name(fmt::format("{}/{}", kOverlayLink, config.node_name));
  spec.port = config.vxlan_port;
  spec.mtu = std::min(links.pod_mtu, overlay_mtu_max);
  links.overlay = SHOAL_TRY_WRAP(kernel::ensure_overlay(rtnl, spec, config.ipv6),
                                 fmt::format("make the device {}", kOverlayLink));
  SHOAL_TRY_WRAP(kernel::prepare_host(rtnl, links.uplinks, config.ipv6),
                 "prepare the host for forwarding");
  for (const auto family : {IpFamily::kV4, IpFamily::kV6}) {
    if (family == IpFamily::kV6 && !config.ipv6)
      continue;
    kernel::Neighbour gateway;
    gateway.link = links.overlay.index;
    gateway.ip = plan::overlay_gateway(family);
    gateway.mac = plan::overlay_gateway_mac();
    SHOAL_TRY(rtnl.replace_neighbour(gateway));
  }
  return links;
}

kernel::Stir UplinkWatch::look(const LinksStirred& stirred, kernel::Rtnl& rtnl,
                               const Config& config, const HostLinks& known, const Clock& clock) {
  constexpr Duration kLookInterval = std::chrono::seconds(1);
  constexpr int kPauses = 20;  // each as long as the look before
  due_ |= stirred();
  const MonoTime began = clock.now();
  if (!due_ || began < next_)
    return {};
  kernel::Stir seen = std::exchange(due_, {});
  if (seen.uplinks) {
    // An uplink that is gone is the audit's to tell.
    const auto uplinks = kernel::find_uplinks(rtnl, config.uplink_wish());
    seen.uplinks = !uplinks || *uplinks != known.uplinks;
  }
  const MonoTime ended = clock.now();
  next_ = ended + std::max(kLookInterval, (ended - began) * kPauses);
  return seen;
}

bool moved(const std::vector<kernel::Uplink>& before, const std::vector<kernel::Uplink>& now) {
  return !std::ranges::equal(before, now, [](const kernel::Uplink& a, const kernel::Uplink& b) {
    return a.index == b.index && a.mac == b.mac && a.subnets == b.subnets &&
           a.leads_out_v4 == b.leads_out_v4 && a.leads_out_v6 == b.leads_out_v6;
  });
}

std::vector<std::string> uplink_limitations(const HostLinks& links) {
  std::vector<std::string> out;
  for (const std::string& name : links.missing)
    out.push_back(fmt::format("network.uplinks names {}, and there is no such link that is up: "
                              "Services are not served there until there is",
                              name));
  for (const std::string& name : links.unfit)
    out.push_back(fmt::format("the uplink {} is no Ethernet device: node ports and LoadBalancer "
                              "addresses are not served to clients there; name others in "
                              "network.uplinks",
                              name));
  return out;
}

std::string describe(const std::vector<kernel::Uplink>& uplinks) {
  std::string out;
  for (const kernel::Uplink& uplink : uplinks)
    out += fmt::format("{}{} at {}", out.empty() ? "" : ", ", uplink.name, uplink.mac.to_string());
  return out;
}

void note_uplinks(const HostLinks& before, const HostLinks& now, AuditReport& report) {
  if (describe(before.uplinks) != describe(now.uplinks) ||
      before.uplink().index != now.uplink().index)
    report.findings.push_back(fmt::format("the uplinks are {} now, and were {}",
                                          describe(now.uplinks), describe(before.uplinks)));
  if (before.pod_mtu != now.pod_mtu)
    report.findings.push_back(fmt::format("the MTU of pods is {} now, and was {}: those that run "
                                          "keep theirs until they are made anew",
                                          now.pod_mtu, before.pod_mtu));
}

NetworkView network_view(const Config& config, const HostLinks& links,
                         const std::optional<model::Desired>& desired) {
  return {.native_routes = config.native_routes,
          .uplinks = links.uplinks,
          .pod_mtu = links.pod_mtu,
          .overlay_mtu = links.overlay.mtu,
          .detours = desired ? plan::overlay_detours(*desired, overlay_options(config, links))
                             : std::vector<std::string>()};
}

plan::OverlayOptions overlay_options(const Config& config, const HostLinks& links) {
  plan::OverlayOptions options{.vips = !config.socket_hooks, .native = {}};
  if (!config.native_routes)
    return options;
  options.native.emplace();
  for (const kernel::Uplink& uplink : links.uplinks)
    options.native->push_back({uplink.index, uplink.subnets});
  return options;
}

kernel::Route kernel_route(const plan::OverlayRoute& route, const HostLinks& links) {
  const bool native = route.link != 0;
  kernel::Route out;
  out.destination = route.destination;
  out.link = native ? route.link : links.overlay.index;
  out.gateway = native ? route.via : plan::overlay_gateway(route.destination.family());
  out.metric = kernel::default_metric(route.destination.family());
  if (!route.source.is_unspecified())
    out.source = route.source;
  out.onlink = !native && route.destination.is_v4();  // a link-local gateway is so by itself
  return out;
}

bool is_between_hosts(const kernel::Route& route) {
  return route.protocol == kernel::kRouteProtocolShoal && route.table == kMainTable &&
         route.gateway.has_value();
}

model::LocalPod wired_pod(const PodAttachment& attachment, const kernel::AttachedPod& link) {
  model::LocalPod pod;
  pod.pod = attachment.pod;
  pod.uid = attachment.uid;
  pod.addresses = attachment.addresses;
  pod.host_ifindex = link.host_ifindex;
  pod.pod_mac = link.pod_mac;
  pod.host_mac = link.host_mac;
  return pod;
}

}  // namespace shoal::apply
