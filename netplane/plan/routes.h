// SPDX-License-Identifier: Apache-2.0
// The pods' network between hosts: which pod CIDR lies behind which host, as map entries and
// routes.
//
// All member hosts' pod CIDRs, this host's own included, are routed to the VXLAN device through one
// on-link gateway whose MAC is fixed, so that no ARP crosses the overlay. BPF at the device's
// egress finds the host by the map. This host's own CIDR is there too, behind the /32 of each pod:
// a packet for an address that no pod has is dropped with a reason and does not leave by the
// default route. Dead hosts keep their routes: they may only seem dead. The service ranges are
// routed there too, for processes whose sockets no hook sees: BPF balances them at the device.
//
// CIDRs of both families; the tunnel itself is IPv4, and another underlay gives an issue.
//
// With native routes a pod CIDR is routed to its host's own address of that family, where that is
// on a link of this host. Where it is not, and for what crosses the hosts on a client's behalf, the
// overlay stays.
#pragma once

#include "netplane/model/data_plane.h"
#include "netplane/model/model.h"
#include "netplane/plan/ops.h"

#include <compare>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace shoal::plan {

IpAddress overlay_gateway(IpFamily family);  // 169.254.1.2, fe80::2
MacAddress overlay_gateway_mac();            // SHOAL_OVERLAY_MAC of bpf/abi

struct OverlayRoute {
  IpPrefix destination;
  // This host's own address of that family: what a host process is seen as by a pod elsewhere.
  // Unspecified: it has none, or none is known.
  IpAddress source;
  IpAddress via;           // native: the other host; unspecified: over the overlay
  std::uint32_t link = 0;  // native: the device that it is on
  auto operator<=>(const OverlayRoute&) const = default;
};

// A device of this host, and what it reaches without a router.
struct LanLink {
  std::uint32_t link = 0;
  std::vector<IpPrefix> subnets;
  bool operator==(const LanLink&) const = default;
};

struct OverlayOptions {
  // Also route load balancers' and external addresses, which processes of this host reach by socket
  // hooks otherwise.
  bool vips = false;
  std::optional<std::vector<LanLink>> native;  // nothing: all goes by the overlay
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
Overlay desired_overlay(const model::Desired& desired, const OverlayOptions& options,
                        std::vector<Issue>& issues);
OverlayPlan plan_overlay(const model::Desired& desired, const Overlay& actual, bool prune = true,
                         const OverlayOptions& options = {});

// The hosts that native routes cannot lead to, a sentence each, with why and what mends it.
std::vector<std::string> overlay_detours(const model::Desired& desired,
                                         const OverlayOptions& options);

}  // namespace shoal::plan
