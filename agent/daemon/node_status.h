// SPDX-License-Identifier: Apache-2.0
// The status that a host reports of itself: Node.status in Kubernetes' spelling. Read from the host
// when it is made.
#pragma once

#include "agent/node/eviction.h"
#include "netplane/base/clock.h"
#include "netplane/base/ip.h"

#include <boost/json/object.hpp>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::daemon {

// Of this host, and what of it is for pods: the rest is kept for the host itself.
struct NodeResources {
  std::int64_t cpu_milli = 0;
  std::int64_t memory_bytes = 0;
  std::int64_t pods_cpu_milli = 0;
  std::int64_t pods_memory_bytes = 0;
  std::int64_t disk_bytes = 0;  // of the file system of the state folder; 0: not known
  std::int64_t pods_disk_bytes = 0;
};
// Pods get at least half of CPU and memory, whatever is to be kept; of the disk, all but the
// share that is to stay free.
NodeResources node_resources(std::int64_t kept_cpu_milli, std::int64_t kept_memory_bytes,
                             const std::filesystem::path& state_dir, unsigned kept_disk_percent);

// A condition beside Ready.
struct PressureFacts {
  node::Pressure::Kind kind = node::Pressure::Kind::kMemory;
  bool is = false;
  WallTime since;
};

struct NodeFacts {
  std::string name;
  std::vector<IpAddress> addresses;  // IPv4 first
  bool ready = false;
  std::string message;  // why not, or what is limited
  WallTime ready_since;
  std::string runtime;  // "crun"
  NodeResources resources;
  bool answers = false;  // its data plane can be asked whose a connection is
  std::vector<PressureFacts> pressure;
};

// In Kubernetes' words: "MemoryPressure", and the reason of it ("KubeletHasInsufficientMemory").
std::string_view condition_of(node::Pressure::Kind kind);
std::string_view pressure_reason(node::Pressure::Kind kind, bool is);

boost::json::object node_status(const NodeFacts& facts);

}  // namespace shoal::daemon
