// SPDX-License-Identifier: Apache-2.0
// A pod's volumes: set up, kept up to date.
#include "agent/node/pod_volumes.h"
#include "agent/node/pod_worker.h"
#include "agent/view/facts.h"

#include <algorithm>
#include <spdlog/spdlog.h>

namespace shoal::node {

void PodWorker::source_changed(std::string_view resource, std::string_view name) {
  const bool shown = std::ranges::any_of(spec_.volumes, [&](const VolumeSpec& volume) {
    return volume.shows(resource, name) ||
           (resource == view::kClaims && volume.kind == VolumeSpec::Kind::kClaim &&
            volume.claim == name);
  });
  if (!shown || abandoned_)
    return;
  volume_retry_ = {};
  seen_.volumes_not_before = {};
  seen_.volumes_stale = true;
  poke();
}

void PodWorker::set_up_volumes() {
  const bool fresh = seen_.volumes_due;
  seen_.volumes_stale = false;
  const auto work = [&env = context_.sandboxes, spec = spec_,
                     planned = plan_volumes(spec_, env_facts(), !fresh)] {
    return node::set_up_volumes(env, spec, planned);
  };
  on_worker(work, [this, fresh](const Result<>& result) { volumes_set_up(fresh, result); });
}

// What is up already goes on as it is when it cannot be brought up to date.
void PodWorker::volumes_set_up(bool fresh, const Result<>& result) {
  if (result) {
    volume_retry_ = {};
    volume_problem_.clear();
    if (fresh)
      seen_.volumes_due = false;
    return;
  }
  if (volume_problem_ != result.error().message()) {
    volume_problem_ = result.error().message();
    spdlog::warn("pod {}: {}", spec_.full_name(), volume_problem_);
    event("Warning", "FailedMount", volume_problem_);
  }
  // A change that came meanwhile is looked at now.
  if (seen_.volumes_stale)
    return;
  volume_retry_ =
      volume_retry_.count() ? std::min(volume_retry_ * 2, kVolumeRetryMax) : kRetryFirst;
  seen_.volumes_not_before = context_.clock.now() + volume_retry_;
  seen_.volumes_stale = true;
  if (fresh)
    report();
}

}  // namespace shoal::node
