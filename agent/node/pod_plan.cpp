// SPDX-License-Identifier: Apache-2.0
#include "agent/node/pod_plan.h"

#include <algorithm>

namespace shoal::node {
namespace {

using runtime::shim::ContainerPhase;
using runtime::shim::ContainerState;

constexpr int kKilled = 137;  // 128 + SIGKILL

Step wait_until(std::optional<MonoTime> wake) { return {StepKind::kNone, 0, wake}; }

std::optional<MonoTime> earlier(std::optional<MonoTime> a, MonoTime b) {
  return a ? std::min(*a, b) : b;
}

bool any_running(const PodObserved& observed) {
  return std::ranges::any_of(observed.containers, &ContainerObserved::running);
}

bool holds_something(const PodObserved& observed) {
  return observed.sandbox != SandboxState::kNone || observed.address.has_value();
}

Step next_to_stop(const Intent& intent, const PodObserved& observed, MonoTime now) {
  if (observed.sandbox == SandboxState::kLive && any_running(observed)) {
    const bool all_told = std::ranges::all_of(observed.containers, [](const ContainerObserved& c) {
      return !c.running() || c.stop_sent;
    });
    if (all_told)
      return wait_until(std::nullopt);  // the shim kills when the grace is over
    return now < intent.stop_at ? wait_until(intent.stop_at) : Step{StepKind::kStop};
  }
  return observed.cleared ? Step{StepKind::kGone} : Step{StepKind::kTeardown};
}

Step next_start(const PodSpec& spec, const PodObserved& observed, MonoTime now) {
  std::optional<MonoTime> wake;
  for (std::size_t i = 0; i < spec.containers.size(); ++i) {
    const ContainerObserved& container = observed.containers[i];
    if (container.running() ||
        (container.exited() && !should_restart(spec.restart, *container.current)))
      continue;
    if (now >= container.retry_at)
      return {StepKind::kStart, i, std::nullopt};
    wake = earlier(wake, container.retry_at);
  }
  return wait_until(wake);
}

}  // namespace

bool ContainerObserved::running() const {
  return current && current->phase != ContainerPhase::kExited;
}
bool ContainerObserved::exited() const {
  return current && current->phase == ContainerPhase::kExited;
}

bool should_restart(RestartPolicy policy, const ContainerState& ended) {
  return policy == RestartPolicy::kAlways ||
         (policy == RestartPolicy::kOnFailure && ended.exit_code != 0);
}

bool ended_for_good(const PodSpec& spec, const PodObserved& observed) {
  return !observed.containers.empty() &&
         std::ranges::all_of(observed.containers, [&](const ContainerObserved& c) {
           return c.exited() && !should_restart(spec.restart, *c.current);
         });
}

std::chrono::seconds restart_delay(std::uint32_t crashes) {
  if (crashes <= 1)
    return std::chrono::seconds(0);
  const std::uint32_t doublings = std::min(crashes - 2, 10U);
  return std::min(kRestartDelayFirst * (1 << doublings), kRestartDelayMax);
}

Step next_step(const PodSpec& spec, const Intent& intent, const PodObserved& observed,
               MonoTime now) {
  if (observed.sandbox == SandboxState::kUnknown)
    return {StepKind::kFind};
  if (!intent.run)
    return next_to_stop(intent, observed, now);
  if (observed.finished || ended_for_good(spec, observed))
    return holds_something(observed) ? Step{StepKind::kTeardown} : wait_until(std::nullopt);
  if (now < observed.sandbox_retry_at)
    return wait_until(observed.sandbox_retry_at);
  if (observed.sandbox == SandboxState::kDead)
    return {StepKind::kSweep};
  if (observed.sandbox == SandboxState::kNone) {
    // A pod that only waits for its restart needs no sandbox yet.
    const Step start = next_start(spec, observed, now);
    return start.kind == StepKind::kStart ? Step{StepKind::kSandbox} : start;
  }
  if (!observed.attached)
    return {StepKind::kAttach};
  return next_start(spec, observed, now);
}

bool note_state(PodObserved& observed, const PodSpec& spec, const ContainerState& state,
                MonoTime now) {
  for (std::size_t i = 0; i < spec.containers.size(); ++i) {
    if (spec.containers[i].name != state.ref.name)
      continue;
    ContainerObserved& container = observed.containers[i];
    if (container.current && state.ref.attempt < container.current->ref.attempt) {
      if (container.last && container.last->ref.attempt > state.ref.attempt)
        return false;
      container.last = state;
      return true;
    }
    if (container.current == state)
      return false;
    const bool was_running =
        !container.exited() || container.current->ref.attempt != state.ref.attempt;
    if (container.current && container.current->ref.attempt != state.ref.attempt)
      container.last = std::move(container.current);
    container.current = state;
    container.next_attempt = std::max(container.next_attempt, state.ref.attempt + 1);
    if (state.phase == ContainerPhase::kRunning) {
      container.waiting.reset();
      container.start_failures = 0;
    } else if (state.phase == ContainerPhase::kExited && was_running) {
      const auto ran = std::chrono::nanoseconds(state.finished_at_ns - state.started_at_ns);
      container.crashes = ran >= kRestartCountReset ? 1 : std::min(container.crashes, 1000U) + 1;
      container.retry_at = now + restart_delay(container.crashes);
      container.probe_passes = false;
    }
    return true;
  }
  return false;
}

void note_start_failure(ContainerObserved& container, Waiting why, MonoTime now) {
  const bool image = why.reason.find("Image") != std::string::npos;
  ++container.start_failures;
  // kubelet says ErrImagePull once and then that it waits.
  if (why.reason == "ErrImagePull" && container.start_failures > 1)
    why.reason = "ImagePullBackOff";
  container.waiting = std::move(why);
  container.retry_at = now + (image ? kImageRetry : restart_delay(container.start_failures + 1));
}

void note_sandbox_failure(PodObserved& observed, std::string trouble, MonoTime now) {
  observed.trouble = std::move(trouble);
  observed.sandbox_failures = std::min(observed.sandbox_failures, 1000U) + 1;
  // The first tries come quickly: most such failures are a daemon that is not up yet.
  observed.sandbox_retry_at =
      now + (observed.sandbox_failures <= 5 ? std::chrono::seconds(1)
                                            : restart_delay(observed.sandbox_failures - 4));
}

void note_sandbox_death(PodObserved& observed, const PodSpec& spec, std::int64_t wall_ns,
                        MonoTime now) {
  observed.sandbox = SandboxState::kDead;
  observed.attached = false;
  for (ContainerObserved& container : observed.containers)
    if (container.running()) {
      ContainerState ended = *container.current;
      ended.phase = ContainerPhase::kExited;
      ended.finished_at_ns = wall_ns;
      ended.exit_code = kKilled;
      ended.signal = 9;
      note_state(observed, spec, ended, now);
    }
}

}  // namespace shoal::node
