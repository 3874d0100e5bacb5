// SPDX-License-Identifier: Apache-2.0
// What a DataPlane shows of itself: `shoal service show`, `shoal status` and the metrics.
#pragma once

#include "netplane/apply/trace.h"
#include "netplane/kernel/bpf/data_maps.h"
#include "netplane/kernel/rtnl/rtnl.h"
#include "netplane/model/model.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace shoal::apply {

// A weight group, or all backends of a service without groups (then its name is empty).
struct ShareView {
  std::string group;
  std::uint32_t weight = 0;
  double asked = 0;         // weight / sum of weights
  std::uint32_t slots = 0;  // in the ring now
  double effective = 0;     // slots / slots of the ring
  std::uint32_t backends = 0;
  std::uint32_t ready = 0;   // those that have slots
  std::uint64_t picked = 0;  // connects and flows of its backends
};

struct BackendView {
  model::Backend backend;
  model::BackendId id = model::kNoBackend;  // 0: has no entry, since it never had connections
  std::uint32_t epoch = 0;
  bool local = false;
  std::uint32_t slots = 0;
  double effective = 0;
  kernel::BackendStats stats;
};

// What the data plane itself does for one service port.
struct ServiceView {
  std::string name;  // model::ServicePort::id()
  model::Clients clients = model::Clients::kAll;
  IpFamily family = IpFamily::kV4;
  model::ServiceIndex index = 0;
  std::vector<model::Frontend> frontends;  // that lead here
  std::uint32_t slots = 0;                 // of the ring; 0: it refuses
  std::vector<ShareView> shares;           // by group
  std::vector<BackendView> backends;       // by address
  kernel::ServiceStats stats;
  std::vector<std::string> errors;  // of the last apply
};

// The devices and sizes that the pods' network stands on.
struct NetworkView {
  bool native_routes = false;
  std::vector<kernel::Uplink> uplinks;  // the main one first
  std::uint32_t pod_mtu = 0;
  std::uint32_t overlay_mtu = 0;
  std::vector<std::string> detours;  // hosts that native routes do not lead to, a sentence each
};

struct ServiceCounters {
  std::string name;
  kernel::ServiceStats stats;
};

// Entries in use of a table that can run full.
struct TableUse {
  std::string table;  // "backends", "ring_blocks", "services", "frontends", "vips"; once counted
                      // also "flows", "affinity"
  std::uint32_t used = 0;
  std::uint32_t size = 0;
};

// A table that the programs fill, as counted by the last whole pass over it (table_census.h).
struct LruUse {
  std::string table;  // "flows", "affinity"
  kernel::Tally tally;
  std::uint32_t size = 0;
  std::uint64_t age_s = 0;  // since the pass ended
  double pressure() const { return size == 0 ? 0 : static_cast<double>(tally.active) / size; }
};
inline constexpr double kPressureHigh = 0.8;  // from here on `shoal status` says so

// An entry of the flow table by the roles of its addresses, with the names that the desired state
// has for them.
struct FlowView {
  kernel::Flow flow;
  SocketAddress client;
  SocketAddress frontend;
  SocketAddress backend;
  std::string service;     // "namespace/name"; empty: of none that is known
  std::string pod;         // the backend's
  std::string client_pod;  // when the client is a pod that is known here
};

struct FlowFilter {
  std::string service;  // "namespace/name"; empty: all
  std::string pod;      // "namespace/name", as backend or client; empty: all
  std::size_t limit = 0;
};

// A bound on one answer; a default table is read whole.
inline constexpr std::size_t kFlowsReadMax = 262'144;

struct FlowList {
  std::vector<FlowView> flows;  // in the table's order
  std::size_t read = 0;         // entries looked at
  bool complete = true;         // false: the limit or kFlowsReadMax ended it
};

// A reading of the flow table under way: names as they were when it began, and what was found.
struct FlowReading {
  FlowFilter filter;
  std::map<IpAddress, std::string> pods;
  std::map<model::ServiceIndex, std::string> services;
  kernel::TableWalk walk;
  FlowList list;
};

struct Counters {
  std::vector<ServiceCounters> services;  // by name
  std::vector<kernel::DropCount> drops;
  std::vector<TableUse> tables;
  std::vector<LruUse> lru;  // once counted
  std::uint64_t plans = 0;
  std::uint64_t operations = 0;
  std::uint64_t errors = 0;
  std::uint64_t repairs = 0;        // of audits
  std::uint64_t announcements = 0;  // gratuitous ARP sent
};

}  // namespace shoal::apply
