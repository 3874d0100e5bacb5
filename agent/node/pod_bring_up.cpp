// SPDX-License-Identifier: Apache-2.0
// Taking up what an earlier agent left, and bringing a pod up.
#include "agent/node/env.h"
#include "agent/node/pod_etc.h"
#include "agent/node/pod_resources.h"
#include "agent/node/pod_worker.h"

namespace shoal::node {

using runtime::shim::ContainerPhase;
using runtime::shim::ContainerState;

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
  if (result->sandbox) {
    take_sandbox(std::move(*result->sandbox), std::move(*result->events));
    // They were set up before it was started. What their files show may have changed since.
    seen_.volumes_due = false;
    seen_.volumes_stale = !spec_.volumes.empty();
  }
  for (const ContainerState& state : result->states)
    take_state(state);
  // What ran under an earlier agent was perhaps ready. Nothing is said of it before a probe has
  // looked, or every restart of an agent would take its pods out of their services for a moment.
  for (std::size_t i = 0; i < spec_.containers.size(); i++) {
    ContainerSeen& seen = seen_.containers[i];
    seen.unprobed = spec_.containers[i].readiness && seen.started && seen.current &&
                    seen.current->phase == ContainerPhase::kRunning;
  }
  seen_.adopted = true;
  if (spec_.active_deadline && !node::finished(spec_, seen_))
    seen_.deadline =
        context_.clock.now() + (seen_.started + *spec_.active_deadline - context_.clock.wall());
  taking_up_ = seen_.sandbox;  // its network is there; what it is, is known once it is attached
  step_succeeded();
}

void PodWorker::take_sandbox(runtime::Sandbox sandbox, runtime::ShimEvents events) {
  seen_.sandbox = true;
  seen_.sandbox_id = events.initial().sandbox_id;
  seen_.sandbox_error.reset();
  shim_ = {sandbox.state.shim_pid, sandbox.state.shim_start_ticks};
  netns_ = std::move(sandbox.netns);
  events_ = std::move(events);
  watch_events();
  if (disk_limited(spec_))
    measure_disk();
}

// ---- bringing it up

void PodWorker::start_sandbox() {
  using Out = Result<std::pair<runtime::Sandbox, runtime::ShimEvents>>;
  const auto work = [env = context_.sandboxes,
                     spec = runtime::SandboxSpec{.uid = spec_.uid,
                                                 .hostname = kernel_hostname(spec_),
                                                 .limits = pod_limits(spec_, context_.pod_pids_max),
                                                 .share_pids = spec_.share_pids,
                                                 .host_ipc = spec_.host_ipc,
                                                 .host_network = spec_.host_network}]() -> Out {
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
  if (spec_.host_network) {
    std::vector<model::PodAddress> addresses;
    for (const IpAddress& ip : context_.host_ips())
      addresses.push_back({ip, 0});
    return network_is_there(std::move(addresses));
  }
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
  network_is_there(attachment.addresses);
}

void PodWorker::network_is_there(std::vector<model::PodAddress> addresses) {
  seen_.network = true;
  seen_.addresses = std::move(addresses);
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
  if (!image_ready(index))
    return report();
  if (!seen.waiting)
    seen.waiting = default_waiting(spec_);
  report();
  auto env = container_env(spec_, index, env_facts());
  if (!env) {
    start_failed(index, {"CreateContainerConfigError", std::move(env.error())});
    return report();
  }
  StartRequest request{spec_,
                       index,
                       seen.next_attempt,
                       std::move(*env),
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
      start_failed(index, result.error().waiting);
    }
    report();
  });
}

void PodWorker::start_failed(std::size_t index, const Waiting& why) {
  ContainerSeen& container = seen_.containers[index];
  const std::string shown = why.reason == "CreateContainerConfigError" ? "Error: " : "";
  if (!container.waiting || container.waiting->message != why.message) {
    const bool name = why.reason == "InvalidImageName";
    const bool never = why.reason == "ErrImageNeverPull";
    event("Warning", name ? "InspectFailed" : never ? why.reason : "Failed", shown + why.message);
    if (name || never)
      event("Warning", "Failed", "Error: " + why.reason);
  }
  plan_retry(container, why, context_.clock.now());
}

EnvFacts PodWorker::env_facts() const {
  EnvFacts facts;
  facts.pod = context_.view.by_uid(spec_.uid);
  for (const model::PodAddress& address : seen_.addresses)
    facts.pod_ips.push_back(address.ip);
  facts.host_ips = context_.host_ips();
  facts.node_name = context_.node_name;
  if (const auto node = context_.view.get(view::kNodes, "", context_.node_name))
    facts.allocatable = view::node_allocatable(*node);
  facts.find = [this](std::string_view resource, std::string_view name) {
    return context_.view.get(resource, spec_.ns, name);
  };
  if (spec_.service_links)
    facts.services = context_.view.list(view::kServices, spec_.ns);
  return facts;
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

}  // namespace shoal::node
