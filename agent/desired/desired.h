// SPDX-License-Identifier: Apache-2.0
// Desired: from objects to what the network of one host should be (netplane/model). Pure, and
// computed on every host from its own replica and membership, so that the data plane goes on
// without the store.
//
// Backends of a service with a selector: its pods that have an IP and are bound to a host. kReady
// when their host reports them ready and is alive; kServing when they are being deleted and still
// pass their probes; else kTerminating: a pod that stops being ready, or whose host is away, gets
// no new connections and keeps those it has. One in its host's network is a process of the host at
// the host's address, of generation 0. Of a service without a selector: the EndpointSlices
// that name it; stored ones of services with a selector are never read. Desired::pods is left
// empty: only the node agent knows interfaces and MACs, and adds them.
//
// A hostPort of a pod of this host is a ServicePort too, named "pod.NAME": a Service's name has no
// dot.
#pragma once

#include "agent/desired/host_index.h"
#include "agent/view/members.h"
#include "agent/view/view.h"
#include "netplane/base/ip.h"
#include "netplane/model/data_plane.h"
#include "netplane/model/model.h"

#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace shoal::desired {

// A port of this host itself.
struct HostPort {
  L4Proto proto = L4Proto::kTcp;
  std::uint16_t number = 0;
  auto operator<=>(const HostPort&) const = default;
};

struct Inputs {
  std::string self;
  std::vector<IpPrefix> cluster_cidrs;
  std::vector<IpAddress> node_addresses = {};  // of this host, that node ports are served on
  std::set<HostPort> agent_ports = {};         // never a frontend: they reach the agent
  std::vector<IpPrefix> service_cidrs = {};
  // Hosts whose backends outside clients reach by SNAT; snat: all.
  bool snat = false;
  std::set<std::string> snat_hosts = {};
  bool operator==(const Inputs&) const = default;
};

enum class FindingKind : std::uint8_t {
  kGroupWithoutReady,    // a weight group has no ready pod: its share goes to the others
  kGroupSelectsNothing,  // a weight group matches none of the service's pods
  kNoReadyBackend,       // nobody can be served: connections are refused
  kBadWeights,    // an annotation that does not parse (the API refuses those): taken as absent
  kBadEndpoint,   // an EndpointSlice entry that cannot be a backend
  kPortConflict,  // an address and port that somebody else has
  kPortReserved,  // a port of the agent itself
  kNoSuchFamily,  // a hostPort on an address of a family that the pod does not have
};
std::string_view reason_of(FindingKind kind);  // an Event's reason

// Something about a service or a pod that its owner should know.
struct Finding {
  view::Ref about;
  FindingKind kind;
  std::string message;
  bool local = false;  // about this host: no other finds it
  auto operator<=>(const Finding&) const = default;
};

// A load balancer whose outside clients are served only by hosts with a backend of their own: what
// healthCheckNodePort answers on this host.
struct HealthCheck {
  std::uint16_t port = 0;
  std::string ns;
  std::string service;
  std::uint32_t local_ready = 0;  // backends
  auto operator<=>(const HealthCheck&) const = default;
};

struct Computed {
  model::Desired desired;
  std::vector<HealthCheck> health_checks;  // by port
  std::set<Finding> findings;
  bool operator==(const Computed&) const = default;
};

// The whole, from scratch.
Computed compute_desired(const view::View& view, const view::Members& members,
                         const Inputs& inputs);

// What endpoints need to know of the host that they are on.
struct Host {
  std::string zone;  // empty: none is known
  bool alive = false;
};

// What the parts depend on besides their own object.
struct Scene {
  const view::View& view;
  const view::Members& members;
  const Inputs& inputs;
  std::map<std::string, Host, std::less<>> hosts;  // that have a Node
  std::string zone;                                // of this host; empty: none is known
  std::set<IpAddress> host_addresses;              // of member hosts: no service's alone
  const Host* host(std::string_view name) const {
    const auto at = hosts.find(name);
    return at == hosts.end() ? nullptr : &at->second;
  }
  HostIndex by_address;
};
Scene make_scene(const view::View& view, const view::Members& members, const Inputs& inputs);

// A LoadBalancer address, announced by one member.
struct Vip {
  IpAddress ip;
  // externalTrafficPolicy: Local. The hosts with a backend of their own come first: those with a
  // ready one, or else those with one that is stopping and still answers.
  bool local = false;
  std::set<std::string> ready_hosts, serving_hosts;
  auto operator<=>(const Vip&) const = default;
};

// One service's or one pod's part.
struct Part {
  store::Revision created = 0;
  std::vector<model::ServicePort> ports;
  std::vector<Vip> vips;
  std::optional<HealthCheck> health;
  // Frontends that nothing keeps unique: users write their addresses.
  std::vector<model::FrontendKey> contestable;
  std::vector<Finding> findings;
  std::vector<std::size_t> places;  // of its ports in Desired::services; the builder's
};
Part compute_service(const Scene& scene, const store::Object& service);
Part compute_host_ports(const Scene& scene, const store::Object& pod);  // a pod of this host

std::vector<model::Node> compute_nodes(const view::View& view, const view::Members& members,
                                       const Inputs& inputs);
// Whose ports stand where.
struct OwnedPorts {
  const view::Ref* owner;
  store::Revision created;
  std::size_t first, count;  // in Desired::services
};

// Who answers ARP and NDP for a VIP: rendezvous over members that are alive, whose Node is ready
// and takes pods; else over the ready ones; else over those merely alive. Empty: nobody.
std::string announcer_of(const Vip& vip, const view::View& view, const view::Members& members);

// The same result, kept up to date at the cost of what changes touch.
class Builder {
public:
  Builder(const view::View& view, Inputs inputs);
  // After the view has taken the change in.
  void on_change(const view::Change& change);
  void set_inputs(Inputs inputs);
  // Recomputes what is dirty. The reference holds until the next call.
  const Computed& build(const view::Members& members);
  const Computed& last() const { return result_; }
  // Where in Desired::services the last two builds may differ, in order, when nothing else of what
  // the data plane is given does; those that are gone are not named. New services stand at the end,
  // and the last one takes the place of one that goes.
  const std::optional<std::vector<std::size_t>>& changed() const { return changed_; }
  // What was found since the last time, and still holds.
  std::set<Finding> take_found() { return std::exchange(found_, {}); }
  // Goes into Desired::pods as it is.
  void set_local_pods(std::vector<model::LocalPod> pods);
  // Something may differ since the last build.
  bool dirty(const view::Members& members) const;

  // A part is found by its object.
  using Parts = std::map<view::Ref, Part>;

private:
  void touch_pod(const store::Object& pod);
  void touch_node(const view::Change& change);
  void take_members(const view::Members& members);
  Part compute(const view::Ref& ref) const;
  void keep(const view::Ref& ref, Part part);
  bool exists(const view::Ref& ref, const Part& part) const;
  bool patch(const view::Ref& ref, Part& part);
  bool is_shared(const Part& part) const;
  void place(Parts::value_type& owned, Part& part);
  void drop_place(std::size_t at);
  void find(const Part& before, const Part& now);
  void put_together();
  void tidy_changed();

  const view::View& view_;
  Inputs inputs_;
  view::Members members_;
  Parts parts_;
  std::set<view::Ref> dirty_;
  std::optional<Scene> scene_;  // while no host, member or input changes
  bool all_dirty_ = true;
  bool nodes_dirty_ = true;
  bool pods_dirty_ = false;
  Computed result_;
  // Whose port stands at each place of Desired::services.
  struct Place {
    Parts::value_type* owned = nullptr;
    std::size_t port = 0;
  };
  std::vector<Place> places_;
  std::set<model::FrontendKey> contested_;
  std::set<Finding> found_;
  std::optional<std::vector<std::size_t>> changed_;
};

}  // namespace shoal::desired
