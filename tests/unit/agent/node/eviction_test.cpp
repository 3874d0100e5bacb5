// SPDX-License-Identifier: Apache-2.0
// What is short, how long a condition stays, who goes first.
#include "agent/node/eviction.h"
#include "agent/node/pressure.h"
#include "netplane/base/fs.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace shoal::node {
namespace {

using namespace std::chrono_literals;
using Kind = Pressure::Kind;

constexpr std::int64_t kMi = 1 << 20;

std::string short_of(const Levels& levels, const Thresholds& thresholds = {}) {
  std::string out;
  for (const Shortage& one : shortages(levels, thresholds))
    out += std::string(to_string(one.signal)) + "<" + std::to_string(one.threshold) + " ";
  return out;
}

TEST(Shortages, ThresholdsAreTheKubelets) {
  EXPECT_EQ(short_of({{Signal::kMemory, {100 * kMi, 1000 * kMi}},
                      {Signal::kDisk, {100, 1000}},
                      {Signal::kInodes, {50, 1000}},
                      {Signal::kImages, {150, 1000}},
                      {Signal::kPids, {500, 1000}}}),
            "");
  EXPECT_EQ(short_of({{Signal::kPids, {499, 1000}},
                      {Signal::kImages, {149, 1000}},
                      {Signal::kInodes, {49, 1000}},
                      {Signal::kDisk, {99, 1000}},
                      {Signal::kMemory, {100 * kMi - 1, 1000 * kMi}}}),
            "memory.available<104857600 nodefs.available<100 nodefs.inodesFree<50 "
            "imagefs.available<150 pid.available<500 ");
  EXPECT_EQ(short_of({}), "") << "what is not known is not short";
  EXPECT_EQ(short_of({{Signal::kMemory, {0, 1}}, {Signal::kDisk, {0, 1000}}},
                     {.memory_bytes = 0, .disk_percent = 0}),
            "");
  EXPECT_EQ(short_of({{Signal::kDisk, {INT64_MAX / 20, INT64_MAX}}}),
            "nodefs.available<922337203685477580 ");
}

TEST(PressureConditions, ComeAtOnceAndStayForAWhile) {
  Pressure pressure(5min);
  const MonoTime start{1h};
  const std::vector<Shortage> disk{{Signal::kImages, 2, 1}};
  EXPECT_TRUE(pressure.look({}, start).empty());
  EXPECT_EQ(pressure.look(disk, start), std::vector{Kind::kDisk});
  EXPECT_TRUE(pressure.is(Kind::kDisk));
  EXPECT_FALSE(pressure.is(Kind::kMemory));
  EXPECT_TRUE(pressure.look({}, start + 4min).empty());
  // Short again: it counts anew.
  EXPECT_TRUE(pressure.look({{Signal::kInodes, 2, 1}}, start + 4min).empty());
  EXPECT_TRUE(pressure.look({}, start + 9min - 1ns).empty());
  EXPECT_TRUE(pressure.is(Kind::kDisk));
  EXPECT_EQ(pressure.look({}, start + 9min), std::vector{Kind::kDisk});
  EXPECT_FALSE(pressure.is(Kind::kDisk));
}

TEST(PressureConditions, EachForItself) {
  Pressure pressure(1min);
  const MonoTime start{1h};
  EXPECT_EQ(
      pressure.look({{Signal::kMemory, 2, 1}, {Signal::kDisk, 2, 1}, {Signal::kPids, 2, 1}}, start)
          .size(),
      3U);
  EXPECT_EQ(pressure.look({{Signal::kMemory, 2, 1}}, start + 1min),
            (std::vector{Kind::kDisk, Kind::kPids}));
  EXPECT_TRUE(pressure.is(Kind::kMemory));
}

std::string first(Signal signal, const std::vector<Candidate>& pods) {
  return choose_victim(signal, pods).value_or("nobody");
}

TEST(Victim, AboveItsRequestThenPriorityThenHowMuch) {
  const Candidate within{"within", 0, 100, 100};
  const Candidate little{"little", 0, 110, 100};
  const Candidate much{"much", 0, 150, 100};
  const Candidate best_effort{"best-effort", 0, 60, 0};
  const Candidate important{"important", 10, 900, 100};
  EXPECT_EQ(first(Signal::kMemory, {within, little, much, important}), "much");
  EXPECT_EQ(first(Signal::kMemory, {within, little, much, best_effort}), "best-effort");
  EXPECT_EQ(first(Signal::kDisk, {within, little, important}), "little");
  EXPECT_EQ(first(Signal::kDisk, {within, important}), "important") << "above its request";
  // Of those within theirs: who is nearest to it.
  EXPECT_EQ(first(Signal::kMemory, {{"far", 0, 10, 100}, within}), "within");
  EXPECT_EQ(first(Signal::kMemory, {{"b", 0, 5, 0}, {"a", 0, 5, 0}}), "a");
}

TEST(Victim, OfProcessesByPriorityAndNumber) {
  EXPECT_EQ(first(Signal::kPids, {{"few", 0, 3, 0}, {"many", 0, 300, 0}}), "many");
  EXPECT_EQ(first(Signal::kPids, {{"few", 0, 3, 0}, {"many", 1, 300, 0}}), "few");
}

TEST(Victim, NeverACriticalPod) {
  EXPECT_EQ(first(Signal::kMemory, {{"system", kCriticalPriority, 900, 0}, {"p", 1000, 1, 1}}),
            "p");
  EXPECT_EQ(first(Signal::kMemory, {{"system", kCriticalPriority, 900, 0}}), "nobody");
  EXPECT_EQ(first(Signal::kMemory, {}), "nobody");
}

TEST(EvictionMessage, IsTheKubelets) {
  EXPECT_EQ(eviction_message({Signal::kMemory, 100 * kMi, 95'400 * 1024},
                             {{"main", 70'124 * 1024, 0}, {"fine", 5, 5}}),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 95400Ki. "
            "Container main was using 70124Ki, request is 0, has larger consumption of memory. ");
  EXPECT_EQ(eviction_message({Signal::kInodes, 5120, 17}, {}),
            "The node was low on resource: inodes. Threshold quantity: 5120, available: 17. ");
  EXPECT_EQ(eviction_message({Signal::kImages, 3, 1}, {{"a", 2, 1}}),
            "The node was low on resource: ephemeral-storage. Threshold quantity: 3, available: 1. "
            "Container a was using 2, request is 1, has larger consumption of ephemeral-storage. ");
}

// Of what the pods' slice has left, when that is less than what the host has.
TEST(Levels, MemoryIsWhatIsLeftOfTheSlicesLimit) {
  std::string name = ::testing::TempDir() + "shoal-levels-XXXXXX";
  const std::filesystem::path dir = ::mkdtemp(name.data());
  const std::filesystem::path group = dir / "s.slice";
  ASSERT_TRUE(make_dirs(group));
  runtime::SandboxEnv env;
  env.slice = "s.slice";
  env.cgroups.v2 = dir;
  const Levels host = read_levels(env, "/", "/");
  EXPECT_GT(host.at(Signal::kMemory).available, 5000);
  EXPECT_GT(host.at(Signal::kDisk).capacity, 0);
  EXPECT_GT(host.at(Signal::kPids).available, 0);
  EXPECT_LT(host.at(Signal::kPids).available, host.at(Signal::kPids).capacity);
  ASSERT_TRUE(write_file_atomic(group / "memory.current", "4000\n"));
  ASSERT_TRUE(write_file_atomic(group / "memory.stat", "inactive_file 1000\n"));
  ASSERT_TRUE(write_file_atomic(group / "memory.max", "8192\n"));
  const Levels levels = read_levels(env, dir / "none", "/");
  EXPECT_EQ(levels.at(Signal::kMemory).available, 8192 - 3000);
  EXPECT_EQ(levels.at(Signal::kMemory).capacity, 8192);
  EXPECT_FALSE(levels.contains(Signal::kDisk)) << "not known";
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace shoal::node
