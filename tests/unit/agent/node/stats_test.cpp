// SPDX-License-Identifier: Apache-2.0
// Rates out of two readings, and who waits for which reading.
#include "agent/node/stats_sampler.h"
#include "tests/fakes/asio_loop.h"

#include <atomic>
#include <gtest/gtest.h>

namespace shoal::node {
namespace {

using namespace std::chrono_literals;

runtime::GroupStats used(std::uint64_t cpu_ns, std::uint64_t memory) {
  runtime::MemoryStats stats;
  stats.working_set_bytes = memory;
  return {cpu_ns, stats, std::nullopt, std::nullopt};
}

HostSample sample_at(std::chrono::seconds at, runtime::GroupStats host,
                     std::vector<ContainerSample> containers) {
  HostSample out;
  out.at = MonoTime(at);
  out.wall = WallTime(at + 1000s);
  out.host = std::move(host);
  PodSample pod;
  pod.uid = "u";
  pod.at = out.at;
  pod.wall = out.wall;
  pod.containers = std::move(containers);
  out.pods.push_back(std::move(pod));
  return out;
}

TEST(Nanocores, AreCpuTimePerTime) {
  EXPECT_EQ(nanocores(0, 500'000'000, 1s), 500'000'000U);
  EXPECT_EQ(nanocores(1'000'000'000, 3'000'000'000, 4s), 500'000'000U);
  EXPECT_EQ(nanocores(0, UINT64_C(1) << 62, 60s), ((UINT64_C(1) << 62) / 60));
  EXPECT_EQ(nanocores(5, 4, 1s), std::nullopt);
  EXPECT_EQ(nanocores(4, 5, 0s), std::nullopt);
}

TEST(UseBetween, TellsHostAndContainers) {
  const HostSample base = sample_at(10s, used(1'000'000'000, 50), {{"a", "a-0", {}, used(0, 1)}});
  const HostSample last =
      sample_at(12s, used(3'000'000'000, 60),
                {{"a", "a-0", {}, used(200'000'000, 7)},
                 {"new", "new-1", WallTime(1011s), used(250'000'000, 8)},  // began between
                 {"bare", "bare-0", {}, {}}});
  const HostUse use = use_between(base, last);
  EXPECT_EQ(use.window, 2s);
  ASSERT_TRUE(use.host);
  EXPECT_EQ(use.host->cpu_nanocores, 1'000'000'000U);
  EXPECT_EQ(use.host->memory_bytes, 60U);
  ASSERT_EQ(use.pods.size(), 1U);
  ASSERT_EQ(use.pods[0].containers.size(), 2U);
  EXPECT_EQ(use.pods[0].containers[0].use.cpu_nanocores, 100'000'000U);
  EXPECT_EQ(use.pods[0].containers[0].use.memory_bytes, 7U);
  EXPECT_EQ(use.pods[0].containers[1].use.cpu_nanocores, 250'000'000U);
}

// Another attempt counts anew, from its own start.
TEST(UseBetween, ARestartIsNoStepBack) {
  const HostSample base = sample_at(10s, {}, {{"a", "a-0", {}, used(9'000'000'000, 1)}});
  const HostSample last =
      sample_at(20s, {}, {{"a", "a-1", WallTime(1018s), used(1'000'000'000, 1)}});
  const HostUse use = use_between(base, last);
  EXPECT_FALSE(use.host);
  ASSERT_EQ(use.pods[0].containers.size(), 1U);
  EXPECT_EQ(use.pods[0].containers[0].use.cpu_nanocores, 500'000'000U);
}

class Sampler : public ::testing::Test {
protected:
  Sampler() {
    hooks.targets = [] { return std::vector<StatsTarget>(); };
    hooks.take = [this](const std::vector<StatsTarget>&) {
      ++taken;
      HostSample out;
      out.at = clock.now();
      return out;
    };
  }
  ~Sampler() override { workers.join(); }

  fakes::AsioLoop loop;
  boost::asio::thread_pool workers{1};
  SystemClock clock;
  std::atomic<int> taken = 0;
  StatsSampler::Hooks hooks;
};

TEST_F(Sampler, NobodyAsksNothingIsRead) {
  StatsSampler sampler(loop.context(), workers, clock, hooks);
  loop.drain();
  EXPECT_EQ(taken, 0);
}

TEST_F(Sampler, ThoseWhoAskTogetherShareAReading) {
  StatsSampler sampler(loop.context(), workers, clock, hooks);
  int served = 0;
  for (int i = 0; i < 3; ++i)
    sampler.sample([&](const StatsSampler::Sample& last) { served += last != nullptr; });
  EXPECT_EQ(served, 0);
  ASSERT_TRUE(loop.run_until([&] { return served == 3; }));
  sampler.sample([&](const StatsSampler::Sample&) { ++served; });  // still fresh
  ASSERT_TRUE(loop.run_until([&] { return served == 4; }));
  EXPECT_EQ(taken, 1);
}

TEST_F(Sampler, RatesNeedTwoReadingsASecondApart) {
  StatsSampler sampler(loop.context(), workers, clock, hooks);
  std::vector<Duration> windows;
  const auto ask = [&] {
    sampler.rates([&](const StatsSampler::Sample& base, const StatsSampler::Sample& last) {
      windows.push_back(last->at - base->at);
    });
  };
  ask();
  ask();
  ASSERT_TRUE(loop.run_until([&] { return windows.size() == 2; }));
  EXPECT_GE(windows[0], kStatsFresh);
  EXPECT_EQ(windows[0], windows[1]);
  EXPECT_EQ(taken, 2);
  ask();  // at once: the same two
  ASSERT_TRUE(loop.run_until([&] { return windows.size() == 3; }));
  EXPECT_EQ(windows[2], windows[0]);
  EXPECT_EQ(taken, 2);
}

}  // namespace
}  // namespace shoal::node
