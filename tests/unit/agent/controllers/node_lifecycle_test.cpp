// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/agent/controllers/world.h"

namespace shoal::controllers {
namespace {

class NodeTest : public ::testing::Test {
protected:
  NodeTest() {
    world.put(fakes::pod({.name = "web-1", .node = "h1", .owner = "web"}));
    world.put(fakes::pod({.name = "bare", .node = "h1"}));
    world.put(fakes::pod({.name = "web-2", .node = "h2", .owner = "web"}));
  }
  Plan look() { return reconcile_node(world.world(), *world.view.get(view::kNodes, "", "h1")); }
  TestWorld world;
};

TEST_F(NodeTest, ALiveHostKeepsItsPods) { EXPECT_TRUE(look().steps.empty()); }

TEST_F(NodeTest, AShortDeathReplacesNothingYet) {
  world.members.set("h1", {false, world.mono});
  world.advance(std::chrono::seconds(2));
  const Plan plan = look();
  EXPECT_TRUE(plan.steps.empty());
  EXPECT_EQ(plan.again_after, Duration(std::chrono::seconds(3)));
}

TEST_F(NodeTest, ALongDeathRemovesWhatIsReplacedElsewhere) {
  world.members.set("h1", {false, world.mono});
  world.advance(std::chrono::seconds(6));
  const Plan plan = look();
  EXPECT_EQ(to_text(plan), "delete pods default/web-1 grace=0\n");
  ASSERT_EQ(plan.notes.size(), 1u);
  EXPECT_EQ(plan.notes[0].about->name, "bare");
}

TEST_F(NodeTest, APodThatWasBeingDeletedWaitsForNobody) {
  world.put(fakes::pod({.name = "bare", .node = "h1", .terminating = true}));
  world.members.set("h1", {false, world.mono});
  world.advance(std::chrono::seconds(6));
  EXPECT_EQ(to_text(look()),
            "delete pods default/bare grace=0\ndelete pods default/web-1 grace=0\n");
}

TEST_F(NodeTest, MostHostsDeadMeansAPartition) {
  world.members.set("h1", {false, world.mono});
  world.members.set("h2", {false, world.mono});
  world.advance(std::chrono::seconds(60));
  const Plan plan = look();
  EXPECT_TRUE(plan.steps.empty());
  ASSERT_EQ(plan.notes.size(), 1u);
  EXPECT_EQ(plan.notes[0].reason, "PodReplacementHeld");
}

TEST_F(NodeTest, NoVerdictNoAction) {
  world.members.erase("h1");
  world.advance(std::chrono::hours(1));
  EXPECT_TRUE(look().steps.empty());
}

}  // namespace
}  // namespace shoal::controllers
