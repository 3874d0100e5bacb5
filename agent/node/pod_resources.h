// SPDX-License-Identifier: Apache-2.0
// What a pod's requests and limits mean on its host, as Kubernetes has it: its quality-of-service
// class, how readily its processes are killed when memory runs out, and what it may use as a whole.
// Pure.
#pragma once

#include "agent/node/pod_spec.h"
#include "runtime/sandbox/cgroup.h"

#include <string_view>

namespace shoal::node {

enum class QosClass : std::uint8_t { kGuaranteed, kBurstable, kBestEffort };
std::string_view to_string(QosClass qos);  // "Guaranteed", ...

// Guaranteed: every container has limits of cpu and memory, and requests as much. Best effort: none
// asks for anything.
QosClass qos_class(const PodSpec& pod);

// oom_score_adj of a container's processes: best effort 1000, guaranteed -997, else the lower the
// more memory the container requests of the host's. Never below `own`, the agent's: what it is
// itself protected by is not handed on, and to go below takes a privilege that not every host
// grants.
int oom_score_adj(const PodSpec& pod, std::size_t container, std::int64_t host_memory_bytes,
                  int own);

// What the pod requests as a whole.
struct PodRequests {
  std::int64_t memory_bytes = 0;
  std::int64_t storage_bytes = 0;
};
PodRequests pod_requests(const PodSpec& pod);

// Of the whole pod: its containers' limits together where each has one, and their requests; what
// init containers need counts as Kubernetes has it. And at most `pids` processes.
runtime::PodLimits pod_limits(const PodSpec& pod, std::int64_t pids);

}  // namespace shoal::node
