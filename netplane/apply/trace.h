// SPDX-License-Identifier: Apache-2.0
// What the data plane would do with a new connection, step by step and with the reason of each:
// `shoal trace`. Pure: it decides as the BPF programs do (bpf/lib/balance.h, lb.h, deliver.h and
// sock_lb.bpf.c), over what was read back from the maps, and not over what the agent meant to
// write.
//
// Three kinds of clients take three ways. Sockets of pods and of this host's processes are
// translated at connect(), by a random number: then the shares are the answer. Packets from outside
// (and of pods, where the socket hooks are off) pick by the hash of their addresses and ports: with
// the client's address and port known, the one backend is the answer.
#pragma once

#include "netplane/kernel/bpf/data_maps.h"
#include "netplane/model/data_plane.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::apply {

enum class TraceOrigin : std::uint8_t { kPod, kHost, kOutside };

struct TraceQuery {
  TraceOrigin origin = TraceOrigin::kOutside;
  std::string pod;                  // kPod: "namespace/name"
  std::optional<IpAddress> client;  // the pod's; an outside client's when it is known
  SocketAddress to;
  L4Proto proto = L4Proto::kTcp;
  std::optional<std::uint16_t> source_port;

  // Known when client and source_port are.
  std::optional<kernel::FlowTuple> tuple() const;
};

// What is known of a backend besides its map entry.
struct TraceBackend {
  std::string pod;
  std::string group;
  std::string host;
};

struct TraceWorld {
  model::DataPlane maps;
  std::uint64_t hash_seed = 0;
  bool socket_hooks = true;
  bool masquerade = true;
  IpAddress host;  // this host's own address of the destination's family; unspecified: none known
  std::vector<IpPrefix> cluster;  // pod and service ranges: never masqueraded towards
  std::vector<IpPrefix> service_cidrs;
  // Names, as far as the desired state has them.
  std::map<model::ServiceIndex, std::string> services;
  std::map<model::BackendId, TraceBackend> backends;
  std::map<IpAddress, std::string> pods;
  std::map<IpAddress, std::string> hosts;  // by underlay and IPv6 address
  // What the tables hold for exactly this client.
  std::optional<kernel::Flow> flow;
  std::optional<kernel::Affinity> affinity;
};

enum class TraceVerdict : std::uint8_t {
  kBackend,  // this one
  kShares,   // one of these, by their shares
  kRefused,  // told so at once: RST, ICMP port unreachable, ECONNREFUSED
  kDropped,
  kPod,      // no service: straight to a pod of this host
  kOverlay,  // no service: to another host's pod
  kNative,   // the same, by a route to its host
  kStack,    // no service: the host's own routes decide
};
std::string_view to_string(TraceVerdict verdict);  // "backend", "shares", ...

struct TraceStep {
  std::string stage;  // "hook", "frontend", "ranges", "flow", "affinity", "ring", "pick", ...
  std::string text;
};

struct TraceShare {
  model::BackendId id = model::kNoBackend;
  TraceBackend name;
  SocketAddress address;
  std::string way;  // "pod here", "overlay to h2 (198.18.0.12)", "host's routes"
  std::uint32_t slots = 0;
  double share = 0;
};

struct Trace {
  std::string client;  // "pod default/web-1 (10.244.1.5)", for people
  std::vector<TraceStep> steps;
  TraceVerdict verdict = TraceVerdict::kStack;
  std::string reason;   // kRefused, kDropped: the name that `shoal drops` counts it under
  std::string service;  // model::ServicePort::id(); empty: none
  std::optional<std::uint32_t> hash;
  std::optional<std::uint32_t> slot;
  TraceShare picked;        // kBackend, and where a drop is for what became of it; else its id is 0
  std::uint32_t slots = 0;  // of the ring
  std::vector<TraceShare> shares;  // of the ring, the largest first
};

// Which service a packet of this client to this address is for, if any: whose affinity to look up.
std::optional<model::ServiceIndex> traced_service(const TraceQuery& query,
                                                  const model::DataPlane& maps);

Trace trace(const TraceQuery& query, const TraceWorld& world);

}  // namespace shoal::apply
