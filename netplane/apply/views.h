// SPDX-License-Identifier: Apache-2.0
// What a DataPlane shows of itself: `shoal service show`, `shoal status` and the metrics.
#pragma once

#include "netplane/kernel/bpf/data_maps.h"
#include "netplane/model/model.h"

#include <cstdint>
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
  model::ServiceIndex index = 0;
  std::vector<model::Frontend> frontends;  // that lead here
  std::uint32_t slots = 0;                 // of the ring; 0: it refuses
  std::vector<ShareView> shares;           // by group
  std::vector<BackendView> backends;       // by address
  kernel::ServiceStats stats;
  std::vector<std::string> errors;  // of the last apply
};

struct ServiceCounters {
  std::string name;
  kernel::ServiceStats stats;
};

// Entries in use of a table that can run full.
struct TableUse {
  std::string table;  // "backends", "ring_blocks", "services", "frontends", "vips"
  std::uint32_t used = 0;
  std::uint32_t size = 0;
};

struct Counters {
  std::vector<ServiceCounters> services;  // by name
  std::vector<kernel::DropCount> drops;
  std::vector<TableUse> tables;
  std::uint64_t plans = 0;
  std::uint64_t operations = 0;
  std::uint64_t errors = 0;
  std::uint64_t repairs = 0;        // of audits
  std::uint64_t announcements = 0;  // gratuitous ARP sent
};

}  // namespace shoal::apply
