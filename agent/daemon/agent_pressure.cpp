// SPDX-License-Identifier: Apache-2.0
// What this host is short of, as its Node says it.
#include "agent/daemon/agent_impl.h"

#include <spdlog/spdlog.h>

namespace shoal::daemon {
namespace {

using node::Pressure;

// "NodeHasDiskPressure", as the kubelet's events have it.
std::string event_reason(Pressure::Kind kind, bool is) {
  constexpr std::string_view kKubelet = "Kubelet";
  return "Node" + std::string(pressure_reason(kind, is).substr(kKubelet.size()));
}

}  // namespace

NodeResources Agent::Impl::own_resources() const {
  return node_resources(options.kept_cpu_milli, options.kept_memory_bytes, options.state_dir,
                        options.pressure.thresholds.disk_percent);
}

std::vector<PressureFacts> Agent::Impl::pressure_facts() {
  std::vector<PressureFacts> out;
  for (const Pressure::Kind kind : node::Pressure::kKinds) {
    const bool is = pressure && pressure->is(kind);
    auto& [was, since] = pressure_since.try_emplace(kind, is, clock.wall()).first->second;
    if (was != is) {
      was = is;
      since = clock.wall();
    }
    out.push_back({kind, is, since});
  }
  return out;
}

void Agent::Impl::start_pressure() {
  node::PressureMonitor::Hooks hooks;
  hooks.read = [env = pods->sandboxes(), state = options.state_dir,
                place = images->pull_dir().parent_path()] {
    return node::read_levels(env, state, place);
  };
  hooks.changed = [this](const std::vector<Pressure::Kind>& kinds) {
    report_node(node_ready, node_message);
    const auto node = view.get(view::kNodes, "", files.node_name);
    for (const Pressure::Kind kind : kinds) {
      const std::string reason = event_reason(kind, pressure->is(kind));
      const std::string message = fmt::format("Node {} status is now: {}", files.node_name, reason);
      spdlog::warn("{}", message);
      if (node)
        writer->event(*node, "Normal", reason, message, "shoald");
    }
  };
  hooks.reclaiming = [this](const std::string& resource) {
    tell_of_node("EvictionThresholdMet", "Attempting to reclaim " + resource);
  };
  hooks.free_images = [this](std::function<void()> done) { image_gc->reclaim(std::move(done)); };
  pressure = std::make_unique<node::PressureMonitor>(loop, workers, clock, *pods, *sampler,
                                                     options.pressure, std::move(hooks));
  pressure->start();
}

}  // namespace shoal::daemon
