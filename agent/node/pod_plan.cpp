// SPDX-License-Identifier: Apache-2.0
#include "agent/node/pod_plan.h"

namespace shoal::node {
namespace {

using runtime::shim::ContainerPhase;

bool ended(const ContainerSeen& container) {
  return container.current && container.current->phase == ContainerPhase::kExited;
}

bool alive(const ContainerSeen& container) {
  return container.current && container.current->phase != ContainerPhase::kExited;
}

Step wait_until(std::optional<MonoTime> until) { return {StepKind::kWait, 0, until}; }

void sooner(std::optional<MonoTime>& until, MonoTime candidate) {
  if (!until || candidate < *until)
    until = candidate;
}

Step stop_step(const PodSpec& spec, const PodSeen& seen, MonoTime now) {
  if (now < seen.retry_at)
    return wait_until(seen.retry_at);
  if (!seen.sandbox)
    return {StepKind::kTeardown, 0, {}};
  const bool any = std::any_of(seen.containers.begin(), seen.containers.end(), alive);
  if (!any)
    return {StepKind::kTeardown, 0, {}};
  if (!seen.drain_until)
    return {StepKind::kBeginStop, 0, {}};
  // A grace of 0 is Kubernetes' word for "at once".
  if (now < *seen.drain_until && spec.grace.count() > 0)
    return wait_until(*seen.drain_until);
  if (!seen.stop_sent)
    return {StepKind::kStopAll, 0, {}};
  return wait_until(std::nullopt);  // the shim kills after the grace; the exits come as events
}

}  // namespace

std::chrono::seconds grace_left(std::chrono::seconds grace, Duration waited) {
  const auto left = grace - std::chrono::duration_cast<std::chrono::seconds>(waited);
  return std::max(left, std::min(grace, kGraceMin));
}

bool is_news(const ContainerSeen& seen, const runtime::shim::ContainerState& state) {
  if (!seen.current)
    return true;
  const runtime::shim::ContainerState& current = *seen.current;
  return state.ref.attempt > current.ref.attempt ||
         (state.ref.attempt == current.ref.attempt && state.phase >= current.phase);
}

bool restarts(RestartPolicy policy, const runtime::shim::ContainerState& state) {
  return policy == RestartPolicy::kAlways ||
         (policy == RestartPolicy::kOnFailure && state.exit_code != 0);
}

void plan_restart(ContainerSeen& seen, const runtime::shim::ContainerState& state, MonoTime now) {
  const auto ran = std::chrono::nanoseconds(state.finished_at_ns - state.started_at_ns);
  if (ran >= kBackoffReset)
    seen.backoff = std::chrono::seconds(0);
  seen.not_before = now + seen.backoff;
  if (seen.backoff.count() > 0)
    seen.waiting =
        Waiting{"CrashLoopBackOff",
                fmt::format("back-off {}s restarting failed container", seen.backoff.count())};
  seen.backoff =
      seen.backoff.count() == 0 ? kBackoffFirst : std::min(seen.backoff * 2, kBackoffMax);
}

void plan_retry(ContainerSeen& seen, Waiting why, MonoTime now) {
  const bool no_image = why.reason == "ErrImagePull" || why.reason == "ErrImageNeverPull";
  // kubelet says ErrImagePull once and then that it waits.
  const bool again = seen.waiting && (seen.waiting->reason == "ErrImagePull" ||
                                      seen.waiting->reason == "ImagePullBackOff");
  if (why.reason == "ErrImagePull" && again)
    why.reason = "ImagePullBackOff";
  seen.waiting = std::move(why);
  if (no_image) {
    seen.not_before = now + kImageRetry;
    return;
  }
  seen.backoff = seen.backoff.count() ? std::min(seen.backoff * 2, kBackoffMax) : kRetryFirst;
  seen.not_before = now + seen.backoff;
}

Step next_step(const PodSpec& spec, const PodSeen& seen, bool wanted, MonoTime now) {
  if (!seen.adopted)
    return now < seen.retry_at ? wait_until(seen.retry_at) : Step{StepKind::kAdopt, 0, {}};
  if (!wanted)
    return stop_step(spec, seen, now);
  if (now < seen.retry_at)
    return wait_until(seen.retry_at);
  const bool finished =
      std::all_of(seen.containers.begin(), seen.containers.end(),
                  [&](const auto& c) { return ended(c) && !restarts(spec.restart, *c.current); });
  if (finished)
    return seen.freed ? wait_until(std::nullopt) : Step{StepKind::kFree, 0, {}};
  if (!seen.sandbox)
    return {StepKind::kStartSandbox, 0, {}};
  if (!seen.network)
    return {StepKind::kAttachNetwork, 0, {}};
  std::optional<MonoTime> until;
  for (std::size_t i = 0; i < seen.containers.size(); i++) {
    const ContainerSeen& container = seen.containers[i];
    if (alive(container))
      continue;
    if (ended(container) && !container.cleaned)
      return {StepKind::kCleanContainer, i, {}};
    if (ended(container) && !restarts(spec.restart, *container.current))
      continue;  // the others still run
    if (now >= container.not_before)
      return {StepKind::kStartContainer, i, {}};
    sooner(until, container.not_before);
  }
  return wait_until(until);
}

}  // namespace shoal::node
