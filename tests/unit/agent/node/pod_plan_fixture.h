// SPDX-License-Identifier: Apache-2.0
// Pods and what is seen of them, in few words, for the tests of the plan.
#pragma once

#include "agent/node/pod_plan.h"

#include <boost/json.hpp>
#include <gtest/gtest.h>

namespace shoal::node {

inline MonoTime at(int second) { return MonoTime(std::chrono::seconds(second)); }

inline PodSpec pod(RestartPolicy restart = RestartPolicy::kAlways,
                   std::vector<std::string> containers = {"web"}) {
  PodSpec spec;
  spec.ns = "default";
  spec.name = "web-1";
  spec.uid = "u1";
  spec.restart = restart;
  for (std::string& name : containers) {
    ContainerSpec container;
    container.name = std::move(name);
    container.image = "web:1";
    spec.containers.push_back(std::move(container));
  }
  return spec;
}

inline runtime::shim::ContainerState running(std::uint32_t attempt = 0, std::string name = "web") {
  runtime::shim::ContainerState state;
  state.ref = {std::move(name), attempt};
  state.phase = runtime::shim::ContainerPhase::kRunning;
  state.pid = 10;
  state.started_at_ns = 1'000'000'000;
  return state;
}

inline runtime::shim::ContainerState exited(int code, int ran_s = 1, std::uint32_t attempt = 0,
                                            std::string name = "web") {
  runtime::shim::ContainerState state = running(attempt, std::move(name));
  state.phase = runtime::shim::ContainerPhase::kExited;
  state.exit_code = code;
  state.finished_at_ns = state.started_at_ns + ran_s * INT64_C(1'000'000'000);
  return state;
}

// A pod with its sandbox and address, and these containers.
inline PodSeen seen(std::vector<std::optional<runtime::shim::ContainerState>> containers) {
  PodSeen out;
  out.adopted = out.sandbox = out.network = true;
  out.addresses = {{*IpAddress::parse("10.244.1.5"), 3}};
  for (auto& state : containers) {
    ContainerSeen container;
    container.current = std::move(state);
    out.containers.push_back(std::move(container));
  }
  return out;
}

inline Step wait(std::optional<MonoTime> until = std::nullopt) {
  return {StepKind::kWait, 0, until};
}

inline std::string shown_at(const boost::json::object& status, std::string_view pointer) {
  boost::system::error_code error;
  const boost::json::value value(status);
  const boost::json::value* found = value.find_pointer(pointer, error);
  return !found               ? "-"
         : found->is_string() ? std::string(found->as_string())
                              : boost::json::serialize(*found);
}

inline boost::json::object status_of(const PodSpec& spec, const PodSeen& state, int now_s = 0,
                                     const boost::json::object* before = nullptr) {
  return pod_status(spec, state,
                    {{*IpAddress::parse("198.18.0.11")}, WallTime(std::chrono::seconds(now_s))},
                    before);
}

// "True", or "False Reason: message".
inline std::string condition_of(const boost::json::object& status, std::string_view type) {
  for (const boost::json::value& value : status.at("conditions").as_array()) {
    const boost::json::object& condition = value.as_object();
    if (std::string_view(condition.at("type").as_string()) != type)
      continue;
    std::string text(condition.at("status").as_string());
    if (condition.contains("reason"))
      text += " " + std::string(condition.at("reason").as_string());
    if (condition.contains("message"))
      text += ": " + std::string(condition.at("message").as_string());
    return text;
  }
  return "-";
}

}  // namespace shoal::node
