// SPDX-License-Identifier: Apache-2.0
// PodStatus in Kubernetes' spelling. `shoalGeneration` is Shoal's own: the generation of the lease
// on podIP, by which the data plane tells a frame for an earlier pod with this address;
// `shoalGenerationV6` that of the lease on the IPv6 address beside it.
#include "agent/api/selector.h"
#include "agent/api/time_text.h"
#include "agent/node/pod_plan.h"
#include "agent/node/pod_resources.h"
#include "netplane/base/strings.h"

#include <boost/json.hpp>

namespace shoal::node {
namespace {

namespace json = boost::json;
using runtime::shim::ContainerPhase;
using runtime::shim::ContainerState;

std::string time_text(std::int64_t ns) { return rfc3339(WallTime(std::chrono::nanoseconds(ns))); }

std::string reason_of_end(const ContainerState& state) {
  if (state.oom_killed)
    return "OOMKilled";
  return state.exit_code == 0 ? "Completed" : "Error";
}

constexpr std::size_t kPodMessagesBytesMax = 12 * 1024;  // of all containers, as in Kubernetes

// At most max bytes, and what is no UTF-8 replaced: it is to be JSON.
std::string readable(std::string_view text, std::size_t max) {
  std::string out;
  while (!text.empty() && out.size() < max) {
    const std::size_t length = utf8_char(text);
    const bool good = length > 0 && out.size() + length <= max;
    if (good)
      out += text.substr(0, length);
    else
      out += '?';
    text.remove_prefix(good ? length : 1);
  }
  return out;
}

json::object terminated(const PodSpec& spec, const ContainerState& state) {
  json::object out{{"exitCode", state.exit_code},
                   {"reason", reason_of_end(state)},
                   {"startedAt", time_text(state.started_at_ns)},
                   {"finishedAt", time_text(state.finished_at_ns)},
                   {"containerID", container_id_text(spec, state)}};
  if (state.signal)
    out["signal"] = state.signal;
  if (!state.message.empty())
    out["message"] = readable(state.message, kPodMessagesBytesMax / spec.containers.size());
  return out;
}

json::object state_of(const PodSpec& spec, std::size_t index, const ContainerSeen& seen) {
  const bool exited = seen.current && seen.current->phase == ContainerPhase::kExited;
  if (seen.current && seen.current->phase == ContainerPhase::kRunning)
    return {{"running", {{"startedAt", time_text(seen.current->started_at_ns)}}}};
  if (exited && !restarts(spec.restart_of(index), *seen.current))
    return {{"terminated", terminated(spec, *seen.current)}};
  if (!seen.waiting && exited)
    return {{"terminated", terminated(spec, *seen.current)}};
  const Waiting why = seen.waiting.value_or(default_waiting(spec));
  json::object waiting{{"reason", why.reason}};
  if (!why.message.empty())
    waiting["message"] = readable(why.message, kPodMessagesBytesMax);
  return {{"waiting", std::move(waiting)}};
}

// An init container that has done its work is ready, as Kubernetes has it.
bool is_ready(Role role, const ContainerSeen& seen) {
  if (role == Role::kInit)
    return seen.current && seen.current->phase == ContainerPhase::kExited &&
           seen.current->exit_code == 0;
  return seen.ready;
}

json::object container_status(const PodSpec& spec, std::size_t index, const ContainerSeen& seen) {
  const ContainerSpec& container = spec.containers[index];
  json::object state = state_of(spec, index, seen);
  json::object last;
  if (seen.current && seen.current->phase == ContainerPhase::kExited &&
      !state.contains("terminated"))
    last["terminated"] = terminated(spec, *seen.current);
  else if (seen.previous)
    last["terminated"] = terminated(spec, *seen.previous);
  json::object out{{"name", container.name},    {"image", container.image},
                   {"imageID", seen.image_id},  {"ready", is_ready(container.role, seen)},
                   {"started", seen.started},   {"restartCount", seen.restarts},
                   {"state", std::move(state)}, {"lastState", std::move(last)}};
  if (seen.current)
    out["containerID"] = container_id_text(spec, *seen.current);
  return out;
}

// Of the containers before the main ones; nothing: they say nothing about the phase.
std::optional<std::string_view> phase_of_init(const PodSpec& spec, const PodSeen& seen) {
  bool pending = false;
  for (std::size_t i = 0; i < seen.containers.size(); i++) {
    const ContainerSeen& container = seen.containers[i];
    switch (spec.containers[i].role) {
    case Role::kInit:
      if (!is_ready(Role::kInit, container)) {
        if (container.current && !restarts(spec.restart_of(i), *container.current) &&
            container.current->phase == ContainerPhase::kExited)
          return "Failed";
        pending = true;
      }
      break;
    case Role::kSidecar:
      pending = pending || !container.current ||
                (container.current->phase == ContainerPhase::kRunning && !container.started &&
                 !initialized(spec, seen));
      break;
    case Role::kMain:
      break;
    }
  }
  return pending && !finished(spec, seen) ? std::optional<std::string_view>("Pending")
                                          : std::nullopt;
}

std::string_view phase_of(const PodSpec& spec, const PodSeen& seen) {
  const bool any_alive = std::ranges::any_of(seen.containers, [](const ContainerSeen& container) {
    return container.current && container.current->phase != ContainerPhase::kExited;
  });
  if (seen.failure)
    return any_alive && !seen.freed ? "Running" : "Failed";
  if (const auto phase = phase_of_init(spec, seen))
    return *phase;
  std::size_t running = 0, failed = 0;
  for (std::size_t i = 0; i < seen.containers.size(); i++) {
    const ContainerSeen& container = seen.containers[i];
    const Role role = spec.containers[i].role;
    if (role == Role::kInit)
      continue;
    if (!container.current || container.current->phase == ContainerPhase::kCreating)
      return "Pending";
    if (container.current->phase == ContainerPhase::kRunning)
      running++;
    else if (role == Role::kSidecar)
      continue;
    else if (restarts(spec.restart, *container.current))
      running++;  // it will run again
    else if (container.current->exit_code != 0)
      failed++;
  }
  if (running)
    return "Running";
  return failed ? "Failed" : "Succeeded";
}

const json::object* condition_before(const json::object* before, std::string_view type) {
  const json::value* list = before ? before->if_contains("conditions") : nullptr;
  if (!list || !list->is_array())
    return nullptr;
  for (const json::value& value : list->as_array())
    if (const json::object* condition = value.if_object())
      if (const json::value* name = condition->if_contains("type");
          name && name->is_string() && std::string_view(name->as_string()) == type)
        return condition;
  return nullptr;
}

struct Condition {
  bool status = false;
  std::string_view reason;
  std::string message;
};

json::object condition(std::string_view type, const Condition& is, const StatusFacts& facts,
                       const json::object* before) {
  json::object out{
      {"type", type}, {"status", is.status ? "True" : "False"}, {"lastProbeTime", nullptr}};
  const json::object* old = condition_before(before, type);
  const bool same = old && old->if_contains("status") && old->at("status") == out["status"];
  out["lastTransitionTime"] =
      same ? old->at("lastTransitionTime") : json::value(rfc3339(facts.now));
  if (!is.reason.empty())
    out["reason"] = is.reason;
  if (!is.message.empty())
    out["message"] = is.message;
  return out;
}

json::array ip_list(const std::vector<IpAddress>& ips) {
  json::array out;
  for (const IpAddress& ip : ips)
    out.emplace_back(json::object{{"ip", ip.to_string()}});
  return out;
}

void show_addresses(const PodSpec& spec, const PodSeen& seen, json::object& out) {
  if (seen.addresses.empty())
    return;
  const bool known = spec.host_network ? seen.network : seen.addresses.front().generation != 0;
  if (!known && !seen.freed)
    return;
  std::vector<IpAddress> ips;
  for (const auto& [ip, generation] : seen.addresses) {
    ips.push_back(ip);
    if (!seen.freed && !spec.host_network)  // it was this pod's address and may be another's now
      out[ip == seen.addresses.front().ip ? "shoalGeneration" : "shoalGenerationV6"] = generation;
  }
  out["podIP"] = ips.front().to_string();
  out["podIPs"] = ip_list(ips);
}

// The names of the containers that are not what they should be: "[a b]".
template <class Is>
std::string names_but(const PodSpec& spec, const PodSeen& seen, Is is) {
  std::string names;
  for (std::size_t i = 0; i < seen.containers.size(); i++)
    if (!is(spec.containers[i].role, seen.containers[i]))
      names += (names.empty() ? "" : " ") + spec.containers[i].name;
  return names.empty() ? names : "[" + names + "]";
}

Condition initialized_condition(const PodSpec& spec, const PodSeen& seen, std::string_view phase) {
  if (phase == "Succeeded" && spec.has_init())
    return {true, "PodCompleted", ""};
  const bool ran = [&] {
    for (std::size_t i = 0; i < seen.containers.size(); i++)
      if (spec.containers[i].role == Role::kMain && seen.containers[i].current)
        return !seen.sandbox || finished(spec, seen);
    return false;
  }();
  if (ran || !spec.has_init() || initialized(spec, seen))
    return {true, "", ""};
  const std::string names = names_but(spec, seen, [](Role role, const ContainerSeen& container) {
    return role == Role::kMain || (role == Role::kInit && is_ready(role, container)) ||
           (role == Role::kSidecar && container.started);
  });
  return {false, "ContainersNotInitialized", "containers with incomplete status: " + names};
}

Condition ready_condition(const PodSpec& spec, const PodSeen& seen, std::string_view phase) {
  if (phase == "Succeeded")
    return {false, "PodCompleted", ""};
  if (phase == "Failed")
    return {false, "PodFailed", ""};
  const std::string names = names_but(spec, seen, [](Role role, const ContainerSeen& container) {
    return role == Role::kInit || container.ready;
  });
  if (names.empty() && !seen.containers.empty())
    return {true, "", ""};
  return {false, "ContainersNotReady", "containers with unready status: " + names};
}

// What the pod as a whole says beside its containers.
void show_reason(const PodSeen& seen, json::object& out) {
  const std::optional<Waiting>& why = seen.failure ? seen.failure : seen.sandbox_error;
  if (!why)
    return;
  out["reason"] = why->reason;
  out["message"] = why->message;
}

}  // namespace

std::string container_id_text(const PodSpec& spec, const ContainerState& state) {
  return fmt::format("shoal://{}/{}", spec.uid, runtime::shim::container_id(state.ref));
}

json::object pod_status(const PodSpec& spec, const PodSeen& seen, const StatusFacts& facts,
                        const json::object* before) {
  json::array init, main;
  for (std::size_t i = 0; i < seen.containers.size(); i++) {
    (spec.containers[i].role == Role::kMain ? main : init)
        .push_back(container_status(spec, i, seen.containers[i]));
  }
  const std::string phase(phase_of(spec, seen));
  json::object out{{"phase", phase},
                   {"hostIP", facts.host_ips.front().to_string()},
                   {"hostIPs", ip_list(facts.host_ips)},
                   {"qosClass", to_string(qos_class(spec))},
                   {"startTime", rfc3339(seen.started)},
                   {"containerStatuses", std::move(main)}};
  if (!init.empty())
    out["initContainerStatuses"] = std::move(init);
  show_addresses(spec, seen, out);
  show_reason(seen, out);
  const Condition ready = ready_condition(spec, seen, phase);
  out["conditions"] = json::array{
      condition("PodReadyToStartContainers", {seen.network, "", ""}, facts, before),
      condition("Initialized", initialized_condition(spec, seen, phase), facts, before),
      condition("Ready", ready, facts, before), condition("ContainersReady", ready, facts, before),
      condition("PodScheduled", {true, "", ""}, facts, before)};
  return out;
}

void restore_status(const PodSpec& spec, const json::object& status, PodSeen& seen) {
  if (const auto started = api::parse_time(api::find_string(status, "startTime")))
    seen.started = *started;
  for (const std::string_view over : {kDeadlineExceeded, kEvicted})
    if (api::find_string(status, "reason") == over)
      seen.failure = Waiting{std::string(over), std::string(api::find_string(status, "message"))};
  seen.addresses.clear();
  if (const json::array* ips = api::find_array(status, "podIPs"))
    for (const json::value& value : *ips)
      if (const json::object* entry = value.if_object())
        if (const auto ip = IpAddress::parse(api::find_string(*entry, "ip")))
          seen.addresses.push_back({*ip, 0});
  for (const std::string_view list : {"initContainerStatuses", "containerStatuses"})
    if (const json::array* containers = api::find_array(status, list))
      for (const json::value& value : *containers)
        if (const json::object* container = value.if_object())
          for (std::size_t i = 0; i < spec.containers.size(); i++)
            if (api::find_string(*container, "name") == spec.containers[i].name) {
              seen.containers[i].image_id = api::find_string(*container, "imageID");
              if (const json::value* started = container->if_contains("started");
                  started && *started == json::value(true))
                seen.containers[i].started_id = api::find_string(*container, "containerID");
            }
}

}  // namespace shoal::node
