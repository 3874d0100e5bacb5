// SPDX-License-Identifier: Apache-2.0
// What a pod's probes say. The startup probe first; when it has passed, the other two.
#include "agent/node/pod_worker.h"

namespace shoal::node {

using runtime::shim::ContainerState;

namespace {
constexpr std::chrono::hours kPostStartMax{1};  // Kubernetes knows no bound
constexpr std::chrono::seconds kTellAgain{60};  // of a failure that goes on
}  // namespace

ActionTarget PodWorker::target_of(std::size_t index) const {
  const ContainerState& state = *seen_.containers[index].current;
  return {seen_.addresses.front().ip, context_.sandboxes.socket(spec_.uid),
          bundle_dir(context_.sandboxes, spec_.uid, state.ref), state.ref, state.enterable};
}

std::unique_ptr<Prober>
PodWorker::make_prober(std::size_t index, const ProbeSpec& probe, bool passing,
                       void (PodWorker::*on_result)(std::size_t, const ProbeNews&)) {
  const ContainerState& state = *seen_.containers[index].current;
  const Duration age =
      std::max(Duration::zero(), Duration(context_.clock.wall().time_since_epoch() -
                                          std::chrono::nanoseconds(state.started_at_ns)));
  return std::make_unique<Prober>(
      context_.loop, context_.clock, probe, target_of(index), context_.clock.now() - age, passing,
      [weak = weak_from_this(), index, on_result](const ProbeNews& news) {
        auto self = weak.lock();
        if (!self || self->abandoned_)
          return;
        (*self.*on_result)(index, news);
        self->poke();
      });
}

// Also for one that was taken up, once its network is known.
void PodWorker::container_runs(std::size_t index) {
  const ContainerSpec& container = spec_.containers[index];
  ContainerSeen& seen = seen_.containers[index];
  if (seen.started || (!container.post_start && !container.startup))
    return container_started(index);
  if (!seen_.network || seen.in_hook || probers_[index].startup)
    return;
  if (container.post_start)
    return run_post_start(index);
  probers_[index].startup = make_prober(index, *container.startup, false, &PodWorker::startup_news);
}

void PodWorker::run_post_start(std::size_t index) {
  seen_.containers[index].in_hook = true;
  probers_[index].hook = std::make_unique<ActionRun>(
      context_.loop, *spec_.containers[index].post_start, target_of(index), kPostStartMax,
      [weak = weak_from_this(), index](const ActionResult& result) {
        if (auto self = weak.lock(); self && !self->abandoned_) {
          self->post_start_ended(index, result.ok);
          self->poke();
        }
      });
}

void PodWorker::post_start_ended(std::size_t index, bool ok) {
  ContainerSeen& seen = seen_.containers[index];
  seen.in_hook = false;
  if (!ok) {
    event("Warning", "FailedPostStartHook", "PostStartHook failed");
    seen.condemned = Waiting{"FailedPostStartHook", "FailedPostStartHook"};
    condemned_grace_[index] = spec_.grace;
    return;
  }
  if (spec_.containers[index].startup)
    probers_[index].startup =
        make_prober(index, *spec_.containers[index].startup, false, &PodWorker::startup_news);
  else
    container_started(index);
  report();
}

void PodWorker::container_started(std::size_t index) {
  const ContainerSpec& container = spec_.containers[index];
  ContainerProbers& probers = probers_[index];
  seen_.containers[index].started = true;
  if (seen_.network && container.liveness && !probers.liveness)
    probers.liveness = make_prober(index, *container.liveness, true, &PodWorker::liveness_news);
  if (!container.readiness)
    return set_ready(index, true);
  if (seen_.network && !probers.readiness)
    probers.readiness = make_prober(index, *container.readiness, false, &PodWorker::readiness_news);
}

void PodWorker::startup_news(std::size_t index, const ProbeNews& news) {
  if (!news.last.ok)
    tell_failure(index, "Startup", news);
  if (news.failed)
    return condemn(index, "startup", spec_.containers[index].startup->grace);
  if (!news.passing)
    return;
  probers_[index].startup.reset();
  container_started(index);
  report();
}

void PodWorker::liveness_news(std::size_t index, const ProbeNews& news) {
  if (!news.last.ok)
    tell_failure(index, "Liveness", news);
  if (news.failed)
    condemn(index, "liveness", spec_.containers[index].liveness->grace);
}

void PodWorker::readiness_news(std::size_t index, const ProbeNews& news) {
  if (!news.last.ok)
    tell_failure(index, "Readiness", news);
  if (news.changed)
    set_ready(index, news.passing);
}

// The same failure again and again is told now and then.
void PodWorker::tell_failure(std::size_t index, std::string_view probe, const ProbeNews& news) {
  ContainerProbers& probers = probers_[index];
  std::string message = fmt::format("{} probe failed: {}", probe, news.last.message);
  message.resize(message.find_last_not_of('\n') + 1);
  const MonoTime now = context_.clock.now();
  if (message == probers.told && now - probers.told_at < kTellAgain)
    return;
  event("Warning", "Unhealthy", message);
  probers.told = std::move(message);
  probers.told_at = now;
}

void PodWorker::condemn(std::size_t index, std::string_view probe,
                        std::optional<std::chrono::seconds> grace) {
  probers_[index].startup.reset();
  probers_[index].liveness.reset();
  ContainerSeen& seen = seen_.containers[index];
  if (seen.condemned)
    return;
  const bool again = spec_.restart_of(index) != RestartPolicy::kNever;
  seen.condemned = Waiting{"Unhealthy", fmt::format("Container {} failed {} probe{}",
                                                    spec_.containers[index].name, probe,
                                                    again ? ", will be restarted" : "")};
  condemned_grace_[index] = grace.value_or(spec_.grace);
}

void PodWorker::set_ready(std::size_t index, bool ready) {
  seen_.containers[index].unprobed = false;
  seen_.containers[index].ready = ready;
  report();
}

}  // namespace shoal::node
