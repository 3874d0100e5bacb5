// SPDX-License-Identifier: Apache-2.0
#include "agent/node/pod_worker.h"

#include "agent/node/pod_resources.h"

#include <boost/asio/post.hpp>
#include <boost/json.hpp>
#include <csignal>
#include <spdlog/spdlog.h>
#include <unistd.h>

namespace shoal::node {

namespace asio = boost::asio;
namespace json = boost::json;
using runtime::shim::ContainerPhase;
using runtime::shim::ContainerState;

PodWorker::PodWorker(Context& context, PodSpec spec, std::function<void()> done)
    : context_(context), spec_(std::move(spec)), done_(std::move(done)), timer_(context.loop) {
  seen_.started = context_.clock.wall();
  seen_.containers.resize(spec_.containers.size());
  probers_.resize(spec_.containers.size());
}

PodWorker::~PodWorker() = default;

void PodWorker::update(PodSpec spec) {
  // Containers of a pod do not change; a deletion and its grace do.
  if (spec.deleting && spec_.deleting && spec.grace < spec_.grace)
    seen_.stop_sent = false;  // a second stop shortens the grace
  spec_.deleting = spec.deleting;
  spec_.grace = spec.grace;
  shorten_drain();
  poke();
}

void PodWorker::gone() {
  wanted_ = false;
  spec_.grace = std::min(spec_.grace, std::chrono::seconds(2));
  seen_.stop_sent = false;
  shorten_drain();
  poke();
}

// A pod that drains already does not do so for longer than its grace, which may be a shorter one
// now.
void PodWorker::shorten_drain() {
  if (seen_.drain_until)
    seen_.drain_until = std::min(*seen_.drain_until, context_.clock.now() + spec_.grace);
}

void PodWorker::abandon() {
  abandoned_ = true;
  timer_.cancel();
  events_ready_.reset();
  probers_.clear();
}

// Runs work on a worker thread, then `then(result)` on the loop, then looks for the next step.
template <class Work, class Then>
void PodWorker::on_worker(Work work, Then then) {
  busy_ = true;
  asio::post(context_.workers,
             [self = shared_from_this(), work = std::move(work), then = std::move(then)] {
               auto result = std::make_shared<decltype(work())>(work());
               asio::post(self->context_.loop, [self, result, then] {
                 self->busy_ = false;
                 if (self->abandoned_)
                   return;
                 then(std::move(*result));
                 self->poke();
               });
             });
}

void PodWorker::poke() {
  if (busy_ || abandoned_)
    return;
  // Steps that are done at once are followed by the next; a bound keeps a bug from starving the
  // loop.
  constexpr int kStepsMax = 64;
  for (int i = 0; i < kStepsMax && !busy_ && !abandoned_; i++) {
    const Step step = next_step(spec_, seen_, wanted(), context_.clock.now());
    if (step.kind == StepKind::kWait) {
      report();
      if (note_due())
        return note();
      timer_.cancel();
      if (!step.until)
        return;
      timer_.expires_after(std::max(Duration::zero(), *step.until - context_.clock.now()));
      timer_.async_wait([weak = weak_from_this()](const boost::system::error_code& error) {
        if (auto self = weak.lock(); self && !error)
          self->poke();
      });
      return;
    }
    run(step);
  }
}

void PodWorker::run(const Step& step) {
  taking_up_ = taking_up_ && step.kind == StepKind::kAttachNetwork;
  switch (step.kind) {
  case StepKind::kAdopt:
    return adopt();
  case StepKind::kStartSandbox:
    return start_sandbox();
  case StepKind::kAttachNetwork:
    return attach_network();
  case StepKind::kCleanContainer:
    return clean_one(step.container);
  case StepKind::kStartContainer:
    return start_one(step.container);
  case StepKind::kFree:
    return free_sandbox();
  case StepKind::kBeginStop:
    return begin_stop();
  case StepKind::kStopAll:
    return stop_all();
  case StepKind::kTeardown:
    return teardown();
  case StepKind::kWait:
    return;
  }
}

// ---- taking up what an earlier agent left

void PodWorker::adopt() {
  const auto work = [&context = context_, spec = spec_, now = context_.clock.wall()] {
    return take_up(context.sandboxes, context.images, spec, now);
  };
  on_worker(work, [this](Result<TakenUp> result) { adopted(std::move(result)); });
}

void PodWorker::adopted(Result<TakenUp> result) {
  if (!result && result.error().code() == Errc::kUnavailable) {
    seen_.retry_at = context_.clock.now() + kTakeUpRetry;
    return;
  }
  if (!result)
    return step_failed(result.error(), "FailedTakeUp");
  if (result->status && !reported_) {
    restore_status(spec_, *result->status, seen_);
    noted_ = std::move(result->status);
  }
  for (std::size_t i = 0; i < spec_.containers.size(); i++)
    if (const auto image = result->image_ids.find(spec_.containers[i].name);
        image != result->image_ids.end())
      seen_.containers[i].image_id = image->second;
  if (result->sandbox)
    take_sandbox(std::move(*result->sandbox), std::move(*result->events));
  for (const ContainerState& state : result->states)
    take_state(state);
  // What ran under an earlier agent was perhaps ready. Nothing is said of it before a probe has
  // looked, or every restart of an agent would take its pods out of their services for a moment.
  for (std::size_t i = 0; i < spec_.containers.size(); i++) {
    ContainerSeen& seen = seen_.containers[i];
    seen.unprobed = spec_.containers[i].readiness && seen.current &&
                    seen.current->phase == ContainerPhase::kRunning;
  }
  seen_.adopted = true;
  taking_up_ = seen_.sandbox;  // its network is there; what it is, is known once it is attached
  step_succeeded();
}

void PodWorker::take_sandbox(runtime::Sandbox sandbox, runtime::ShimEvents events) {
  seen_.sandbox = true;
  seen_.sandbox_error.reset();
  netns_ = std::move(sandbox.netns);
  events_ = std::move(events);
  watch_events();
}

// ---- bringing it up

void PodWorker::start_sandbox() {
  using Out = Result<std::pair<runtime::Sandbox, runtime::ShimEvents>>;
  const auto work = [env = context_.sandboxes,
                     spec =
                         runtime::SandboxSpec{spec_.uid, spec_.hostname,
                                              pod_limits(spec_, context_.pod_pids_max)}]() -> Out {
    runtime::Sandbox sandbox = SHOAL_TRY(runtime::start_sandbox(env, spec));
    runtime::ShimEvents events = SHOAL_TRY(runtime::ShimEvents::subscribe(env.socket(spec.uid)));
    return std::pair(std::move(sandbox), std::move(events));
  };
  on_worker(work, [this](Out result) {
    if (!result)
      return step_failed(result.error(), "FailedCreatePodSandBox");
    take_sandbox(std::move(result->first), std::move(result->second));
    step_succeeded();
  });
}

void PodWorker::attach_network() {
  const auto work = [&context = context_, uid = spec_.uid] { return context.leases.allocate(uid); };
  on_worker(work, [this](Result<std::vector<ipam::Lease>> leases) {
    if (!leases)
      return step_failed(leases.error(), "FailedCreatePodSandBox");
    attach(*leases);
  });
}

void PodWorker::attach(const std::vector<ipam::Lease>& leases) {
  if (!seen_.sandbox)
    return;  // it died meanwhile; the addresses stay this pod's
  apply::PodAttachment attachment{spec_.full_name(), spec_.uid, netns_.get(), {}};
  for (const ipam::Lease& lease : leases)
    attachment.addresses.push_back({lease.ip, lease.generation});
  auto local = context_.data_plane.attach_pod(attachment);
  if (!local)
    return step_failed(local.error(), "FailedCreatePodSandBox");
  local_ = std::move(*local);
  seen_.network = true;
  seen_.addresses = attachment.addresses;
  taking_up_ = false;
  step_succeeded();
  context_.local_pods_changed({});
  for (std::size_t i = 0; i < seen_.containers.size(); i++)
    if (seen_.containers[i].current &&
        seen_.containers[i].current->phase == ContainerPhase::kRunning)
      container_runs(i);  // an adopted one: probes need the address
}

void PodWorker::start_one(std::size_t index) {
  ContainerSeen& seen = seen_.containers[index];
  if (!seen.waiting)
    seen.waiting = Waiting{"ContainerCreating", ""};
  report();
  StartRequest request{spec_,
                       index,
                       seen.next_attempt,
                       seen_.addresses,
                       context_.nofile_hard,
                       oom_score_adj(spec_, index, context_.memory_bytes, context_.oom_score_adj)};
  const auto work = [&context = context_, request = std::move(request)] {
    return start_container(context.sandboxes, context.images, request);
  };
  on_worker(work, [this, index](std::expected<Started, StartFailure> result) {
    ContainerSeen& container = seen_.containers[index];
    if (result) {
      container.image_id = result->image_id;
      take_state(result->state);
      event("Normal", "Started", "Started container " + spec_.containers[index].name);
    } else {
      const std::string message = result.error().waiting.message;
      const bool news = !container.waiting || container.waiting->message != message;
      if (news)
        event("Warning", "Failed", message);
      plan_retry(container, result.error().waiting, context_.clock.now());
    }
    report();
  });
}

void PodWorker::clean_one(std::size_t index) {
  const runtime::shim::ContainerRef ref = seen_.containers[index].current->ref;
  const auto work = [&context = context_, uid = spec_.uid, ref] {
    return clean_container(context.sandboxes, context.images, uid, ref);
  };
  on_worker(work, [this, index](Result<> result) {
    if (!result)
      return step_failed(result.error(), "FailedCleanUp");
    seen_.containers[index].cleaned = true;
    step_succeeded();
  });
}

// ---- taking it down

// Processes first, then the wire, then the address: nobody gets it while anything of this pod may
// still use it. What fails is tried again from the beginning.
void PodWorker::take_down(runtime::Sweep what, std::function<void()> done) {
  events_ready_.reset();
  events_.reset();
  for (auto& prober : probers_)
    prober.reset();
  const auto sweep = [&context = context_, uid = spec_.uid,
                      what]() -> Result<std::vector<IpAddress>> {
    SHOAL_TRY(teardown_pod(context.sandboxes, context.images, uid, what));
    std::vector<IpAddress> ips;
    for (const ipam::Lease& lease : context.leases.find_owner(uid))
      ips.push_back(lease.ip);
    return ips;
  };
  on_worker(sweep, [this, done = std::move(done)](Result<std::vector<IpAddress>> ips) {
    if (!ips)
      return step_failed(ips.error(), "FailedKillPod");
    seen_.sandbox = false;
    seen_.network = false;
    netns_.reset();
    local_.reset();
    if (auto detached = context_.data_plane.detach_pod(spec_.uid, *ips); !detached)
      return step_failed(detached.error(), "FailedKillPod");
    const auto release = [&context = context_, uid = spec_.uid] {
      return context.leases.release_owner(uid);
    };
    on_worker(release, [this, done](Result<bool> released) {
      if (!released)
        return step_failed(released.error(), "FailedKillPod");
      done();
    });
  });
}

void PodWorker::free_sandbox() {
  take_down(runtime::Sweep::kKeepLogs, [this] {
    seen_.freed = true;
    for (ContainerSeen& container : seen_.containers)
      container.cleaned = true;
    context_.local_pods_changed({});
    step_succeeded();
  });
}

// Every host sees the deletion itself and takes the pod out of its rings. It is probed to its end:
// a service that has nothing better goes on with it as long as it answers.
void PodWorker::begin_stop() {
  seen_.stop_began = context_.clock.now();
  seen_.drain_until = seen_.stop_began + std::min<Duration>(spec_.grace, kDrainMax);
  take_drain();
}

bool PodWorker::take_drain() {
  if (!seen_.drain_until || drained_ || !context_.drained(spec_.uid))
    return false;
  drained_ = true;
  seen_.drain_until = std::min(*seen_.drain_until, context_.clock.now() + kDrainSettle);
  return true;
}

void PodWorker::look_at_drain() {
  if (!abandoned_ && take_drain())
    poke();
}

void PodWorker::stop_all() {
  seen_.stop_sent = true;
  const std::chrono::seconds grace =
      grace_left(spec_.grace, context_.clock.now() - seen_.stop_began);
  std::vector<runtime::shim::ContainerRef> refs;
  for (const ContainerSeen& seen : seen_.containers)
    if (seen.current && seen.current->phase != ContainerPhase::kExited)
      refs.push_back(seen.current->ref);
  const auto work = [client = runtime::ShimClient(context_.sandboxes.socket(spec_.uid)), refs,
                     grace]() -> Result<> {
    for (const auto& ref : refs)
      if (auto asked = client.stop(ref, SIGTERM, grace);
          !asked && asked.error().code() != Errc::kNotFound)
        return asked;
    return {};
  };
  event("Normal", "Killing", "Stopping the containers");
  on_worker(work, [this](Result<> result) {
    if (result)
      return;
    seen_.stop_sent = false;
    step_failed(result.error(), "FailedKillPod");
  });
}

void PodWorker::teardown() {
  take_down(runtime::Sweep::kAll, [this] { finished(); });
}

void PodWorker::finished() {
  abandoned_ = true;
  if (!left_over())
    context_.report(spec_.ns, spec_.name, spec_.uid, std::nullopt);
  done_();
}

// ---- what the shim says

void PodWorker::watch_events() {
  // The descriptor belongs to events_; Asio gets a duplicate.
  events_ready_ =
      std::make_unique<asio::posix::stream_descriptor>(context_.loop, ::dup(events_->fd()));
  on_events();
}

void PodWorker::on_events() {
  if (!events_ready_)
    return;
  events_ready_->async_wait(asio::posix::stream_descriptor::wait_read,
                            [weak = weak_from_this()](const boost::system::error_code& error) {
                              auto self = weak.lock();
                              if (!self || error || self->abandoned_ || !self->events_)
                                return;
                              auto states = self->events_->take();
                              if (!states)
                                return self->sandbox_died();
                              for (const ContainerState& state : *states)
                                self->take_state(state);
                              self->on_events();
                              self->report();
                              self->poke();
                            });
}

void PodWorker::sandbox_died() {
  spdlog::error("pod {}: its shim died; its containers are ended and the pod begins anew",
                spec_.full_name());
  event("Warning", "SandboxChanged", "the pod's shim died; the pod is started again");
  events_ready_.reset();
  events_.reset();
  netns_.reset();
  seen_.sandbox = false;
  seen_.network = false;
  seen_.adopted = false;  // the sweep of what is left
  for (std::size_t i = 0; i < seen_.containers.size(); i++) {
    ContainerSeen& seen = seen_.containers[i];
    probers_[i].reset();
    if (seen.current && seen.current->phase != ContainerPhase::kExited) {
      seen.current->phase = ContainerPhase::kExited;
      seen.current->exit_code = 128 + SIGKILL;
      seen.current->signal = SIGKILL;
      seen.current->finished_at_ns = context_.clock.wall().time_since_epoch().count();
      container_ended(i, true);
    }
    seen.cleaned = true;
  }
  report();
  poke();
}

void PodWorker::take_state(const ContainerState& state) {
  for (std::size_t i = 0; i < spec_.containers.size(); i++) {
    if (spec_.containers[i].name != state.ref.name)
      continue;
    ContainerSeen& seen = seen_.containers[i];
    if (!is_news(seen, state))
      return;
    const bool same_attempt = seen.current && seen.current->ref.attempt == state.ref.attempt;
    const ContainerPhase before = same_attempt ? seen.current->phase : ContainerPhase::kCreating;
    if (seen.current && !same_attempt)
      seen.previous = seen.current;
    seen.current = state;
    seen.next_attempt = state.ref.attempt + 1;
    seen.restarts = state.ref.attempt;
    if (state.phase == ContainerPhase::kRunning && before != ContainerPhase::kRunning) {
      seen.waiting.reset();
      seen.cleaned = true;
      container_runs(i);
    } else if (state.phase == ContainerPhase::kExited &&
               (before != ContainerPhase::kExited || !same_attempt)) {
      seen.cleaned = false;
      container_ended(i, same_attempt);
    }
  }
}

void PodWorker::container_runs(std::size_t index) {
  const ContainerSpec& container = spec_.containers[index];
  if (!container.readiness)
    return set_ready(index, true);
  if (!seen_.network || probers_[index])
    return;
  const auto since = std::chrono::nanoseconds(seen_.containers[index].current->started_at_ns);
  const Duration age =
      std::max(Duration::zero(), Duration(context_.clock.wall().time_since_epoch() - since));
  probers_[index] = std::make_unique<Prober>(
      context_.loop, context_.clock, *container.readiness, seen_.addresses.front().ip,
      context_.clock.now() - age, [weak = weak_from_this(), index](bool passing) {
        if (auto self = weak.lock(); self && !self->abandoned_) {
          self->set_ready(index, passing);
          self->poke();
        }
      });
}

void PodWorker::container_ended(std::size_t index, bool news) {
  ContainerSeen& seen = seen_.containers[index];
  probers_[index].reset();
  seen.ready = false;
  seen.unprobed = false;
  if (!restarts(spec_.restart, *seen.current))
    return;
  plan_restart(seen, *seen.current, context_.clock.now());
  if (news && wanted())
    event("Warning", "BackOff",
          fmt::format("container {} ended with {}", spec_.containers[index].name,
                      seen.current->exit_code));
}

void PodWorker::set_ready(std::size_t index, bool ready) {
  seen_.containers[index].unprobed = false;
  seen_.containers[index].ready = ready;
  report();
}

// ---- telling

void PodWorker::step_failed(const Error& error, std::string reason) {
  for (ContainerSeen& container : seen_.containers)
    container.unprobed = false;  // no probe will come soon: say what is known
  taking_up_ = false;
  retry_ = retry_.count() ? std::min(retry_ * 2, kRetryMax) : kRetryFirst;
  seen_.retry_at = context_.clock.now() + retry_;
  Waiting why{std::move(reason), error.message()};
  if (!seen_.sandbox_error || *seen_.sandbox_error != why) {
    spdlog::error("pod {}: {}: {}", spec_.full_name(), why.reason, why.message);
    event("Warning", why.reason, why.message);
  }
  seen_.sandbox_error = std::move(why);
  report();
}

void PodWorker::step_succeeded() {
  retry_ = std::chrono::seconds(0);
  seen_.retry_at = {};
  seen_.sandbox_error.reset();
}

bool PodWorker::unprobed() const {
  return std::any_of(seen_.containers.begin(), seen_.containers.end(),
                     [](const ContainerSeen& container) { return container.unprobed; });
}

void PodWorker::report() {
  if (abandoned_ || left_over() || !seen_.adopted || taking_up_ || unprobed())
    return;
  const auto& before = reported_ ? reported_ : noted_;
  json::object status = pod_status(spec_, seen_, {context_.host_ips(), context_.clock.wall()},
                                   before ? &*before : nullptr);
  if (reported_ && *reported_ == status)
    return;
  reported_ = status;
  context_.report(spec_.ns, spec_.name, spec_.uid, std::move(status));
}

// At rest, so that no step waits for it.
void PodWorker::note() {
  noted_ = reported_;
  const auto work = [&context = context_, uid = spec_.uid, status = *reported_] {
    return note_status(context.sandboxes, uid, status);
  };
  on_worker(work, [this](Result<> result) {
    if (!result)  // not repeated: the next change is, and a full disk would be asked without end
      spdlog::warn("pod {}: {}", spec_.full_name(), result.error().message());
  });
}

void PodWorker::event(std::string_view type, std::string_view reason, const std::string& message) {
  if (const auto pod = context_.view.by_uid(spec_.uid))
    context_.writer.event(*pod, type, reason, message, "shoald");
}

}  // namespace shoal::node
