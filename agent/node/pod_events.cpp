// SPDX-License-Identifier: Apache-2.0
// What a pod's shim and its probes say.
#include "agent/node/pod_worker.h"

#include <csignal>
#include <spdlog/spdlog.h>
#include <unistd.h>

namespace shoal::node {

namespace asio = boost::asio;
using runtime::shim::ContainerPhase;
using runtime::shim::ContainerState;

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
    probers_[i] = {};
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
    if (!same_attempt) {
      seen.stop_sent = false;
      seen.condemned.reset();
    }
    seen.next_attempt = state.ref.attempt + 1;
    seen.restarts = state.ref.attempt;
    if (state.phase == ContainerPhase::kRunning && before != ContainerPhase::kRunning) {
      seen.waiting.reset();
      seen.cleaned = true;
      seen.started = seen.started_id == container_id_text(spec_, state);
      container_runs(i);
    } else if (state.phase == ContainerPhase::kExited &&
               (before != ContainerPhase::kExited || !same_attempt)) {
      seen.cleaned = false;
      container_ended(i, same_attempt);
    }
  }
}

void PodWorker::container_ended(std::size_t index, bool news) {
  ContainerSeen& seen = seen_.containers[index];
  probers_[index] = {};
  seen.started = false;
  seen.in_hook = false;
  seen.ready = false;
  seen.unprobed = false;
  if (!restarts(spec_.restart_of(index), *seen.current))
    return;
  plan_restart(spec_, index, seen, context_.clock.now());
  if (news && wanted() && seen.waiting)
    event("Warning", "BackOff",
          fmt::format("Back-off restarting failed container {} in pod {}",
                      spec_.containers[index].name, pod_text(spec_)));
}

}  // namespace shoal::node
