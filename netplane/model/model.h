// SPDX-License-Identifier: Apache-2.0
// What the network of one host should be, as plain values: the input of netplane/plan.
//
// The agent computes a Desired from its replica (objects, statuses, membership) and hands it to
// netplane/apply. Nothing here does IO, reads a clock, or knows Kubernetes' JSON. Every type is
// comparable, so that "nothing changed" is one comparison, and order never matters: the planner
// sorts. Ports are in host byte order.
#pragma once

#include "netplane/base/ip.h"
#include "netplane/base/shared_vector.h"

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace shoal::model {

// One address and port that clients use.
enum class FrontendKind : std::uint8_t {
  kClusterIp,
  kNodePort,  // on an address of this host, which is not the service's alone
  kLoadBalancer,
  kExternalIp,
  kHostPort,  // of a pod of this host, on an address of the host
};
std::string_view to_string(FrontendKind kind);

struct Frontend {
  IpAddress ip;
  std::uint16_t port = 0;
  L4Proto proto = L4Proto::kTcp;
  FrontendKind kind = FrontendKind::kClusterIp;
  auto operator<=>(const Frontend&) const = default;
};

// Where a connection can go.
enum class BackendState : std::uint8_t {
  kReady,        // gets new connections
  kServing,      // stopping, and still answers: gets some only when no backend at all is ready
  kTerminating,  // gets none (stopped answering, or not ready now); established connections go on
};

struct Backend {
  IpAddress ip;
  std::uint16_t port = 0;
  // Generation of the lease on `ip`: a frame meant for an earlier pod with this address is told
  // apart.
  std::uint16_t generation = 0;
  BackendState state = BackendState::kReady;
  std::string group;  // the weight group it belongs to; empty when the service has no groups
  std::string
      host;         // node name, of a pod or of a process at the host's own address; empty: outside
  std::string pod;  // "namespace/name", for people
  auto operator<=>(const Backend&) const = default;
};

// A share of new connections: weight / sum of weights, whatever the number of backends in the
// group.
struct WeightGroup {
  std::string name;  // e.g. "version=blue"
  std::uint32_t weight = 0;
  auto operator<=>(const WeightGroup&) const = default;
};
inline constexpr std::uint32_t kWeightMax = 1'000'000;

// A group of a Service, over all its ports and both families, whose connections are to be closed.
struct DrainGroup {
  std::string ns;
  std::string name;   // the Service's
  std::string group;  // WeightGroup::name
  auto operator<=>(const DrainGroup&) const = default;
};

// Whose connections a ServicePort is for. Clients are inside when they are pods, or processes of a
// member host; all others are outside. A Service whose policies differ between the two (or that
// prefers near backends) is two ServicePorts with the same frontends, each with a ring of its own.
// kAll: one ring for both; its ClusterIPs are for clients inside all the same.
// kInsideExternal: clients inside, on the addresses that are for those outside too, when that
// differs from the ClusterIP (internalTrafficPolicy is about the ClusterIP alone); kInside has the
// ClusterIPs only then.
enum class Clients : std::uint8_t { kAll, kInside, kOutside, kInsideExternal };
std::string_view to_string(Clients clients);
constexpr bool for_inside(Clients clients) { return clients != Clients::kOutside; }
constexpr bool for_outside(Clients clients, FrontendKind kind) {
  return (clients == Clients::kAll || clients == Clients::kOutside) &&
         kind != FrontendKind::kClusterIp;
}

// Client address affinity may last this long (a day, as the Kubernetes API has it).
inline constexpr std::uint32_t kAffinityMax_s = 86'400;

// One port of a Service in one family: what the data plane balances. A Service with two ports is
// two of these, and one of two families twice as many: no client of one family is led to a backend
// of the other, and each has a ring of its own.
struct ServicePort {
  std::string ns;
  std::string name;
  std::string port_name;  // may be empty when the Service has a single port
  L4Proto proto = L4Proto::kTcp;
  IpFamily family = IpFamily::kV4;  // of all its frontends and backends
  std::vector<Frontend> frontends;
  // Empty: all backends are even. Otherwise a backend in no listed group gets nothing, a group with
  // no ready backend hands its share to the others in proportion, and weight 0 gets no new
  // connection.
  std::vector<WeightGroup> groups;
  SharedVector<Backend> backends;
  Clients clients = Clients::kAll;
  // How long a client stays with the backend that it had last; 0: each connection picks anew.
  std::uint32_t affinity_s = 0;
  // The outside clients that may connect to the LoadBalancer frontends; empty: all. Others are
  // dropped, as a firewall would.
  std::vector<IpPrefix> source_ranges;
  auto operator<=>(const ServicePort&) const = default;
  // "ns/name:port_name/PROTO", with "@v6" for IPv6, and then "@outside" for Clients::kOutside and
  // "@external" for kInsideExternal: unique in a cluster, and the part with the ClusterIP sorts
  // before the others, so that it is the one that keeps the ring when one becomes two.
  std::string id() const;
};

// Alike but for their groups and backends: what their connections come to is the same.
bool same_but_backends(const ServicePort& a, const ServicePort& b);

// An address that is leased to a pod, and the generation of the lease.
struct PodAddress {
  IpAddress ip;
  std::uint16_t generation = 0;
  auto operator<=>(const PodAddress&) const = default;
};

// A pod of this host that has a network namespace of its own.
struct LocalPod {
  std::string pod;  // "namespace/name"
  std::string uid;
  std::vector<PodAddress> addresses;  // at most one of each family, IPv4 first
  std::uint32_t host_ifindex = 0;     // of the host's end of its veth
  MacAddress pod_mac;
  MacAddress host_mac;
  auto operator<=>(const LocalPod&) const = default;
};

// A member host, this one included.
struct Node {
  std::string name;
  IpAddress underlay;               // where its VXLAN endpoint answers
  std::vector<IpPrefix> pod_cidrs;  // at most one of each family
  bool alive = true;                // false: routes stay, its backends do not count
  std::optional<IpAddress> lan_v6;  // its own IPv6 address beside `underlay`, if it has one
  // The network takes no service address from it as a source: its backends cannot answer outside
  // clients by themselves, and are reached by SNAT. Of this host itself it says nothing.
  bool snat = false;
  bool answers = false;  // its data plane can be asked whose a connection is
  auto operator<=>(const Node&) const = default;
};

struct Desired {
  std::string self;  // this host's node name
  std::vector<Node> nodes;
  std::vector<LocalPod> pods;  // of this host
  std::vector<ServicePort> services;
  std::vector<IpAddress> announced_vips;  // that this host answers ARP / NDP for
  std::vector<IpPrefix> cluster_cidrs;    // pod and service ranges: never masqueraded towards
  std::vector<IpPrefix> service_cidrs;    // ClusterIPs are from here
  bool operator==(const Desired&) const = default;
};

}  // namespace shoal::model
