// SPDX-License-Identifier: Apache-2.0
#include "agent/node/pod_status.h"

#include "agent/node/json_get.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <fmt/format.h>

namespace shoal::node {
namespace {

namespace json = boost::json;
using runtime::shim::ContainerState;

std::string time_text(std::int64_t wall_ns) { return rfc3339(WallTime(Duration(wall_ns))); }

json::object terminated(const PodSpec& pod, const ContainerState& state) {
  json::object body;
  body["exitCode"] = state.exit_code;
  if (state.signal != 0)
    body["signal"] = state.signal;
  body["reason"] = state.oom_killed ? "OOMKilled" : state.exit_code == 0 ? "Completed" : "Error";
  if (state.started_at_ns > 0)
    body["startedAt"] = time_text(state.started_at_ns);
  if (state.finished_at_ns > 0)
    body["finishedAt"] = time_text(state.finished_at_ns);
  body["containerID"] =
      fmt::format("shoal://{}.{}", pod.uid, runtime::shim::container_id(state.ref));
  return body;
}

json::object waiting(std::string_view reason, std::string_view message) {
  json::object body{{"reason", reason}};
  if (!message.empty())
    body["message"] = message;
  return json::object{{"waiting", std::move(body)}};
}

json::object present_state(const PodSpec& pod, const ContainerSpec& spec,
                           const ContainerObserved& container, const PodObserved& observed,
                           bool stopping) {
  if (container.running())
    return {{"running", json::object{{"startedAt", time_text(container.current->started_at_ns)}}}};
  if (container.waiting)
    return waiting(container.waiting->reason, container.waiting->message);
  if (container.exited()) {
    const bool again =
        !stopping && !observed.finished && should_restart(pod.restart, *container.current);
    if (!again || container.crashes <= 1)
      return {{"terminated", terminated(pod, *container.current)}};
    return waiting("CrashLoopBackOff",
                   fmt::format("back-off {}s restarting failed container={} pod={}_{}({})",
                               restart_delay(container.crashes).count(), spec.name, pod.name,
                               pod.ns, pod.uid));
  }
  return waiting("ContainerCreating", observed.trouble);
}

json::object container_status(const PodSpec& pod, const ContainerSpec& spec,
                              const ContainerObserved& container, const PodObserved& observed,
                              bool stopping) {
  json::object body;
  body["name"] = spec.name;
  body["image"] = spec.image;
  body["imageID"] = container.image_id;
  body["containerID"] = container.current
                            ? fmt::format("shoal://{}.{}", pod.uid,
                                          runtime::shim::container_id(container.current->ref))
                            : std::string();
  body["ready"] = !stopping && container_ready(spec, container);
  body["started"] = container.running();
  body["restartCount"] = container.current ? container.current->ref.attempt : 0;
  body["state"] = present_state(pod, spec, container, observed, stopping);
  json::object last;
  // While a container waits for its restart, the run that ended is its last state.
  const bool current_is_last =
      container.exited() && !body["state"].get_object().contains("terminated");
  if (current_is_last)
    last["terminated"] = terminated(pod, *container.current);
  else if (container.last)
    last["terminated"] = terminated(pod, *container.last);
  body["lastState"] = std::move(last);
  return body;
}

// Type, status, reason, message; the time of an unchanged status is kept.
json::object condition(const StatusFacts& facts, std::string_view type, bool holds,
                       std::string_view reason = {}, std::string_view message = {}) {
  json::object body{{"type", type}, {"status", holds ? "True" : "False"}};
  if (!reason.empty() && !holds)
    body["reason"] = reason;
  if (!message.empty() && !holds)
    body["message"] = message;
  std::string since = facts.now;
  if (const auto* before = get_array(facts.before, "conditions"))
    for (const auto& old : *before)
      if (const auto* fields = old.if_object())
        if (get_text(*fields, "type") == type &&
            get_text(*fields, "status") == (holds ? "True" : "False"))
          since = get_text(*fields, "lastTransitionTime", since);
  body["lastTransitionTime"] = since;
  return body;
}

}  // namespace

bool container_ready(const ContainerSpec& spec, const ContainerObserved& observed) {
  return observed.running() && (!spec.readiness || observed.probe_passes);
}

std::string pod_phase(const PodSpec& spec, const PodObserved& observed) {
  if (ended_for_good(spec, observed)) {
    const bool good = std::ranges::all_of(
        observed.containers, [](const ContainerObserved& c) { return c.current->exit_code == 0; });
    return good ? "Succeeded" : "Failed";
  }
  // Running from when every container has been made.
  const bool all_made = std::ranges::all_of(
      observed.containers, [](const ContainerObserved& c) { return c.current.has_value(); });
  return all_made ? "Running" : "Pending";
}

json::object pod_status(const PodSpec& spec, const PodObserved& observed,
                        const StatusFacts& facts) {
  json::object status;
  const std::string phase = pod_phase(spec, observed);
  status["phase"] = phase;
  const bool ended = phase == "Succeeded" || phase == "Failed";
  std::string unready;
  json::array containers;
  for (std::size_t i = 0; i < spec.containers.size(); ++i) {
    containers.push_back(container_status(spec, spec.containers[i], observed.containers[i],
                                          observed, facts.stopping));
    if (facts.stopping || !container_ready(spec.containers[i], observed.containers[i]))
      unready += (unready.empty() ? "" : " ") + spec.containers[i].name;
  }
  const bool ready = unready.empty();
  const std::string_view reason = ended ? "PodCompleted" : "ContainersNotReady";
  const std::string message =
      ended ? std::string() : fmt::format("containers with unready status: [{}]", unready);
  json::array conditions;
  conditions.push_back(
      condition(facts, "PodReadyToStartContainers", observed.attached, "", observed.trouble));
  conditions.push_back(condition(facts, "Initialized", true));
  conditions.push_back(condition(facts, "Ready", ready, reason, message));
  conditions.push_back(condition(facts, "ContainersReady", ready, reason, message));
  conditions.push_back(condition(facts, "PodScheduled", true));
  status["conditions"] = std::move(conditions);
  if (!facts.host_ip.empty()) {
    status["hostIP"] = facts.host_ip;
    status["hostIPs"] = json::array{json::object{{"ip", facts.host_ip}}};
  }
  if (observed.address) {
    const std::string ip = observed.address->ip.to_string();
    status["podIP"] = ip;
    status["podIPs"] = json::array{json::object{{"ip", ip}}};
    // Generation of the lease: data planes tell frames for an earlier pod with this address apart
    // by it.
    status["shoalGeneration"] = observed.address->generation;
  }
  status["startTime"] = facts.start_time;
  status["containerStatuses"] = std::move(containers);
  return status;
}

void take_reported(PodObserved& observed, const PodSpec& spec, const json::object& status) {
  const std::string phase = get_text(status, "phase");
  observed.finished = phase == "Succeeded" || phase == "Failed";
  const auto* containers = get_array(status, "containerStatuses");
  for (std::size_t i = 0; containers != nullptr && i < spec.containers.size(); ++i)
    for (const auto& value : *containers) {
      const auto* fields = value.if_object();
      if (fields == nullptr || get_text(*fields, "name") != spec.containers[i].name)
        continue;
      ContainerObserved& container = observed.containers[i];
      const std::int64_t restarts =
          std::clamp<std::int64_t>(get_int(*fields, "restartCount").value_or(0), 0, INT32_MAX);
      container.image_id = get_text(*fields, "imageID");
      if (get_bool(*fields, "ready"))
        container.ready_attempt = static_cast<std::uint32_t>(restarts);
      if (!container.current && !get_text(*fields, "containerID").empty())
        container.next_attempt =
            std::max(container.next_attempt, static_cast<std::uint32_t>(restarts) + 1);
    }
}

}  // namespace shoal::node
