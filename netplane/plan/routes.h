// SPDX-License-Identifier: Apache-2.0
// The overlay of one host: which pod CIDR lies behind which host, as map entries and routes.
//
// All member hosts' pod CIDRs, this host's own included, are routed to the VXLAN device through one
// on-link gateway whose MAC is fixed, so that no ARP crosses the overlay. BPF at the device's
// egress finds the host by the map. This host's own CIDR is there too, behind the /32 of each pod:
// a packet for an address that no pod has is dropped with a reason and does not leave by the
// default route. Dead hosts keep their routes: they may only seem dead. The service ranges are
// routed there too, for processes whose sockets no hook sees: BPF balances them at the device.
//
// CIDRs of both families; the tunnel itself is IPv4, and another underlay gives an issue.
#pragma once

#include "netplane/model/data_plane.h"
#include "netplane/model/model.h"
#include "netplane/plan/ops.h"

#include <compare>
#include <map>
#include <set>
#include <vector>

namespace shoal::plan {

IpAddress overlay_gateway(IpFamily family);  // 169.254.1.2, fe80::2
MacAddress overlay_gateway_mac();            // SHOAL_OVERLAY_MAC of bpf/abi

struct OverlayRoute {
  IpPrefix destination;
  // This host's own address of that family: what a host process is seen as by a pod elsewhere.
  // Unspecified: it has none, or none is known.
  IpAddress source;
  auto operator<=>(const OverlayRoute&) const = default;
};

struct Overlay {
  std::map<IpPrefix, model::NodeEntry> nodes;
  std::set<OverlayRoute> routes;
  bool operator==(const Overlay&) const = default;
};

struct OverlayPlan {
  // In the order in which they are to be done.
  std::vector<std::pair<IpPrefix, model::NodeEntry>> set_nodes;
  std::vector<OverlayRoute> set_routes;
  std::vector<OverlayRoute> delete_routes;
  std::vector<IpPrefix> delete_nodes;
  std::vector<Issue> issues;
  bool empty() const {
    return set_nodes.empty() && set_routes.empty() && delete_routes.empty() && delete_nodes.empty();
  }
};

// What should be. Issues are appended.
// `vips`: also route load balancers' and external addresses, which processes of this host reach by
// socket hooks otherwise.
Overlay desired_overlay(const model::Desired& desired, bool vips, std::vector<Issue>& issues);
OverlayPlan plan_overlay(const model::Desired& desired, const Overlay& actual, bool prune = true,
                         bool vips = false);

}  // namespace shoal::plan
