// SPDX-License-Identifier: Apache-2.0
// A Deployment's status: the counts, and the conditions Available and Progressing as `kubectl
// rollout status` and `kubectl wait` read them.
#pragma once

#include "agent/controllers/plan.h"
#include "agent/controllers/pod_counts.h"
#include "agent/controllers/rollout.h"

#include <optional>
#include <vector>

namespace shoal::controllers {

struct OwnedSet {
  ObjectPtr object;
  PodCounts counts;
};

struct DeploymentCounts {
  std::int64_t replicas = 0;
  std::int64_t updated = 0;
  std::int64_t ready = 0;
  std::int64_t available = 0;
};
DeploymentCounts total_counts(const std::vector<OwnedSet>& sets, std::optional<std::size_t> newest);
// All pods are of the newest set and available, and as many as asked for.
bool is_complete(const Object& deployment, const DeploymentCounts& counts, const Rollout& rollout);

struct StatusInput {
  const Object& deployment;
  const std::vector<OwnedSet>& sets;
  std::optional<std::size_t> newest;
  const Rollout& rollout;
  bool paused = false;
  bool name_taken = false;  // raises collisionCount
  WallTime now;
};
struct StatusOutput {
  std::optional<boost::json::object> status;  // nothing: it is right as it is
  std::optional<Duration> look_again;         // the progress deadline
};
StatusOutput deployment_status(const StatusInput& input);

}  // namespace shoal::controllers
