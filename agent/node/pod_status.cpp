// SPDX-License-Identifier: Apache-2.0
// PodStatus in Kubernetes' spelling. `shoalGeneration` is Shoal's own: the generation of the lease
// on podIP, by which the data plane tells a frame for an earlier pod with this address;
// `shoalGenerationV6` that of the lease on the IPv6 address beside it.
#include "agent/api/selector.h"
#include "agent/api/time_text.h"
#include "agent/node/pod_plan.h"
#include "agent/node/pod_resources.h"

#include <boost/json.hpp>

namespace shoal::node {
namespace {

namespace json = boost::json;
using runtime::shim::ContainerPhase;
using runtime::shim::ContainerState;

std::string time_text(std::int64_t ns) { return rfc3339(WallTime(std::chrono::nanoseconds(ns))); }

std::string container_id_text(const PodSpec& spec, const ContainerState& state) {
  return fmt::format("shoal://{}/{}", spec.uid, runtime::shim::container_id(state.ref));
}

std::string reason_of_end(const ContainerState& state) {
  if (state.oom_killed)
    return "OOMKilled";
  return state.exit_code == 0 ? "Completed" : "Error";
}

json::object terminated(const PodSpec& spec, const ContainerState& state) {
  json::object out{{"exitCode", state.exit_code},
                   {"reason", reason_of_end(state)},
                   {"startedAt", time_text(state.started_at_ns)},
                   {"finishedAt", time_text(state.finished_at_ns)},
                   {"containerID", container_id_text(spec, state)}};
  if (state.signal)
    out["signal"] = state.signal;
  return out;
}

json::object state_of(const PodSpec& spec, const ContainerSeen& seen) {
  if (seen.current && seen.current->phase == ContainerPhase::kRunning)
    return {{"running", {{"startedAt", time_text(seen.current->started_at_ns)}}}};
  const bool final = seen.current && seen.current->phase == ContainerPhase::kExited &&
                     !restarts(spec.restart, *seen.current);
  if (final)
    return {{"terminated", terminated(spec, *seen.current)}};
  if (seen.waiting) {
    json::object waiting{{"reason", seen.waiting->reason}};
    if (!seen.waiting->message.empty())
      waiting["message"] = seen.waiting->message;
    return {{"waiting", std::move(waiting)}};
  }
  if (seen.current && seen.current->phase == ContainerPhase::kExited)
    return {{"terminated", terminated(spec, *seen.current)}};
  return {{"waiting", {{"reason", "ContainerCreating"}}}};
}

json::object container_status(const PodSpec& spec, const ContainerSpec& container,
                              const ContainerSeen& seen) {
  json::object last;
  if (seen.current && seen.current->phase == ContainerPhase::kExited &&
      restarts(spec.restart, *seen.current))
    last["terminated"] = terminated(spec, *seen.current);
  else if (seen.previous)
    last["terminated"] = terminated(spec, *seen.previous);
  json::object out{{"name", container.name},
                   {"image", container.image},
                   {"imageID", seen.image_id},
                   {"ready", seen.ready},
                   {"started", seen.current && seen.current->phase == ContainerPhase::kRunning},
                   {"restartCount", seen.restarts},
                   {"state", state_of(spec, seen)},
                   {"lastState", std::move(last)}};
  if (seen.current)
    out["containerID"] = container_id_text(spec, *seen.current);
  return out;
}

std::string phase_of(const PodSpec& spec, const PodSeen& seen) {
  std::size_t running = 0, succeeded = 0, failed = 0, waiting = 0;
  for (const ContainerSeen& container : seen.containers) {
    if (!container.current || container.current->phase == ContainerPhase::kCreating)
      waiting++;
    else if (container.current->phase == ContainerPhase::kRunning)
      running++;
    else if (restarts(spec.restart, *container.current))
      running++;  // it will run again
    else if (container.current->exit_code == 0)
      succeeded++;
    else
      failed++;
  }
  if (waiting)
    return "Pending";
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

json::object condition(std::string_view type, bool status, std::string_view reason,
                       std::string_view message, const StatusFacts& facts,
                       const json::object* before) {
  json::object out{
      {"type", type}, {"status", status ? "True" : "False"}, {"lastProbeTime", nullptr}};
  const json::object* old = condition_before(before, type);
  const bool same = old && old->if_contains("status") && old->at("status") == out["status"];
  out["lastTransitionTime"] =
      same ? old->at("lastTransitionTime") : json::value(rfc3339(facts.now));
  if (!status && !reason.empty())
    out["reason"] = reason;
  if (!status && !message.empty())
    out["message"] = message;
  return out;
}

json::array ip_list(const std::vector<IpAddress>& ips) {
  json::array out;
  for (const IpAddress& ip : ips)
    out.emplace_back(json::object{{"ip", ip.to_string()}});
  return out;
}

void show_addresses(const PodSeen& seen, json::object& out) {
  if (seen.addresses.empty() || (seen.addresses.front().generation == 0 && !seen.freed))
    return;
  std::vector<IpAddress> ips;
  for (const auto& [ip, generation] : seen.addresses) {
    ips.push_back(ip);
    if (!seen.freed)  // it was this pod's address and may be another's now
      out[ip == seen.addresses.front().ip ? "shoalGeneration" : "shoalGenerationV6"] = generation;
  }
  out["podIP"] = ips.front().to_string();
  out["podIPs"] = ip_list(ips);
}

std::string unready_names(const PodSpec& spec, const PodSeen& seen) {
  std::string names;
  for (std::size_t i = 0; i < seen.containers.size(); i++)
    if (!seen.containers[i].ready)
      names += (names.empty() ? "" : " ") + spec.containers[i].name;
  return fmt::format("containers with unready status: [{}]", names);
}

}  // namespace

json::object pod_status(const PodSpec& spec, const PodSeen& seen, const StatusFacts& facts,
                        const json::object* before) {
  json::array containers;
  bool ready = !seen.containers.empty();
  for (std::size_t i = 0; i < seen.containers.size(); i++) {
    containers.push_back(container_status(spec, spec.containers[i], seen.containers[i]));
    ready = ready && seen.containers[i].ready;
  }
  const std::string why = unready_names(spec, seen);
  json::object out{
      {"phase", phase_of(spec, seen)},      {"hostIP", facts.host_ips.front().to_string()},
      {"hostIPs", ip_list(facts.host_ips)}, {"qosClass", to_string(qos_class(spec))},
      {"startTime", rfc3339(seen.started)}, {"containerStatuses", std::move(containers)}};
  show_addresses(seen, out);
  if (seen.sandbox_error) {
    out["reason"] = seen.sandbox_error->reason;
    out["message"] = seen.sandbox_error->message;
  }
  out["conditions"] =
      json::array{condition("PodReadyToStartContainers", seen.network, "", "", facts, before),
                  condition("Initialized", true, "", "", facts, before),
                  condition("Ready", ready, "ContainersNotReady", why, facts, before),
                  condition("ContainersReady", ready, "ContainersNotReady", why, facts, before),
                  condition("PodScheduled", true, "", "", facts, before)};
  return out;
}

void restore_status(const PodSpec& spec, const json::object& status, PodSeen& seen) {
  if (const auto started = api::parse_time(api::find_string(status, "startTime")))
    seen.started = *started;
  seen.addresses.clear();
  if (const json::array* ips = api::find_array(status, "podIPs"))
    for (const json::value& value : *ips)
      if (const json::object* entry = value.if_object())
        if (const auto ip = IpAddress::parse(api::find_string(*entry, "ip")))
          seen.addresses.push_back({*ip, 0});
  const json::array* containers = api::find_array(status, "containerStatuses");
  for (std::size_t i = 0; containers && i < spec.containers.size(); i++)
    for (const json::value& value : *containers)
      if (const json::object* container = value.if_object();
          container && api::find_string(*container, "name") == spec.containers[i].name)
        seen.containers[i].image_id = api::find_string(*container, "imageID");
}

}  // namespace shoal::node
