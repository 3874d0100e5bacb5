// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/places.h"

#include <gtest/gtest.h>
#include <optional>

namespace shoal::daemon {
namespace {

TEST(Places, AreSoManyAndComeBackWhenTheyAreDropped) {
  std::optional<Places> places(2);
  std::shared_ptr<void> one = places->take();
  std::shared_ptr<void> two = places->take();
  ASSERT_TRUE(one && two);
  EXPECT_FALSE(places->take());
  const std::shared_ptr<void> copy = two;
  two.reset();
  EXPECT_FALSE(places->take()) << "somebody still has it";
  one.reset();
  one = places->take();
  EXPECT_TRUE(one);
  EXPECT_FALSE(places->take());
  places.reset();
  one.reset();  // after the end of all
}

}  // namespace
}  // namespace shoal::daemon
