// SPDX-License-Identifier: Apache-2.0
// What this host and its pods use: one reading of the kernel's counters, and what two readings say
// of the time between them. CPU is in nanocores (a billionth of a CPU, as Kubernetes' metrics have
// it), memory is the working set.
#pragma once

#include "netplane/base/clock.h"
#include "netplane/base/process.h"
#include "runtime/sandbox/sandbox.h"
#include "runtime/stats/group_stats.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace shoal::node {

// What is to be read: a pod that has a sandbox, and those of its containers that run.
struct StatsTarget {
  struct Container {
    std::string name;
    std::string id;  // "name-attempt", its cgroup's name
    WallTime started;
  };
  std::string ns;
  std::string name;
  std::string uid;
  WallTime started;
  ProcessId shim;  // is in the pod's network
  std::vector<Container> containers;
};

struct ContainerSample {
  std::string name;
  std::string id;
  WallTime started;
  runtime::GroupStats stats;
};

struct PodSample {
  std::string ns;
  std::string name;
  std::string uid;
  WallTime started;
  MonoTime at;  // reading many takes a moment
  WallTime wall;
  runtime::GroupStats stats;  // of all its containers, and its shim
  std::vector<ContainerSample> containers;
  std::vector<runtime::LinkStats> links;
};

struct HostSample {
  MonoTime at;
  WallTime wall;
  runtime::GroupStats host;
  runtime::GroupStats pods_together;
  std::vector<PodSample> pods;
};

// Blocks, some 0.2 ms a container: worker threads only. A pod that goes away meanwhile is one with
// nothing read.
HostSample take_sample(const runtime::SandboxEnv& env, const std::vector<StatsTarget>& targets,
                       const Clock& clock);

// ---- pure
struct Use {
  std::uint64_t cpu_nanocores = 0;
  std::uint64_t memory_bytes = 0;
};
struct ContainerUse {
  std::string name;
  Use use;
};
struct PodUse {
  std::string ns;
  std::string name;
  std::string uid;
  std::vector<ContainerUse> containers;  // those of which both are known
};
struct HostUse {
  WallTime at;
  Duration window{0};
  std::optional<Use> host;
  std::vector<PodUse> pods;
};
// last was taken after base. A container that began between them counts from its start.
HostUse use_between(const HostSample& base, const HostSample& last);
// Of a counter over a time; nothing: it went backwards, as after a restart, or no time passed.
std::optional<std::uint64_t> nanocores(std::uint64_t before_ns, std::uint64_t after_ns,
                                       Duration time);

}  // namespace shoal::node
