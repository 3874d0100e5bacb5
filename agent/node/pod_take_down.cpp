// SPDX-License-Identifier: Apache-2.0
// Taking a pod down.
#include "agent/node/pod_worker.h"

#include <csignal>

namespace shoal::node {

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
  const auto work = [client = runtime::ShimClient(context_.sandboxes.socket(spec_.uid)),
                     ref = seen.current->ref, grace] { return client.stop(ref, SIGTERM, grace); };
  on_worker(work, [this, index](Result<> result) {
    if (result || result.error().code() == Errc::kNotFound)
      return;
    seen_.containers[index].stop_sent = false;
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

}  // namespace shoal::node
