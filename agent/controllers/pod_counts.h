// SPDX-License-Identifier: Apache-2.0
// How many pods a ReplicaSet has, in each sense of the word. Counted from the pods themselves and
// from membership: a ReplicaSet's stored status is for API clients and is always a little behind.
#pragma once

#include "agent/controllers/plan.h"

#include <cstdint>
#include <optional>
#include <vector>

namespace shoal::controllers {

struct PodCounts {
  std::int64_t existing = 0;  // not finished; terminating ones included
  std::int64_t active = 0;    // neither finished nor terminating
  std::int64_t labeled = 0;   // active and with all labels of the template
  std::int64_t ready = 0;
  std::int64_t available = 0;
  std::optional<Duration> next_available;  // time alone makes one more available then
};

// Pods that have this ReplicaSet as their controller.
std::vector<ObjectPtr> pods_of(const View& view, const Object& replica_set);
PodCounts count_pods(const World& world, const Object& replica_set,
                     const std::vector<ObjectPtr>& pods);

}  // namespace shoal::controllers
