// SPDX-License-Identifier: Apache-2.0
#include "netplane/plan/routes.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::plan {
namespace {

// What this host is known by, in each family.
struct Sources {
  IpAddress v4, v6;
};

void add_node(const model::Node& node, const model::Desired& desired, const Sources& sources,
              Overlay& overlay, std::vector<Issue>& issues) {
  const bool self = node.name == desired.self;
  const auto refuse = [&](Errc code, std::string why) {
    issues.push_back({"host " + node.name, Error(code, std::move(why))});
  };
  for (const IpPrefix& cidr : node.pod_cidrs) {
    if (!self && (!node.underlay.is_v4() || node.underlay.is_unspecified())) {
      refuse(Errc::kUnsupported,
             fmt::format("pod CIDR {} is not routed: its VXLAN endpoint {} is no "
                         "IPv4 address",
                         cidr.to_string(), node.underlay.to_string()));
      continue;
    }
    const auto [at, added] = overlay.nodes.try_emplace(cidr);
    if (!added) {
      refuse(Errc::kConflict,
             fmt::format("pod CIDR {} is given to two hosts; the first by name has it",
                         cidr.to_string()));
      continue;
    }
    at->second.underlay = self ? IpAddress() : node.underlay;
    overlay.routes.insert({cidr, cidr.is_v4() ? sources.v4 : sources.v6});
  }
}

}  // namespace

IpAddress overlay_gateway(IpFamily family) {
  return family == IpFamily::kV4
             ? IpAddress::v4(0xa9fe0102)
             : IpAddress::from_bytes({0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2});
}

MacAddress overlay_gateway_mac() { return MacAddress::from_bytes({0x02, 's', 'h', 'o', 'a', 'l'}); }

Overlay desired_overlay(const model::Desired& desired, bool vips, std::vector<Issue>& issues) {
  std::vector<const model::Node*> nodes;
  Sources sources;
  for (const model::Node& node : desired.nodes) {
    nodes.push_back(&node);
    if (node.name != desired.self)
      continue;
    if (node.underlay.is_v4())
      sources.v4 = node.underlay;
    sources.v6 = node.lan_v6.value_or(IpAddress());
  }
  std::sort(nodes.begin(), nodes.end(), [](const auto* a, const auto* b) { return *a < *b; });
  Overlay overlay;
  for (const model::Node* node : nodes)
    add_node(*node, desired, sources, overlay, issues);
  for (const IpPrefix& cidr : desired.service_cidrs)
    overlay.routes.insert({cidr, cidr.is_v4() ? sources.v4 : sources.v6});
  if (vips)
    for (const model::ServicePort& service : desired.services)
      for (const model::Frontend& frontend : service.frontends)
        if (frontend.kind == model::FrontendKind::kLoadBalancer ||
            frontend.kind == model::FrontendKind::kExternalIp)
          overlay.routes.insert(
              {IpPrefix::host(frontend.ip), frontend.ip.is_v4() ? sources.v4 : sources.v6});
  return overlay;
}

OverlayPlan plan_overlay(const model::Desired& desired, const Overlay& actual, bool prune,
                         bool vips) {
  OverlayPlan plan;
  const Overlay wanted = desired_overlay(desired, vips, plan.issues);
  std::set<IpPrefix> routed;
  for (const auto& [cidr, entry] : wanted.nodes) {
    const auto now = actual.nodes.find(cidr);
    if (now == actual.nodes.end() || now->second != entry)
      plan.set_nodes.emplace_back(cidr, entry);
  }
  for (const OverlayRoute& route : wanted.routes) {
    routed.insert(route.destination);
    if (!actual.routes.contains(route))
      plan.set_routes.push_back(route);
  }
  if (!prune)
    return plan;
  // A route that only has another source is replaced above, not deleted.
  for (const OverlayRoute& route : actual.routes)
    if (!routed.contains(route.destination))
      plan.delete_routes.push_back(route);
  for (const auto& [cidr, entry] : actual.nodes)
    if (!wanted.nodes.contains(cidr))
      plan.delete_nodes.push_back(cidr);
  return plan;
}

}  // namespace shoal::plan
