// SPDX-License-Identifier: Apache-2.0
#include "agent/node/pod_resources.h"

#include <algorithm>

namespace shoal::node {
namespace {

using runtime::ResourceLimits;

constexpr int kGuaranteedScore = -997;
constexpr int kBestEffortScore = 1000;

bool asks(const ResourceLimits& limits) {
  return limits.memory_bytes.value_or(0) > 0 || limits.cpu_milli.value_or(0) > 0 ||
         limits.cpu_request_milli.value_or(0) > 0 || limits.memory_request_bytes.value_or(0) > 0;
}

// A request that is left out is the limit: the API fills it in.
bool guaranteed(const ResourceLimits& limits) {
  return limits.memory_bytes && limits.cpu_milli &&
         limits.cpu_request_milli.value_or(*limits.cpu_milli) == *limits.cpu_milli &&
         limits.memory_request_bytes.value_or(*limits.memory_bytes) == *limits.memory_bytes;
}

std::int64_t add(std::int64_t a, std::int64_t b) {
  std::int64_t sum = 0;
  return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

// The containers and sidecars together, or the init container that needs most beside the sidecars
// before it, whichever is more.
template <class Of>
std::int64_t total(const PodSpec& pod, Of of) {
  std::int64_t together = 0, most = 0;
  for (const ContainerSpec& container : pod.containers) {
    if (container.role == Role::kInit)
      most = std::max(most, add(together, of(container)));
    else
      together = add(together, of(container));
  }
  return std::max(most, together);
}

std::int64_t total(const PodSpec& pod, std::optional<std::int64_t> ResourceLimits::* of) {
  return total(pod, [of](const ContainerSpec& c) { return (c.limits.*of).value_or(0); });
}

// Nothing, if one container has none: then the pod as a whole has none.
std::optional<std::int64_t> limit(const PodSpec& pod,
                                  std::optional<std::int64_t> ResourceLimits::* of) {
  const bool all = std::ranges::all_of(
      pod.containers, [&](const ContainerSpec& c) { return (c.limits.*of).has_value(); });
  const std::int64_t sum = all ? total(pod, of) : INT64_MAX;
  return sum == INT64_MAX ? std::nullopt : std::optional(sum);
}

}  // namespace

std::string_view to_string(QosClass qos) {
  switch (qos) {
  case QosClass::kGuaranteed:
    return "Guaranteed";
  case QosClass::kBurstable:
    return "Burstable";
  case QosClass::kBestEffort:
    return "BestEffort";
  }
  return "?";
}

QosClass qos_class(const PodSpec& pod) {
  const auto all = [&](bool (*holds)(const ResourceLimits&)) {
    return std::ranges::all_of(pod.containers,
                               [&](const ContainerSpec& c) { return holds(c.limits); });
  };
  if (all([](const ResourceLimits& limits) { return !asks(limits); }))
    return QosClass::kBestEffort;
  return all(guaranteed) ? QosClass::kGuaranteed : QosClass::kBurstable;
}

int oom_score_adj(const PodSpec& pod, std::size_t container, std::int64_t host_memory_bytes,
                  int own) {
  const QosClass qos = qos_class(pod);
  if (qos == QosClass::kGuaranteed)
    return std::max(kGuaranteedScore, own);
  if (qos == QosClass::kBestEffort || host_memory_bytes <= 0)
    return kBestEffortScore;
  const ResourceLimits& limits = pod.containers[container].limits;
  const std::int64_t memory = std::min(limits.memory_request_bytes.value_or(0), host_memory_bytes);
  const auto share = static_cast<double>(memory) / static_cast<double>(host_memory_bytes);
  // Kubernetes keeps a guaranteed pod below every other one, and a best-effort one above.
  return std::max(std::clamp(1000 - static_cast<int>(1000 * share), 1000 + kGuaranteedScore, 999),
                  own);
}

PodRequests pod_requests(const PodSpec& pod) {
  return {total(pod, &ResourceLimits::memory_request_bytes),
          total(pod, [](const ContainerSpec& c) { return c.storage_request; })};
}

runtime::PodLimits pod_limits(const PodSpec& pod, std::int64_t pids) {
  runtime::PodLimits out;
  out.memory_bytes = limit(pod, &ResourceLimits::memory_bytes);
  out.cpu_milli = limit(pod, &ResourceLimits::cpu_milli);
  out.cpu_request_milli = total(pod, &ResourceLimits::cpu_request_milli);
  out.pids = pids;
  return out;
}

}  // namespace shoal::node
