// SPDX-License-Identifier: Apache-2.0
#include "agent/controllers/work_queue.h"

#include <gtest/gtest.h>

namespace shoal::controllers {
namespace {

Item item(const char* name) { return {ControllerId::kNode, {"nodes", "", name}}; }
MonoTime at(int second) { return MonoTime(std::chrono::seconds(second)); }

TEST(WorkQueue, EachItemOnceAtItsEarliestTime) {
  WorkQueue queue(10);
  EXPECT_TRUE(queue.add(item("a"), at(5)));
  EXPECT_TRUE(queue.add(item("a"), at(3)));
  EXPECT_TRUE(queue.add(item("a"), at(9)));
  EXPECT_TRUE(queue.add(item("b"), at(4)));
  EXPECT_EQ(queue.size(), 2u);
  EXPECT_EQ(queue.next_due(), at(3));
  EXPECT_FALSE(queue.pop(at(2)));
  EXPECT_EQ(queue.pop(at(4))->ref.name, "a");
  EXPECT_EQ(queue.pop(at(4))->ref.name, "b");
  EXPECT_FALSE(queue.pop(at(99)));
  EXPECT_FALSE(queue.next_due());
}

TEST(WorkQueue, IsBounded) {
  WorkQueue queue(2);
  EXPECT_TRUE(queue.add(item("a"), at(1)));
  EXPECT_TRUE(queue.add(item("b"), at(1)));
  EXPECT_FALSE(queue.add(item("c"), at(1)));
  EXPECT_TRUE(queue.add(item("a"), at(0)));  // in it already
}

}  // namespace
}  // namespace shoal::controllers
