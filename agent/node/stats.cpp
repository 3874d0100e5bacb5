// SPDX-License-Identifier: Apache-2.0
#include "agent/node/stats.h"

#include <algorithm>

namespace shoal::node {
namespace {

const PodSample* find_pod(const HostSample& sample, std::string_view uid) {
  const auto it = std::ranges::find(sample.pods, uid, &PodSample::uid);
  return it == sample.pods.end() ? nullptr : &*it;
}

std::optional<std::uint64_t> cpu_of(const ContainerSample& container, const PodSample& pod,
                                    const PodSample* before) {
  if (!container.stats.cpu_ns)
    return std::nullopt;
  if (before) {
    const auto it = std::ranges::find(before->containers, container.id, &ContainerSample::id);
    if (it != before->containers.end() && it->stats.cpu_ns)
      return nanocores(*it->stats.cpu_ns, *container.stats.cpu_ns, pod.at - before->at);
  }
  return nanocores(0, *container.stats.cpu_ns, pod.wall - container.started);
}

}  // namespace

HostSample take_sample(const runtime::SandboxEnv& env, const std::vector<StatsTarget>& targets,
                       const Clock& clock) {
  HostSample out;
  out.at = clock.now();
  out.wall = clock.wall();
  out.host = runtime::read_host_stats(env.cgroups);
  out.pods_together = runtime::read_group_stats(env.cgroups, env.slice);
  out.pods.reserve(targets.size());
  for (const StatsTarget& target : targets) {
    PodSample pod{target.ns, target.name, target.uid, target.started, {}, {}, {}, {}, {}};
    pod.at = clock.now();
    pod.wall = clock.wall();
    const std::string group = runtime::pod_cgroup(env.slice, target.uid);
    pod.stats = runtime::read_group_stats(env.cgroups, group);
    for (const StatsTarget::Container& container : target.containers)
      pod.containers.push_back(
          {container.name, container.id, container.started,
           runtime::read_group_stats(env.cgroups, group + "/" + container.id)});
    if (auto links = runtime::read_link_stats(target.shim))
      pod.links = std::move(*links);
    out.pods.push_back(std::move(pod));
  }
  return out;
}

std::optional<std::uint64_t> nanocores(std::uint64_t before_ns, std::uint64_t after_ns,
                                       Duration time) {
  if (time <= Duration(0) || after_ns < before_ns)
    return std::nullopt;
  const auto used = static_cast<unsigned __int128>(after_ns - before_ns) * 1'000'000'000;
  return static_cast<std::uint64_t>(used / static_cast<std::uint64_t>(time.count()));
}

HostUse use_between(const HostSample& base, const HostSample& last) {
  HostUse out{last.wall, last.at - base.at, std::nullopt, {}};
  if (base.host.cpu_ns && last.host.cpu_ns && last.host.memory)
    if (const auto cpu = nanocores(*base.host.cpu_ns, *last.host.cpu_ns, out.window))
      out.host = Use{*cpu, last.host.memory->working_set_bytes};
  for (const PodSample& pod : last.pods) {
    PodUse use{pod.ns, pod.name, pod.uid, {}};
    const PodSample* before = find_pod(base, pod.uid);
    for (const ContainerSample& container : pod.containers)
      if (const auto cpu = cpu_of(container, pod, before); cpu && container.stats.memory)
        use.containers.push_back(
            {container.name, {*cpu, container.stats.memory->working_set_bytes}});
    out.pods.push_back(std::move(use));
  }
  return out;
}

}  // namespace shoal::node
