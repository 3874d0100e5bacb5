// SPDX-License-Identifier: Apache-2.0
#include "agent/node/pod_worker.h"

#include "agent/node/json_get.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace shoal::node {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

// What a look for an earlier agent's sandbox finds.
struct Found {
  std::optional<LiveSandbox> live;
  bool leftovers = false;
};

UniqueFd duplicate(int fd) { return UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 0)); }

}  // namespace

PodWorker::PodWorker(const WorkerContext& context, PodSpec spec,
                     const boost::json::object& reported)
    : context_(context), spec_(std::move(spec)), reported_(reported), timer_(context.loop) {
  observed_.containers.resize(spec_.containers.size());
  probes_.resize(spec_.containers.size());
  take_reported(observed_, spec_, reported);
  start_time_ = get_text(reported, "startTime", rfc3339(context.clock.wall()));
}

template <class R>
void PodWorker::on_worker(std::function<R()> work, std::function<void(PodWorker&, R)> then) {
  busy_ = true;
  asio::post(context_.workers, [weak = weak_from_this(), &loop = context_.loop,
                                work = std::move(work), then = std::move(then)]() mutable {
    auto result = std::make_shared<R>(work());
    asio::post(loop, [weak, result, then = std::move(then)] {
      const auto worker = weak.lock();
      if (!worker)
        return;
      worker->busy_ = false;
      then(*worker, std::move(*result));
      worker->kick();
    });
  });
}

void PodWorker::kick() {
  if (busy_ || done_)
    return;
  sync_probes();
  report();
  perform(next_step(spec_, intent_, observed_, context_.clock.now()));
}

void PodWorker::perform(const Step& step) {
  switch (step.kind) {
  case StepKind::kNone:
    tell_taken_up();
    return arm_timer(step.wake);
  case StepKind::kFind:
    return perform_find();
  case StepKind::kSweep:
    return on_worker<Result<>>(
        [&runtime = context_.runtime, uid = spec_.uid] {
          return runtime.teardown(uid, runtime::Sweep::kKeepLogs);
        },
        [](PodWorker& self, Result<> swept) {
          if (!swept)
            return self.trouble("FailedKillPod", swept.error());
          self.observed_.sandbox = SandboxState::kNone;
        });
  case StepKind::kSandbox:
    return on_worker<Result<LiveSandbox>>(
        [&runtime = context_.runtime, spec = spec_] { return runtime.start_sandbox(spec); },
        [](PodWorker& self, Result<LiveSandbox> started) {
          if (!started) {
            self.trouble("FailedCreatePodSandBox", started.error());
            self.observed_.sandbox = SandboxState::kDead;  // sweeps what it may have left
            return;
          }
          self.adopt(std::move(*started));
        });
  case StepKind::kAttach:
    return perform_attach();
  case StepKind::kStart:
    return perform_start(step.container);
  case StepKind::kStop:
    return perform_stop();
  case StepKind::kTeardown:
    return perform_teardown();
  case StepKind::kGone:
    done_ = true;
    tell_taken_up();
    // Later: the owner drops this worker in the call.
    return asio::post(context_.loop,
                      [self = shared_from_this()] { self->context_.gone(self->spec_); });
  }
}

// ---- steps

void PodWorker::perform_find() {
  on_worker<Result<Found>>(
      [&runtime = context_.runtime, uid = spec_.uid]() -> Result<Found> {
        Found found;
        auto live = runtime.find(uid);
        if (live)
          found.live = std::move(*live);
        else if (live.error().code() != Errc::kNotFound)
          return fail(std::move(live).error());
        else
          found.leftovers = runtime.left_anything(uid);
        return found;
      },
      [](PodWorker& self, Result<Found> found) {
        if (!found) {
          // A shim that does not answer is as good as dead.
          self.trouble("FailedCreatePodSandBox", found.error());
          self.observed_.sandbox = SandboxState::kDead;
        } else if (found->live) {
          self.adopt(std::move(*found->live));
        } else {
          // A finished pod keeps its logs, and nothing else of it can be left but those.
          self.observed_.sandbox = found->leftovers && !self.observed_.finished
                                       ? SandboxState::kDead
                                       : SandboxState::kNone;
        }
      });
}

void PodWorker::perform_attach() {
  busy_ = true;
  context_.network.attach(spec_.key(), spec_.uid, duplicate(netns_.get()),
                          [weak = weak_from_this()](Result<PodAddress> attached) {
                            const auto self = weak.lock();
                            if (!self)
                              return;
                            self->busy_ = false;
                            if (attached) {
                              self->observed_.address = *attached;
                              self->observed_.attached =
                                  self->observed_.sandbox == SandboxState::kLive;
                              self->observed_.trouble.clear();
                              self->observed_.sandbox_failures = 0;
                            } else {
                              self->trouble("FailedCreatePodSandBox", attached.error());
                            }
                            self->kick();
                          });
}

void PodWorker::perform_start(std::size_t index) {
  const ContainerObserved& container = observed_.containers[index];
  StartContext start{observed_.address.value_or(PodAddress{}), container.next_attempt};
  // The state of the attempt before the last is not shown any more.
  std::optional<runtime::shim::ContainerRef> obsolete;
  if (container.last)
    obsolete = container.last->ref;
  on_worker<StartResult>(
      [&runtime = context_.runtime, spec = spec_, index, start, obsolete]() -> StartResult {
        if (obsolete)
          if (auto removed = runtime.remove_container(spec.uid, *obsolete); !removed)
            return std::unexpected(
                StartFailure{{"CreateContainerError", removed.error().message()}});
        return runtime.start_container(spec, index, start);
      },
      [index](PodWorker& self, StartResult started) {
        ContainerObserved& mine = self.observed_.containers[index];
        const MonoTime now = self.context_.clock.now();
        if (!started) {
          if (self.observed_.sandbox != SandboxState::kLive)
            return;
          self.context_.event(self.spec_, "Warning", "Failed", started.error().why.message);
          return note_start_failure(mine, std::move(started.error().why), now);
        }
        mine.image_id = std::move(started->image_id);
        // An event may have told of its end already.
        if (!mine.current || mine.current->ref.attempt < started->state.ref.attempt)
          note_state(self.observed_, self.spec_, started->state, now);
      });
}

void PodWorker::perform_stop() {
  std::vector<runtime::shim::ContainerRef> running;
  for (ContainerObserved& container : observed_.containers)
    if (container.running())
      running.push_back(container.current->ref);
  on_worker<Result<>>(
      [&runtime = context_.runtime, uid = spec_.uid, running, grace = intent_.grace]() -> Result<> {
        for (const auto& ref : running)
          SHOAL_TRY(runtime.stop_container(uid, ref, grace));
        return {};
      },
      [](PodWorker& self, Result<> stopped) {
        if (!stopped)  // the shim does not do as it is told: the teardown will
          self.observed_.sandbox = SandboxState::kDead;
        for (ContainerObserved& container : self.observed_.containers)
          container.stop_sent = true;
      });
}

void PodWorker::perform_teardown() {
  // A pod that ended by itself keeps its logs until its object goes.
  const auto what = intent_.run ? runtime::Sweep::kKeepLogs : runtime::Sweep::kAll;
  events_ready_.reset();
  events_.reset();
  observed_.attached = false;
  observed_.finished = observed_.finished || intent_.run;
  on_worker<Result<>>(
      [&runtime = context_.runtime, uid = spec_.uid, what] { return runtime.teardown(uid, what); },
      [what](PodWorker& self, Result<> torn) {
        self.netns_.reset();
        if (!torn) {
          self.trouble("FailedKillPod", torn.error());
          self.busy_ = true;  // asked again when its time comes, not at once
          self.timer_.expires_at(self.observed_.sandbox_retry_at);
          self.timer_.async_wait([weak = self.weak_from_this()](error_code error) {
            if (const auto later = weak.lock(); later && !error) {
              later->busy_ = false;
              later->kick();
            }
          });
          return;
        }
        self.observed_.sandbox = SandboxState::kNone;
        self.busy_ = true;
        self.context_.network.detach(self.spec_.uid,
                                     [weak = self.weak_from_this(), what](Result<> detached) {
                                       const auto later = weak.lock();
                                       if (!later)
                                         return;
                                       later->busy_ = false;
                                       // The pod goes either way: what is left of its network is
                                       // found again by the audit and by keep_only().
                                       if (!detached)
                                         later->trouble("FailedKillPod", detached.error());
                                       later->observed_.address.reset();
          later->observed_.cleared = what == runtime::Sweep::kAll;
                                       later->kick();
                                     });
      });
}

void PodWorker::stop(std::chrono::milliseconds grace) {
  const MonoTime now = context_.clock.now();
  if (!intent_.run) {
    if (grace >= intent_.grace)
      return;
    intent_.grace = grace;
    intent_.stop_at = std::min(intent_.stop_at, now);
    for (ContainerObserved& container : observed_.containers)
      container.stop_sent = false;
    return kick();
  }
  bool was_ready = true;
  for (std::size_t i = 0; i < spec_.containers.size(); ++i)
    was_ready = was_ready && container_ready(spec_.containers[i], observed_.containers[i]);
  const auto drain = was_ready ? std::min(context_.drain, grace) : std::chrono::milliseconds(0);
  intent_ = {false, grace - drain, now + drain};
  kick();
  report();  // also when a step is under way: readiness goes off first
}

// ---- news

void PodWorker::adopt(LiveSandbox sandbox) {
  observed_.sandbox = SandboxState::kLive;
  observed_.attached = false;
  netns_ = std::move(sandbox.netns);
  const MonoTime now = context_.clock.now();
  auto states = sandbox.events.initial().containers;
  std::ranges::sort(states, {}, [](const auto& state) { return state.ref.attempt; });
  for (const auto& state : states) {
    note_state(observed_, spec_, state, now);
    // What an earlier agent counted is gone; the attempts are what is left of it.
    for (std::size_t i = 0; i < spec_.containers.size(); ++i)
      if (spec_.containers[i].name == state.ref.name)
        observed_.containers[i].crashes =
            std::max(observed_.containers[i].crashes, state.ref.attempt);
  }
  events_ = std::move(sandbox.events);
  events_ready_ = std::make_unique<asio::posix::stream_descriptor>(
      context_.loop, duplicate(events_->fd()).release());
  wait_events();
}

void PodWorker::wait_events() {
  events_ready_->async_wait(asio::posix::stream_descriptor::wait_read,
                            [weak = weak_from_this()](error_code error) {
                              if (const auto self = weak.lock(); self && !error && self->events_)
                                self->take_events();
                            });
}

void PodWorker::take_events() {
  auto states = events_->take();
  if (!states)
    return sandbox_died();
  for (const auto& state : *states) {
    note_state(observed_, spec_, state, context_.clock.now());
    if (state.log_errors > 0)
      context_.event(spec_, "Warning", "FailedWriteLogs",
                     fmt::format("{} log lines of container {} could not be written",
                                 state.log_errors, state.ref.name));
  }
  wait_events();
  kick();
}

void PodWorker::sandbox_died() {
  events_ready_.reset();
  events_.reset();
  if (intent_.run)
    context_.event(spec_, "Warning", "SandboxChanged",
                   "the pod's sandbox died; it will be made anew");
  const auto wall = context_.clock.wall().time_since_epoch().count();
  note_sandbox_death(observed_, spec_, wall, context_.clock.now());
  kick();
}

void PodWorker::trouble(std::string_view reason, const Error& error) {
  note_sandbox_failure(observed_, error.message(), context_.clock.now());
  context_.event(spec_, "Warning", reason, error.message());
}

void PodWorker::tell_taken_up() {
  if (!std::exchange(taken_up_, true))
    context_.taken_up(spec_.uid);
}

void PodWorker::arm_timer(std::optional<MonoTime> wake) {
  if (!wake) {
    timer_.cancel();
    return;
  }
  timer_.expires_at(*wake);
  timer_.async_wait([weak = weak_from_this()](error_code error) {
    if (const auto self = weak.lock(); self && !error)
      self->kick();
  });
}

// ---- probes

void PodWorker::sync_probes() {
  for (std::size_t i = 0; i < probes_.size(); ++i) {
    Probe& probe = probes_[i];
    const ContainerObserved& container = observed_.containers[i];
    const bool wanted =
        spec_.containers[i].readiness && container.running() && observed_.attached && intent_.run;
    if (wanted && probe.machine && probe.attempt == container.current->ref.attempt)
      continue;
    probe = Probe{};
    if (!wanted)
      continue;
    probe.attempt = container.current->ref.attempt;
    // What was ready under an earlier agent stays so until a probe says otherwise.
    ContainerObserved& mine = observed_.containers[i];
    mine.probe_passes = mine.ready_attempt == probe.attempt;
    probe.machine.emplace(spec_.containers[i].readiness->timing, context_.clock.now(),
                          mine.probe_passes);
    probe.timer = std::make_unique<asio::steady_timer>(context_.loop);
    arm_probe(i);
  }
}

void PodWorker::arm_probe(std::size_t index) {
  Probe& probe = probes_[index];
  probe.timer->expires_at(probe.machine->due());
  probe.timer->async_wait([weak = weak_from_this(), index](error_code error) {
    if (const auto self = weak.lock(); self && !error && self->probes_[index].machine)
      self->run_probe(index);
  });
}

void PodWorker::run_probe(std::size_t index) {
  Probe& probe = probes_[index];
  if (probe.machine->under_way())
    return;
  const std::uint64_t token = probe.machine->begin(context_.clock.now());
  probe.run = start_probe(context_.loop, *spec_.containers[index].readiness, observed_.address->ip,
                          [weak = weak_from_this(), index, token](ProbeOutcome outcome) {
                            const auto self = weak.lock();
                            if (!self || !self->probes_[index].machine)
                              return;
                            Probe& mine = self->probes_[index];
                            const bool changed =
                                mine.machine->finish(token, outcome.ok, self->context_.clock.now());
                            self->observed_.containers[index].probe_passes =
                                mine.machine->passing();
                            if (changed && !mine.machine->passing())
                              self->context_.event(self->spec_, "Warning", "Unhealthy",
                                                   "Readiness probe failed: " + outcome.message);
                            self->arm_probe(index);
                            if (changed)
                              self->kick();
                            if (changed && self->busy_)
                              self->report();
                          });
}

// ---- status

void PodWorker::report() {
  if (observed_.sandbox == SandboxState::kUnknown)
    return;
  // Ended under an earlier agent: what that one reported says more than we know.
  if (observed_.finished &&
      std::ranges::any_of(observed_.containers, [](const auto& c) { return !c.current; }))
    return;
  StatusFacts facts{context_.host_ip, start_time_, rfc3339(context_.clock.wall()), !intent_.run,
                    reported_};
  boost::json::object status = pod_status(spec_, observed_, facts);
  if (status == reported_)
    return;
  reported_ = status;
  context_.report(spec_, status);
}

}  // namespace shoal::node
