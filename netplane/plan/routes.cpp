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

const LanLink* link_to(const std::vector<LanLink>& links, const IpAddress& ip) {
  for (const LanLink& link : links)
    if (std::ranges::any_of(link.subnets, [&](const IpPrefix& net) { return net.contains(ip); }))
      return &link;
  return nullptr;
}

// How the host is known in that family, as packets of its pods are.
IpAddress own_address(const model::Node& node, IpFamily family) {
  return family == IpFamily::kV4 ? node.underlay : node.lan_v6.value_or(IpAddress());
}

void add_node(const model::Node& node, const model::Desired& desired, const Sources& sources,
              const OverlayOptions& options, Overlay& overlay, std::vector<Issue>& issues) {
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
    OverlayRoute route{cidr, cidr.is_v4() ? sources.v4 : sources.v6, {}, 0};
    const IpAddress via = own_address(node, cidr.family());
    if (const LanLink* link = options.native && !self ? link_to(*options.native, via) : nullptr) {
      route.via = via;
      route.link = link->link;
      at->second.native = true;
    }
    overlay.routes.insert(route);
  }
}

}  // namespace

IpAddress overlay_gateway(IpFamily family) {
  return family == IpFamily::kV4
             ? IpAddress::v4(0xa9fe0102)
             : IpAddress::from_bytes({0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2});
}

MacAddress overlay_gateway_mac() { return MacAddress::from_bytes({0x02, 's', 'h', 'o', 'a', 'l'}); }

Overlay desired_overlay(const model::Desired& desired, const OverlayOptions& options,
                        std::vector<Issue>& issues) {
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
    add_node(*node, desired, sources, options, overlay, issues);
  for (const IpPrefix& cidr : desired.service_cidrs)
    overlay.routes.insert({cidr, cidr.is_v4() ? sources.v4 : sources.v6, {}, 0});
  if (options.vips)
    for (const model::ServicePort& service : desired.services)
      for (const model::Frontend& frontend : service.frontends)
        if (frontend.kind == model::FrontendKind::kLoadBalancer ||
            frontend.kind == model::FrontendKind::kExternalIp)
          overlay.routes.insert(
              {IpPrefix::host(frontend.ip), frontend.ip.is_v4() ? sources.v4 : sources.v6, {}, 0});
  return overlay;
}

OverlayPlan plan_overlay(const model::Desired& desired, const Overlay& actual, bool prune,
                         const OverlayOptions& options) {
  OverlayPlan plan;
  const Overlay wanted = desired_overlay(desired, options, plan.issues);
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

std::vector<std::string> overlay_detours(const model::Desired& desired,
                                         const OverlayOptions& options) {
  std::vector<std::string> out;
  if (!options.native)
    return out;
  for (const model::Node& node : desired.nodes) {
    if (node.name == desired.self)
      continue;
    for (const IpPrefix& cidr : node.pod_cidrs) {
      const IpAddress via = own_address(node, cidr.family());
      if (link_to(*options.native, via) != nullptr)
        continue;
      const std::string why =
          via.is_unspecified()
              ? fmt::format("has no {} address", to_string(cidr.family()))
              : fmt::format("({}) is on no link of this host's uplinks", via.to_string());
      out.push_back(fmt::format(
          "network.mode is native, and host {} {}: its pods in {} are reached by the overlay, with "
          "its MTU. Give the two hosts addresses of one subnet, or set network.mode to vxlan on "
          "all hosts",
          node.name, why, cidr.to_string()));
    }
  }
  std::ranges::sort(out);
  return out;
}

}  // namespace shoal::plan
