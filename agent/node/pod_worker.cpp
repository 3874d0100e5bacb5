// SPDX-License-Identifier: Apache-2.0
#include "agent/node/pod_worker.h"

#include <boost/asio/post.hpp>
#include <boost/json.hpp>
#include <spdlog/spdlog.h>

namespace shoal::node {

namespace asio = boost::asio;
namespace json = boost::json;

PodWorker::PodWorker(Context& context, PodSpec spec, std::function<void()> done)
    : context_(context), spec_(std::move(spec)), done_(std::move(done)), timer_(context.loop),
      measure_timer_(context.loop) {
  seen_.started = context_.clock.wall();
  seen_.volumes_due = !spec_.volumes.empty();
  seen_.containers.resize(spec_.containers.size());
  probers_.resize(spec_.containers.size());
  images_.resize(spec_.containers.size());
  condemned_grace_.resize(spec_.containers.size());
}

PodWorker::~PodWorker() = default;

void PodWorker::update(PodSpec spec) {
  // Containers of a pod do not change; a deletion and its grace do.
  if (spec.deleting && spec_.deleting && spec.grace < spec_.grace)
    stop_again();  // a second stop shortens the grace
  spec_.deleting = spec.deleting;
  spec_.grace = spec.grace;
  shorten_drain();
  poke();
}

void PodWorker::gone() {
  wanted_ = false;
  spec_.grace = std::min(spec_.grace, std::chrono::seconds(2));
  stop_again();
  shorten_drain();
  poke();
}

void PodWorker::stop_again() {
  for (ContainerSeen& container : seen_.containers)
    container.stop_sent = false;
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
  measure_timer_.cancel();
  events_ready_.reset();
  probers_.clear();
  drop_pulls();
}

void PodWorker::poke() {
  if (busy_ || abandoned_)
    return;
  if (!wanted() || node::finished(spec_, seen_))
    drop_pulls();
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
  case StepKind::kSetUpVolumes:
    return set_up_volumes();
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
  case StepKind::kExpire:
    return expire();
  case StepKind::kStopContainer:
    return stop_one(step.container);
  case StepKind::kTeardown:
    return teardown();
  case StepKind::kWait:
    return;
  }
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
