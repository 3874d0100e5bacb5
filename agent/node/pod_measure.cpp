// SPDX-License-Identifier: Apache-2.0
// What a pod uses: looked at, and held to its limits.
#include "agent/node/pod_worker.h"

#include <algorithm>

namespace shoal::node {

using runtime::shim::ContainerPhase;

namespace {

// As often as the kubelet looks, and less where it takes long: measuring is not what a host is for.
constexpr std::chrono::seconds kMeasureEvery{10};
constexpr int kMeasureShare = 50;
constexpr std::size_t kMeasureEntries = 2048;  // some milliseconds of a worker
constexpr std::chrono::seconds kEvictionGrace{1};

}  // namespace

std::optional<StatsTarget> PodWorker::stats_target() const {
  if (!seen_.sandbox || left_over())
    return std::nullopt;
  StatsTarget out{spec_.ns, spec_.name, spec_.uid, seen_.started, shim_, {}};
  for (const ContainerSeen& container : seen_.containers)
    if (container.current && container.current->phase == ContainerPhase::kRunning)
      out.containers.push_back(
          {container.current->ref.name, runtime::shim::container_id(container.current->ref),
           WallTime(std::chrono::nanoseconds(container.current->started_at_ns))});
  return out;
}

bool PodWorker::measure_disk(std::function<void()> done) {
  if (abandoned_ || left_over() || !wanted() || node::finished(spec_, seen_))
    return false;
  if (done)
    measure_done_.push_back(std::move(done));
  if (measuring_)
    return true;
  measuring_ = true;
  measure_began_ = context_.clock.now();
  std::vector<runtime::shim::ContainerRef> containers;
  for (const ContainerSeen& container : seen_.containers)
    if (container.current &&
        (container.current->phase != ContainerPhase::kExited || !container.cleaned))
      containers.push_back(container.current->ref);
  measure_step(std::make_shared<PodDiskWalk>(context_.sandboxes, spec_, containers));
  return true;
}

void PodWorker::end_measure() {
  measuring_ = false;
  for (const auto& done : std::exchange(measure_done_, {}))
    done();
}

void PodWorker::measure_step(const std::shared_ptr<PodDiskWalk>& walk) {
  beside([walk] { return walk->step(kMeasureEntries); },
         [this, walk](bool more) { measured(walk, more); });
}

// A limit may be passed before the end.
void PodWorker::measured(const std::shared_ptr<PodDiskWalk>& walk, bool more) {
  if (!wanted() || node::finished(spec_, seen_))
    return end_measure();
  std::string over = over_disk_limit(spec_, walk->found());
  if (over.empty() && more)
    return measure_step(walk);
  disk_ = {walk->found(), context_.clock.now(), context_.clock.wall()};
  end_measure();
  if (!over.empty())
    return evict(std::move(over));
  if (disk_limited(spec_))
    measure_later();
}

void PodWorker::measure_later() {
  const Duration took = context_.clock.now() - measure_began_;
  measure_timer_.expires_after(std::max<Duration>(kMeasureEvery, took * kMeasureShare));
  measure_timer_.async_wait([weak = weak_from_this()](const boost::system::error_code& error) {
    if (auto self = weak.lock(); self && !error)
      self->measure_disk();
  });
}

bool PodWorker::evictable() const {
  return !abandoned_ && !left_over() && seen_.sandbox && wanted() && !node::finished(spec_, seen_);
}

void PodWorker::evict(std::string message) {
  seen_.failure = Waiting{std::string(kEvicted), std::move(message)};
  event("Warning", seen_.failure->reason, seen_.failure->message);
  spec_.grace = std::min(spec_.grace, kEvictionGrace);
  stop_again();  // also what is being stopped by itself
  poke();
}

}  // namespace shoal::node
