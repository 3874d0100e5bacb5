// SPDX-License-Identifier: Apache-2.0
// Desired: from objects to what the network of one host should be (netplane/model). Pure, and
// computed on every host from its own replica and membership, so that the data plane goes on
// without the store.
//
// Backends of a service with a selector: its pods that have an IP and are bound to a host; kReady
// when their host reports them ready and is alive, else kTerminating: a pod that stops being ready,
// or whose host is away, gets no new connections and keeps those it has. Of a service without a
// selector: the EndpointSlices that name it; stored ones of services with a selector are never
// read. Desired::pods is left empty: only the node agent knows interfaces and MACs, and adds them.
#pragma once

#include "agent/view/members.h"
#include "agent/view/view.h"
#include "netplane/base/ip.h"
#include "netplane/model/model.h"

#include <compare>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace shoal::desired {

struct Inputs {
  std::string self;
  std::vector<IpPrefix> cluster_cidrs;
};

enum class FindingKind : std::uint8_t {
  kGroupWithoutReady,    // a weight group has no ready pod: its share goes to the others
  kGroupSelectsNothing,  // a weight group matches none of the service's pods
  kNoReadyBackend,       // nobody can be served: connections are refused
  kBadWeights,   // an annotation that does not parse (the API refuses those): taken as absent
  kBadEndpoint,  // an EndpointSlice entry that cannot be a backend
};
std::string_view reason_of(FindingKind kind);  // an Event's reason

// Something about a service that its owner should know.
struct Finding {
  std::string ns;
  std::string service;
  FindingKind kind;
  std::string message;
  auto operator<=>(const Finding&) const = default;
};

struct Computed {
  model::Desired desired;
  std::vector<Finding> findings;  // sorted
  bool operator==(const Computed&) const = default;
};

// The whole, from scratch.
Computed compute_desired(const view::View& view, const view::Members& members,
                         const Inputs& inputs);
// One service's part.
struct ServiceResult {
  std::vector<model::ServicePort> ports;
  std::vector<IpAddress> vips;  // LoadBalancer addresses, announced by one member each
  std::vector<Finding> findings;
  bool operator==(const ServiceResult&) const = default;
};
ServiceResult compute_service(const view::View& view, const view::Members& members,
                              const store::Object& service);
std::vector<model::Node> compute_nodes(const view::View& view, const view::Members& members);
// Who answers ARP and NDP for a VIP: rendezvous over members that are alive and whose Node is
// ready, or merely alive when none is ready. Empty: nobody.
std::string announcer_of(const IpAddress& vip, const view::View& view,
                         const view::Members& members);

// The same result, kept up to date at the cost of what changes touch.
class Builder {
public:
  Builder(const view::View& view, Inputs inputs);
  // After the view has taken the change in.
  void on_change(const view::Change& change);
  // Recomputes what is dirty. The reference holds until the next call.
  const Computed& build(const view::Members& members);
  // Something may differ since the last build.
  bool dirty(const view::Members& members) const;

private:
  using Key = std::pair<std::string, std::string>;  // namespace, name
  void touch_pod(const store::Object& pod);
  void take_members(const view::Members& members);

  const view::View& view_;
  Inputs inputs_;
  view::Members members_;
  std::map<Key, ServiceResult> services_;
  std::set<Key> dirty_;
  bool all_dirty_ = true;
  bool nodes_dirty_ = true;
  Computed result_;
};

}  // namespace shoal::desired
