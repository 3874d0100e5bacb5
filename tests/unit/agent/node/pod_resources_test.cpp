// SPDX-License-Identifier: Apache-2.0
#include "agent/node/pod_resources.h"

#include <gtest/gtest.h>

namespace shoal::node {
namespace {

using Limits = runtime::ResourceLimits;

PodSpec pod(const std::vector<Limits>& containers) {
  PodSpec out;
  for (const Limits& limits : containers)
    out.containers.emplace_back().limits = limits;
  return out;
}

Limits limits(std::optional<std::int64_t> memory, std::optional<std::int64_t> cpu,
              std::optional<std::int64_t> cpu_request = {},
              std::optional<std::int64_t> memory_request = {}) {
  Limits out;
  out.memory_bytes = memory;
  out.cpu_milli = cpu;
  out.cpu_request_milli = cpu_request;
  out.memory_request_bytes = memory_request;
  return out;
}

TEST(QosClass, AsKubernetesHasIt) {
  const Limits none, full = limits(1 << 20, 500, 500, 1 << 20);
  EXPECT_EQ(qos_class(pod({none, none})), QosClass::kBestEffort);
  EXPECT_EQ(qos_class(pod({full, full})), QosClass::kGuaranteed);
  EXPECT_EQ(qos_class(pod({limits(1 << 20, 500)})), QosClass::kGuaranteed);
  EXPECT_EQ(qos_class(pod({full, none})), QosClass::kBurstable);
  EXPECT_EQ(qos_class(pod({limits(1 << 20, {})})), QosClass::kBurstable);
  EXPECT_EQ(qos_class(pod({limits(1 << 20, 500, 250)})), QosClass::kBurstable);
  EXPECT_EQ(qos_class(pod({limits(1 << 20, 500, 500, 1 << 19)})), QosClass::kBurstable);
  EXPECT_EQ(qos_class(pod({limits({}, {}, 10)})), QosClass::kBurstable);
  EXPECT_EQ(to_string(QosClass::kBurstable), "Burstable");
}

TEST(OomScore, FollowsWhatWasAskedFor) {
  constexpr std::int64_t kHost = 16'000'000'000;
  // The agent's own protection is not handed on.
  EXPECT_EQ(oom_score_adj(pod({{}}), 0, kHost, -999), 1000);
  EXPECT_EQ(oom_score_adj(pod({limits(1 << 20, 500)}), 0, kHost, -999), -997);
  EXPECT_EQ(oom_score_adj(pod({limits(1 << 20, 500)}), 0, kHost, 100), 100);
  const auto asked = [](std::int64_t bytes) {
    return pod({limits({}, {}, {}, bytes), limits({}, {}, 100)});
  };
  EXPECT_EQ(oom_score_adj(asked(4'000'000'000), 0, kHost, -900), 750);
  EXPECT_EQ(oom_score_adj(asked(4'000'000'000), 0, kHost, 800), 800);
  EXPECT_EQ(oom_score_adj(asked(4'000'000'000), 1, kHost, -900), 999);
  EXPECT_EQ(oom_score_adj(asked(10 * kHost), 0, kHost, 0), 3);
  EXPECT_EQ(oom_score_adj(asked(4'000'000'000), 0, 0, 0), 1000);
}

TEST(PodLimits, SumsOfItsContainers) {
  const runtime::PodLimits both =
      pod_limits(pod({limits(1 << 20, 500, 250), limits(2 << 20, 250, 250)}), 64);
  EXPECT_EQ(both, (runtime::PodLimits{3 << 20, 750, 500, 64}));
  // Init containers run one at a time, beside the sidecars before them.
  PodSpec init = pod({limits(4 << 20, 100, 100), limits(1 << 20, 100, 100),
                      limits(2 << 20, 900, 50), limits(1 << 20, 200, 200)});
  init.containers[0].role = Role::kInit;
  init.containers[1].role = Role::kSidecar;
  init.containers[2].role = Role::kInit;
  EXPECT_EQ(pod_limits(init, 64), (runtime::PodLimits{4 << 20, 1000, 300, 64}));
  // One without a limit: the pod has none.
  const runtime::PodLimits one = pod_limits(pod({limits(1 << 20, 500, 250), {}}), 64);
  EXPECT_EQ(one, (runtime::PodLimits{{}, {}, 250, 64}));
  EXPECT_FALSE(pod_limits(pod({limits(INT64_MAX, 1), limits(1, 1)}), 64).memory_bytes);
}

}  // namespace
}  // namespace shoal::node
