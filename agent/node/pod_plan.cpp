// SPDX-License-Identifier: Apache-2.0
#include "agent/node/pod_plan.h"

namespace shoal::node {
namespace {

using runtime::shim::ContainerPhase;
using runtime::shim::ContainerState;

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

bool in_this_sandbox(const PodSeen& seen, const ContainerSeen& container) {
  return seen.sandbox && container.current && container.current->sandbox_id == seen.sandbox_id;
}

bool done_well(const ContainerSeen& container) {
  return ended(container) && container.current->exit_code == 0;
}

// Main containers all at once, then one sidecar after the other, the last one first. Nothing: all
// have ended.
std::optional<Step> next_stop(const PodSpec& spec, const PodSeen& seen) {
  bool waits = false;
  for (std::size_t i = 0; i < seen.containers.size(); i++) {
    if (spec.containers[i].role == Role::kSidecar || !alive(seen.containers[i]))
      continue;
    if (!seen.containers[i].stop_sent)
      return Step{StepKind::kStopContainer, i, {}};
    waits = true;
  }
  if (waits)
    return wait_until(std::nullopt);  // the shim kills after the grace; the exits come as events
  for (std::size_t i = seen.containers.size(); i-- > 0;)
    if (alive(seen.containers[i]))
      return seen.containers[i].stop_sent ? wait_until(std::nullopt)
                                          : Step{StepKind::kStopContainer, i, {}};
  return std::nullopt;
}

Step stop_step(const PodSpec& spec, const PodSeen& seen, MonoTime now) {
  if (now < seen.retry_at)
    return wait_until(seen.retry_at);
  if (!seen.sandbox || std::none_of(seen.containers.begin(), seen.containers.end(), alive))
    return {StepKind::kTeardown, 0, {}};
  if (!seen.drain_until)
    return {StepKind::kBeginStop, 0, {}};
  // A grace of 0 is Kubernetes' word for "at once".
  if (now < *seen.drain_until && spec.grace.count() > 0)
    return wait_until(*seen.drain_until);
  return *next_stop(spec, seen);
}

// Of a pod that is over.
Step finish_step(const PodSpec& spec, const PodSeen& seen) {
  if (seen.freed)
    return wait_until(std::nullopt);
  if (seen.sandbox)
    if (const auto stop = next_stop(spec, seen))
      return *stop;
  return {StepKind::kFree, 0, {}};
}

// Of a pod that has its sandbox and network.
Step container_step(const PodSpec& spec, const PodSeen& seen, MonoTime now) {
  std::optional<MonoTime> until;
  const bool past_init = initialized(spec, seen);
  for (std::size_t i = 0; i < seen.containers.size(); i++) {
    const ContainerSeen& container = seen.containers[i];
    const Role role = spec.containers[i].role;
    if (alive(container)) {
      if (container.condemned && !container.stop_sent)
        return {StepKind::kStopContainer, i, {}};
      if (container.in_hook || role == Role::kInit ||
          (role == Role::kSidecar && !container.started && !past_init))
        break;
      continue;
    }
    if (ended(container) && !container.cleaned)
      return {StepKind::kCleanContainer, i, {}};
    if (role == Role::kInit &&
        (past_init || (in_this_sandbox(seen, container) && done_well(container))))
      continue;
    if (role == Role::kMain && ended(container) && !restarts(spec.restart, *container.current))
      continue;  // the others still run
    if (!container.pulling && now >= container.not_before)
      return {StepKind::kStartContainer, i, {}};
    if (!container.pulling)
      sooner(until, container.not_before);
    if (role != Role::kMain && !past_init)
      break;
  }
  return wait_until(until);
}

Step wanted_step(const PodSpec& spec, const PodSeen& seen, MonoTime now) {
  if (now < seen.retry_at)
    return wait_until(seen.retry_at);
  if (finished(spec, seen))
    return finish_step(spec, seen);
  const bool volumes_wait = now < seen.volumes_not_before;
  if (seen.volumes_due)
    return volumes_wait ? wait_until(seen.volumes_not_before)
                        : Step{StepKind::kSetUpVolumes, 0, {}};
  if (!seen.sandbox)
    return {StepKind::kStartSandbox, 0, {}};
  if (!seen.network)
    return {StepKind::kAttachNetwork, 0, {}};
  if (seen.volumes_stale && !volumes_wait)
    return {StepKind::kSetUpVolumes, 0, {}};
  Step step = container_step(spec, seen, now);
  if (step.kind == StepKind::kWait && seen.volumes_stale)
    sooner(step.until, seen.volumes_not_before);
  return step;
}

}  // namespace

std::string go_duration(std::chrono::milliseconds duration) {
  const std::int64_t ms = duration.count();
  if (ms < 1000)
    return fmt::format("{}ms", ms);
  std::string seconds = fmt::format("{}", ms / 1000 % 60);
  if (ms % 1000 != 0) {
    seconds += fmt::format(".{:03}", ms % 1000);
    seconds.resize(seconds.find_last_not_of('0') + 1);
  }
  const std::int64_t minutes = ms / 60'000;
  if (minutes == 0)
    return seconds + "s";
  return minutes < 60 ? fmt::format("{}m{}s", minutes, seconds)
                      : fmt::format("{}h{}m{}s", minutes / 60, minutes % 60, seconds);
}

std::chrono::seconds grace_left(std::chrono::seconds grace, Duration waited) {
  const auto left = grace - std::chrono::duration_cast<std::chrono::seconds>(waited);
  return std::max(left, std::min(grace, kGraceMin));
}

bool is_news(const ContainerSeen& seen, const ContainerState& state) {
  if (!seen.current)
    return true;
  const ContainerState& current = *seen.current;
  return state.ref.attempt > current.ref.attempt ||
         (state.ref.attempt == current.ref.attempt && state.phase >= current.phase);
}

bool restarts(RestartPolicy policy, const ContainerState& state) {
  return policy == RestartPolicy::kAlways ||
         (policy == RestartPolicy::kOnFailure && state.exit_code != 0);
}

bool initialized(const PodSpec& spec, const PodSeen& seen) {
  bool all = true;
  for (std::size_t i = 0; i < seen.containers.size(); i++) {
    const ContainerSeen& container = seen.containers[i];
    const bool here = in_this_sandbox(seen, container);
    switch (spec.containers[i].role) {
    case Role::kInit:
      all = all && here && done_well(container);
      break;
    case Role::kSidecar:
      all = all && here && alive(container) && container.started;
      break;
    case Role::kMain:
      if (here)
        return true;
    }
  }
  return all;
}

bool finished(const PodSpec& spec, const PodSeen& seen) {
  if (seen.failure)
    return true;
  bool main_ended = true;
  for (std::size_t i = 0; i < seen.containers.size(); i++) {
    const ContainerSeen& container = seen.containers[i];
    const bool over = ended(container) && !restarts(spec.restart_of(i), *container.current);
    if (spec.containers[i].role == Role::kInit && over && !done_well(container))
      return true;
    if (spec.containers[i].role == Role::kMain)
      main_ended = main_ended && over;
  }
  return main_ended;
}

Waiting default_waiting(const PodSpec& spec) {
  return {spec.has_init() ? "PodInitializing" : "ContainerCreating", ""};
}

std::string pod_text(const PodSpec& spec) {
  return fmt::format("{}_{}({})", spec.name, spec.ns, spec.uid);
}

void plan_restart(const PodSpec& spec, std::size_t container, ContainerSeen& seen, MonoTime now) {
  const ContainerState& state = *seen.current;
  const auto ran = std::chrono::nanoseconds(state.finished_at_ns - state.started_at_ns);
  if (ran >= kBackoffReset)
    seen.backoff = {};
  seen.not_before = now + seen.backoff;
  if (seen.backoff.count() > 0)
    seen.waiting =
        Waiting{"CrashLoopBackOff", fmt::format("back-off {} restarting failed container={} pod={}",
                                                go_duration(seen.backoff),
                                                spec.containers[container].name, pod_text(spec))};
  seen.backoff =
      seen.backoff.count() == 0 ? spec.backoff_first : std::min(seen.backoff * 2, spec.backoff_max);
}

void plan_retry(ContainerSeen& seen, Waiting why, MonoTime now) {
  // What is missing may come at any moment, and is no crash.
  const bool missing = why.reason == "ErrImagePull" || why.reason == "ErrImageNeverPull" ||
                       why.reason == "CreateContainerConfigError";
  // A name does not change any more.
  const bool hopeless = why.reason == "InvalidImageName";
  seen.waiting = std::move(why);
  if (missing || hopeless) {
    seen.not_before = now + (hopeless ? kBackoffMax : kImageRetry);
    return;
  }
  seen.backoff = seen.backoff.count()
                     ? std::min<std::chrono::milliseconds>(seen.backoff * 2, kBackoffMax)
                     : kRetryFirst;
  seen.not_before = now + seen.backoff;
}

Step next_step(const PodSpec& spec, const PodSeen& seen, bool wanted, MonoTime now) {
  if (!seen.adopted)
    return now < seen.retry_at ? wait_until(seen.retry_at) : Step{StepKind::kAdopt, 0, {}};
  if (!wanted)
    return stop_step(spec, seen, now);
  if (seen.deadline && now >= *seen.deadline && !finished(spec, seen))
    return {StepKind::kExpire, 0, {}};
  Step step = wanted_step(spec, seen, now);
  if (step.kind == StepKind::kWait && seen.deadline && !finished(spec, seen))
    sooner(step.until, *seen.deadline);
  return step;
}

}  // namespace shoal::node
