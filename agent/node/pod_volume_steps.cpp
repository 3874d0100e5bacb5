// SPDX-License-Identifier: Apache-2.0
// A pod's volumes: set up, kept up to date, measured.
#include "agent/node/pod_volumes.h"
#include "agent/node/pod_worker.h"
#include "agent/view/facts.h"

#include <algorithm>
#include <spdlog/spdlog.h>

namespace shoal::node {
namespace {

// As often as the kubelet looks, and less where it takes long: measuring is not what a host is for.
constexpr std::chrono::seconds kMeasureEvery{10};
constexpr int kMeasureShare = 50;
constexpr std::chrono::seconds kEvictionGrace{1};

}  // namespace

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
    if (!fresh)
      return;
    seen_.volumes_due = false;
    return measure_volumes();
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

void PodWorker::measure_volumes() {
  if (std::ranges::none_of(spec_.volumes, &VolumeSpec::disk_limited) || !wanted() ||
      node::finished(spec_, seen_))
    return;
  measure_began_ = context_.clock.now();
  const auto work = [&env = context_.sandboxes, spec = spec_] { return find_overfull(env, spec); };
  beside(work, [this](const Result<std::string>& overfull) { volumes_measured(overfull); });
}

void PodWorker::volumes_measured(const Result<std::string>& overfull) {
  if (!wanted() || node::finished(spec_, seen_))
    return;
  if (overfull && !overfull->empty()) {
    seen_.failure = Waiting{std::string(kEvicted), *overfull};
    event("Warning", seen_.failure->reason, seen_.failure->message);
    spec_.grace = std::min(spec_.grace, kEvictionGrace);
    return stop_again();  // also what is being stopped by itself
  }
  if (!overfull)  // a folder that goes away meanwhile
    spdlog::debug("pod {}: {}", spec_.full_name(), overfull.error().message());
  const Duration took = context_.clock.now() - measure_began_;
  measure_timer_.expires_after(std::max<Duration>(kMeasureEvery, took * kMeasureShare));
  measure_timer_.async_wait([weak = weak_from_this()](const boost::system::error_code& error) {
    if (auto self = weak.lock(); self && !error && !self->abandoned_)
      self->measure_volumes();
  });
}

}  // namespace shoal::node
