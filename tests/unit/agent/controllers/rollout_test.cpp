// SPDX-License-Identifier: Apache-2.0
// The arithmetic of a rollout. Cases as Kubernetes' users meet them, and a simulation that holds
// the two promises of RollingUpdate at every step.
#include "agent/controllers/rollout.h"

#include "netplane/base/random.h"
#include "tests/fakes/objects.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <numeric>

namespace shoal::controllers {
namespace {

using Sizes = std::vector<std::int64_t>;

Rollout of(std::string_view spec) {
  return rollout_of(fakes::json_object(fmt::format(R"({{"spec":{}}})", spec)));
}

TEST(Rollout, RoundsSurgeUpAndUnavailableDown) {
  const auto quarter = of(R"({"replicas":10})");
  EXPECT_EQ(quarter.max_surge, 3);
  EXPECT_EQ(quarter.max_unavailable, 2);
  const auto small = of(R"({"replicas":3})");
  EXPECT_EQ(small.max_surge, 1);
  EXPECT_EQ(small.max_unavailable, 0);
  const auto none =
      of(R"({"replicas":2,"strategy":{"rollingUpdate":{"maxSurge":0,"maxUnavailable":"25%"}}})");
  EXPECT_EQ(none.max_surge, 0);
  EXPECT_EQ(none.max_unavailable, 1) << "it could never move";
  const auto counts =
      of(R"({"replicas":4,"strategy":{"rollingUpdate":{"maxSurge":2,"maxUnavailable":9}}})");
  EXPECT_EQ(counts.max_surge, 2);
  EXPECT_EQ(counts.max_unavailable, 4);
  EXPECT_TRUE(of(R"({"strategy":{"type":"Recreate"}})").recreate);
}

// Sets are {wanted, available, pods}.
TEST(NextSizes, GrowsTheNewestFirst) {
  const Rollout rollout{10, 3, 2, false};
  EXPECT_EQ(next_sizes(rollout, {{10, 10, 10}, {0, 0, 0}}, 1), (Sizes{10, 3}));
  EXPECT_EQ(next_sizes(rollout, {{8, 8, 8}, {3, 0, 3}}, 1), (Sizes{8, 5}));
}

TEST(NextSizes, ShrinksTheOldByWhatIsSpare) {
  const Rollout rollout{10, 3, 2, false};
  // 13 pods, 10 available, 8 must stay.
  EXPECT_EQ(next_sizes(rollout, {{10, 10, 10}, {3, 0, 3}}, 1), (Sizes{8, 3}));
  EXPECT_EQ(next_sizes(rollout, {{8, 8, 8}, {5, 0, 5}}, 1), (Sizes{8, 5})) << "nothing is spare";
  EXPECT_EQ(next_sizes(rollout, {{8, 8, 8}, {5, 4, 5}}, 1), (Sizes{4, 5}));
}

TEST(NextSizes, TakesUselessOldPodsFirst) {
  const Rollout rollout{3, 1, 0, false};
  // The old version never became available: replacing it costs nothing.
  EXPECT_EQ(next_sizes(rollout, {{3, 0, 3}, {1, 1, 1}}, 1), (Sizes{2, 1}));
  // Of two old sets the one that serves nobody gives way, though it is younger.
  EXPECT_EQ(next_sizes(rollout, {{2, 2, 2}, {1, 0, 1}, {1, 1, 1}}, 2), (Sizes{2, 0, 1}));
}

TEST(NextSizes, SeveralOldSets) {
  const Rollout rollout{4, 1, 1, false};
  EXPECT_EQ(next_sizes(rollout, {{2, 2, 2}, {2, 2, 2}, {1, 0, 1}}, 2), (Sizes{1, 2, 1}));
}

TEST(NextSizes, APodThatIsGoingDoesNotCount) {
  const Rollout rollout{3, 1, 0, false};
  // The old set was made smaller just now; its third pod still answers.
  EXPECT_EQ(next_sizes(rollout, {{2, 3, 3}, {1, 1, 1}}, 1), (Sizes{2, 2}));
  EXPECT_EQ(next_sizes(rollout, {{2, 3, 3}, {2, 1, 2}}, 1), (Sizes{2, 2}));
  // Not told to go yet: it takes up the room.
  EXPECT_EQ(next_sizes(rollout, {{2, 3, 3, {}, {}, 3}, {1, 1, 1, {}, {}, 1}}, 1), (Sizes{2, 1}));
}

TEST(NextSizes, RecreateWaitsForTheOldPodsToBeGone) {
  const Rollout rollout{3, 0, 3, true};
  EXPECT_EQ(next_sizes(rollout, {{3, 3, 3}, {0, 0, 0}}, 1), (Sizes{0, 0}));
  EXPECT_EQ(next_sizes(rollout, {{0, 0, 1}, {0, 0, 0}}, 1), (Sizes{0, 0}));
  EXPECT_EQ(next_sizes(rollout, {{0, 0, 0}, {0, 0, 0}}, 1), (Sizes{0, 3}));
}

TEST(ScaledSizes, OneSetTakesAll) {
  const Rollout rollout{5, 2, 1, false};
  EXPECT_TRUE(was_scaled(rollout, {{3, 3, 3, 3, 4}}));
  EXPECT_FALSE(was_scaled(rollout, {{5, 3, 3, 5, 7}}));
  EXPECT_EQ(scaled_sizes(rollout, {{3, 3, 3, 3, 4}}, 0), Sizes{5});
  EXPECT_EQ(scaled_sizes(rollout, {{0, 0, 0}, {0, 0, 0}}, 1), (Sizes{0, 5}));
}

TEST(ScaledSizes, InProportionDuringARollout) {
  // Kubernetes' documentation: 10 replicas, surge 3, unavailable 2; 8 old and 5 new; scaled to 15.
  const Rollout rollout{15, 3, 2, false};
  EXPECT_EQ(scaled_sizes(rollout, {{8, 8, 8, 10, 13}, {5, 0, 5, 10, 13}}, 1), (Sizes{11, 7}));
  const Rollout zero{0, 0, 0, false};
  EXPECT_EQ(scaled_sizes(zero, {{8, 8, 8, 10, 13}, {5, 0, 5, 10, 13}}, 1), (Sizes{0, 0}));
}

TEST(ScaledSizes, ASaturatedNewestEndsTheOld) {
  const Rollout rollout{3, 1, 0, false};
  EXPECT_EQ(scaled_sizes(rollout, {{1, 1, 1, 4, 5}, {3, 3, 3, 4, 5}}, 1), (Sizes{0, 3}));
}

TEST(NextSizes, AnyRolloutEndsAndKeepsItsPromises) {
  const std::uint64_t seed = 7;
  SeededRandom random(seed);
  for (int round = 0; round < 500; ++round) {
    const auto replicas = static_cast<std::int64_t>(random.below(12) + 1);
    Rollout rollout{replicas, static_cast<std::int64_t>(random.below(4)),
                    static_cast<std::int64_t>(random.below(4)), false};
    if (rollout.max_surge == 0 && rollout.max_unavailable == 0)
      rollout.max_unavailable = 1;
    rollout.max_unavailable = std::min(rollout.max_unavailable, replicas);
    SCOPED_TRACE(fmt::format("seed {} round {}: replicas {} surge {} unavailable {}", seed, round,
                             replicas, rollout.max_surge, rollout.max_unavailable));
    std::vector<SetSize> sets{{replicas, replicas, replicas}, {0, 0, 0}};
    int steps = 0;
    while (sets[1].wanted != replicas || sets[0].wanted != 0 || sets[1].available != replicas) {
      ASSERT_LT(++steps, 500) << "it does not end";
      const auto next = next_sizes(rollout, sets, 1);
      for (std::size_t i = 0; i < 2; ++i) {
        sets[i].wanted = next[i];
        // Pods go at once and come when they like.
        sets[i].available = std::min(sets[i].available, sets[i].wanted);
        if (sets[i].available < sets[i].wanted && random.below(2) == 0)
          ++sets[i].available;
      }
      ASSERT_LE(sets[0].wanted + sets[1].wanted, replicas + rollout.max_surge);
      ASSERT_GE(sets[0].available + sets[1].available, replicas - rollout.max_unavailable);
    }
  }
}

}  // namespace
}  // namespace shoal::controllers
