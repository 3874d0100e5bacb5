// SPDX-License-Identifier: Apache-2.0
// Taking a pod down.
#include "agent/node/pod_worker.h"

#include <csignal>

namespace shoal::node {
namespace {

constexpr std::chrono::milliseconds kNamespacePoll{5};
constexpr std::chrono::milliseconds kNamespaceGoesMax{1000};

}  // namespace

// ---- taking it down

// Processes first, then the wire, then the address: nobody gets it while anything of this pod may
// still use it. What fails is tried again from the beginning.
void PodWorker::take_down(runtime::Sweep what, std::function<void()> done) {
  events_ready_.reset();
  events_.reset();
  for (ContainerProbers& probers : probers_)
    probers = {};
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
    detach(std::move(*ips), context_.clock.now() + kNamespaceGoesMax, done);
  });
}

// until: from then on the device is deleted, whoever keeps its namespace.
void PodWorker::detach(std::vector<IpAddress> ips, MonoTime until, std::function<void()> done) {
  using Detach = apply::DataPlane::Detach;
  const auto gone = context_.data_plane.detach_pod(
      spec_.uid, ips, context_.clock.now() < until ? Detach::kWithItsNamespace : Detach::kNow);
  if (!gone)
    return step_failed(gone.error(), "FailedKillPod");
  if (!*gone) {
    busy_ = true;
    timer_.expires_after(kNamespacePoll);
    timer_.async_wait([weak = weak_from_this(), ips = std::move(ips), until,
                       done = std::move(done)](const boost::system::error_code& error) {
      const auto self = weak.lock();
      if (error || !self)
        return;
      self->busy_ = false;
      self->detach(ips, until, done);
      self->poke();
    });
    return;
  }
  const auto release = [&context = context_, uid = spec_.uid] {
    return context.leases.release_owner(uid);
  };
  on_worker(release, [this, done = std::move(done)](Result<bool> released) {
    if (!released)
      return step_failed(released.error(), "FailedKillPod");
    done();
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
  stop_again();  // one that is being stopped by itself has no more time than the others
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

// The pod's deadline has passed: it is stopped as if it were deleted, and failed.
void PodWorker::expire() {
  seen_.failure = Waiting{std::string(kDeadlineExceeded),
                          "Pod was active on the node longer than the specified deadline"};
  event("Normal", seen_.failure->reason, seen_.failure->message);
  stop_again();  // also what is being stopped by itself
}

// The preStop hook first; the grace is for both. Told again, with less of it, the hook is cut
// short.
void PodWorker::stop_one(std::size_t index) {
  ContainerSeen& seen = seen_.containers[index];
  seen.stop_sent = true;
  const bool alone = wanted() && !node::finished(spec_, seen_);  // it is condemned, its pod goes on
  if (!alone && seen_.stop_began == MonoTime{})
    seen_.stop_began = context_.clock.now();  // of a pod that is over: without a drain
  const std::chrono::seconds grace =
      alone ? condemned_grace_[index]
            : grace_left(spec_.grace, context_.clock.now() - seen_.stop_began);
  event("Normal", "Killing",
        alone ? seen.condemned->message : "Stopping container " + spec_.containers[index].name);
  const std::optional<Action>& hook = spec_.containers[index].pre_stop;
  if (!hook || grace.count() == 0 || probers_[index].stopping || !seen_.network)
    return send_stop(index, grace);
  probers_[index].stopping = true;
  const MonoTime began = context_.clock.now();
  probers_[index].hook = std::make_unique<ActionRun>(
      context_.loop, *hook, target_of(index), grace,
      [weak = weak_from_this(), index, grace, began](const ActionResult& result) {
        auto self = weak.lock();
        if (!self || self->abandoned_)
          return;
        if (!result.ok)
          self->event("Warning", "FailedPreStopHook", "PreStopHook failed");
        self->send_stop(index,
                        std::max(grace_left(grace, self->context_.clock.now() - began), kGraceMin));
      });
}

void PodWorker::send_stop(std::size_t index, std::chrono::seconds grace) {
  probers_[index].hook.reset();
  const auto work = [&env = context_.sandboxes, uid = spec_.uid,
                     ref = seen_.containers[index].current->ref, grace] {
    return runtime::ShimClient(env.socket(uid)).stop(ref, stop_signal(env, uid, ref), grace);
  };
  const auto then = [this, index](Result<> result) {
    if (result || result.error().code() == Errc::kNotFound)
      return;
    seen_.containers[index].stop_sent = false;
    step_failed(result.error(), "FailedKillPod");
  };
  // A hook ends whenever it does, perhaps while a step is under way.
  if (busy_)
    return beside(work, then);
  on_worker(work, then);
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

}  // namespace shoal::node
