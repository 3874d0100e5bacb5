// SPDX-License-Identifier: Apache-2.0
// What pods ask of a host, and what a host has for pods. Pure.
#pragma once

#include "agent/view/view.h"

#include <cstdint>

namespace shoal::view {

struct Requests {
  std::int64_t cpu_milli = 0;
  std::int64_t memory_bytes = 0;
  std::int64_t storage_bytes = 0;  // ephemeral-storage
  bool operator==(const Requests&) const = default;
};

// Kubernetes' sum: the containers and sidecars, or the init container that needs most beside the
// sidecars before it, whichever is more. What cannot be read counts as nothing.
Requests pod_requests(const Object& pod);

// No container requests or limits cpu or memory: Kubernetes' QoS class BestEffort.
bool is_best_effort(const Object& pod);

// status.allocatable; INT64_MAX of what the node does not report.
Requests node_allocatable(const Object& node);

}  // namespace shoal::view
