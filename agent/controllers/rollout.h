// SPDX-License-Identifier: Apache-2.0
// The arithmetic of a rollout: how large each ReplicaSet of a Deployment should be next. Numbers
// in, numbers out; the rules and the rounding are Kubernetes' (maxSurge up, maxUnavailable down,
// never both 0).
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <optional>
#include <vector>

namespace shoal::controllers {

struct Rollout {
  std::int64_t replicas = 1;
  std::int64_t max_surge = 0;
  std::int64_t max_unavailable = 0;
  bool recreate = false;
};
// From a Deployment's spec (with or without its defaults filled in).
Rollout rollout_of(const boost::json::object& deployment);
// "25%" or 3 of `total`. Text that is neither counts as 0 (validation refuses it).
std::int64_t resolve_int_or_percent(const boost::json::value* value, std::int64_t total,
                                    bool round_up, std::int64_t otherwise);

struct SetSize {
  std::int64_t wanted = 0;     // spec.replicas
  std::int64_t available = 0;  // of its pods
  std::int64_t pods = 0;       // that exist and are not finished; terminating ones included
  // What the Deployment asked for when this set was last sized, of its annotations.
  std::optional<std::int64_t> asked_replicas;
  std::optional<std::int64_t> asked_max;  // replicas + surge
  std::int64_t active = 0;  // pods that are not on their way out; more than wanted while it shrinks
};

// Sets from the oldest to the newest by creation. `newest` is the index of the one with the present
// template. Answers the next wanted size of each.
std::vector<std::int64_t> next_sizes(const Rollout& rollout, const std::vector<SetSize>& sets,
                                     std::size_t newest);
// The Deployment was scaled since the sets were sized: the sets grow or shrink in proportion.
bool was_scaled(const Rollout& rollout, const std::vector<SetSize>& sets);
std::vector<std::int64_t> scaled_sizes(const Rollout& rollout, const std::vector<SetSize>& sets,
                                       std::optional<std::size_t> newest);

}  // namespace shoal::controllers
