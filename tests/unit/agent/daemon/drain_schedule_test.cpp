// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/drain_schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace shoal::daemon {
namespace {

using namespace std::chrono_literals;
using model::DrainGroup;
using testing::ElementsAre;
using testing::IsEmpty;

class DrainScheduleTest : public testing::Test {
protected:
  void advance(Duration by) {
    wall += by;
    now += by;
  }
  std::vector<DrainGroup> due() const { return schedule.due(wall, now); }
  std::optional<Duration> next() const { return schedule.until_next(wall, now); }
  void pass(const DrainGroup& group, std::uint64_t closed) { schedule.passed(group, closed, now); }

  const DrainGroup blue{"default", "web", "version=blue"};
  const DrainGroup red{"default", "web", "version=red"};
  DrainSchedule schedule;
  WallTime wall{1'000'000s};
  MonoTime now{500s};
};

TEST_F(DrainScheduleTest, AGroupIsDueAtItsTimeAndNotBefore) {
  EXPECT_EQ(next(), std::nullopt);
  schedule.set("default", "web", {{"version=blue", wall + 20s}, {"version=red", wall + 100s}});
  EXPECT_EQ(next(), 20s);
  advance(20s - 1ns);
  EXPECT_THAT(due(), IsEmpty());
  EXPECT_EQ(next(), 10ms);  // never in a tight circle
  advance(1ns);
  EXPECT_THAT(due(), ElementsAre(blue));
  pass(blue, 3);
  EXPECT_EQ(schedule.closed().at(blue), 3U);
  EXPECT_THAT(due(), IsEmpty());
}

TEST_F(DrainScheduleTest, PassesFollowSoonUntilNothingIsLeftAndThenNowAndThen) {
  schedule.set("default", "web", {{"version=blue", wall}});
  pass(blue, 2);
  advance(kDrainPassSoon);
  EXPECT_THAT(due(), ElementsAre(blue));
  pass(blue, 0);
  advance(kDrainPassSoon);
  EXPECT_THAT(due(), ElementsAre(blue));
  pass(blue, 0);
  advance(kDrainPassSoon);
  EXPECT_THAT(due(), IsEmpty());
  advance(kDrainPassLater - kDrainPassSoon);
  EXPECT_THAT(due(), ElementsAre(blue));
  pass(blue, 1);  // somebody was late
  advance(kDrainPassSoon);
  EXPECT_THAT(due(), ElementsAre(blue));
}

TEST_F(DrainScheduleTest, ARaisedWeightEndsIt) {
  schedule.set("default", "web", {{"version=blue", wall}, {"version=red", wall}});
  EXPECT_THAT(due(), ElementsAre(blue, red));
  schedule.set("default", "web", {{"version=red", wall}});
  EXPECT_THAT(due(), ElementsAre(red));
  pass(blue, 5);  // a pass that was under way
  EXPECT_EQ(schedule.closed().at(blue), 5U);
  schedule.set("default", "web", {});
  EXPECT_EQ(next(), std::nullopt);
  EXPECT_EQ(schedule.closed().at(blue), 5U);
}

TEST_F(DrainScheduleTest, TheSameTimeAgainIsNoNewBeginning) {
  schedule.set("default", "web", {{"version=blue", wall}});
  for (int i = 0; i < 3; ++i)
    pass(blue, 0);
  schedule.set("default", "web", {{"version=blue", wall}});
  EXPECT_THAT(due(), IsEmpty());
  schedule.set("default", "web", {{"version=blue", wall - 1s}});  // another timeout
  EXPECT_THAT(due(), ElementsAre(blue));
}

TEST_F(DrainScheduleTest, AClockThatIsSetIsLookedAtAgain) {
  schedule.set("default", "web", {{"version=blue", wall + 24h}});
  EXPECT_EQ(next(), Duration(kDrainLookMax));
  wall += 25h;
  EXPECT_THAT(due(), ElementsAre(blue));
}

TEST_F(DrainScheduleTest, ServicesAreApartAndWhatIsRemovedIsForgotten) {
  const DrainGroup other{"default", "web2", "version=blue"};
  schedule.set("default", "web", {{"version=blue", wall}});
  schedule.set("default", "web2", {{"version=blue", wall + 5s}});
  schedule.set("other", "web", {{"version=blue", wall}});
  pass(blue, 1);
  pass(other, 2);
  schedule.remove("default", "web");
  EXPECT_THAT(due(), ElementsAre(DrainGroup{"other", "web", "version=blue"}));
  EXPECT_FALSE(schedule.closed().contains(blue));
  const auto status = schedule.status("default", "web2", wall);
  ASSERT_EQ(status.size(), 1U);
  EXPECT_EQ(status[0].left, 5s);
  EXPECT_EQ(status[0].closed, 2U);
  EXPECT_THAT(schedule.status("default", "web", wall), IsEmpty());
}

}  // namespace
}  // namespace shoal::daemon
