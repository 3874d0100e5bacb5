// SPDX-License-Identifier: Apache-2.0
#include "netplane/apply/host_links.h"

#include "netplane/plan/routes.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::apply {

Result<HostLinks> ensure_host_links(kernel::Rtnl& rtnl, const Config& config) {
  HostLinks links;
  links.uplinks =
      SHOAL_TRY_WRAP(kernel::find_uplinks(rtnl, config.uplink_wish()), "find the uplinks");
  const kernel::Uplink& uplink = links.uplink();
  const std::uint32_t mtu_min = config.ipv6 ? kPodMtuMinV6 : kPodMtuMin;
  if (uplink.mtu < mtu_min + kOverlayOverheadBytes)
    return fail(Errc::kInvalid,
                fmt::format("the uplink {} has an MTU of {}; the overlay needs {}", uplink.name,
                            uplink.mtu, mtu_min + kOverlayOverheadBytes));
  links.pod_mtu = config.mtu != 0 ? config.mtu : uplink.mtu - kOverlayOverheadBytes;
  if (links.pod_mtu < mtu_min || links.pod_mtu + kOverlayOverheadBytes > uplink.mtu)
    return fail(Errc::kInvalid,
                fmt::format("pod MTU {} (network.mtu) does not fit: it must be {} to {}, since the "
                            "uplink {} has {} "
                            "and the overlay adds {}",
                            links.pod_mtu, mtu_min, uplink.mtu - kOverlayOverheadBytes, uplink.name,
                            uplink.mtu, kOverlayOverheadBytes));
  kernel::VxlanSpec spec;
  spec.name = kOverlayLink;
  spec.mac = MacAddress::from_name(fmt::format("{}/{}", kOverlayLink, config.node_name));
  spec.port = config.vxlan_port;
  spec.mtu = links.pod_mtu;
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

bool UplinkWatch::changed(const LinksStirred& stirred, kernel::Rtnl& rtnl, const Config& config,
                          const HostLinks& known, MonoTime now) {
  constexpr auto kLookInterval = std::chrono::seconds(1);
  look_ = stirred() || look_;
  if (!look_ || now < next_)
    return false;
  look_ = false;
  next_ = now + kLookInterval;
  // An uplink that is gone is the audit's to tell.
  const auto uplinks = kernel::find_uplinks(rtnl, config.uplink_wish());
  return !uplinks || *uplinks != known.uplinks;
}

bool moved(const std::vector<kernel::Uplink>& before, const std::vector<kernel::Uplink>& now) {
  return !std::ranges::equal(before, now, [](const kernel::Uplink& a, const kernel::Uplink& b) {
    return a.index == b.index && a.mac == b.mac && a.subnets == b.subnets &&
           a.leads_out_v4 == b.leads_out_v4 && a.leads_out_v6 == b.leads_out_v6;
  });
}

std::string describe(const std::vector<kernel::Uplink>& uplinks) {
  std::string out;
  for (const kernel::Uplink& uplink : uplinks)
    out += fmt::format("{}{} at {}", out.empty() ? "" : ", ", uplink.name, uplink.mac.to_string());
  return out;
}

void note_links(const HostLinks& before, const HostLinks& now, AuditReport& report) {
  if (describe(before.uplinks) != describe(now.uplinks) ||
      before.uplink().index != now.uplink().index)
    report.findings.push_back(fmt::format("the uplinks are {} now, and were {}",
                                          describe(now.uplinks), describe(before.uplinks)));
  if (before.pod_mtu != now.pod_mtu)
    report.findings.push_back(fmt::format("the MTU of pods is {} now, and was {}: those that run "
                                          "keep theirs until they are made anew",
                                          now.pod_mtu, before.pod_mtu));
  if (before.overlay.index != now.overlay.index)
    report.findings.push_back(fmt::format("the device {} was gone", now.overlay.name));
}

NetworkView network_view(const HostLinks& links) {
  return {links.uplinks, links.pod_mtu, links.overlay.mtu};
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
