// SPDX-License-Identifier: Apache-2.0
#include "netplane/base/shared_vector.h"

#include <gtest/gtest.h>

namespace shoal {
namespace {

TEST(SharedVectorTest, CopiesShareUntilOneIsChanged) {
  SharedVector<int> first = {1, 2, 3};
  SharedVector<int> second = first;
  EXPECT_EQ(first.begin(), second.begin());
  second.edit()[0] = 9;
  second.push_back(4);
  EXPECT_EQ(first, (SharedVector<int>{1, 2, 3}));
  EXPECT_EQ(second, (SharedVector<int>{9, 2, 3, 4}));
  const int* const held = second.begin();
  second.edit()[1] = 8;  // nobody else's: in place
  EXPECT_EQ(second.begin(), held);
}

TEST(SharedVectorTest, OrderAndEqualityAreThoseOfTheContent) {
  const SharedVector<int> none, one = {1}, other_one = {1}, two = {1, 2};
  EXPECT_EQ(one, other_one);
  EXPECT_NE(none, one);
  EXPECT_LT(none, one);
  EXPECT_LT(one, two);
  EXPECT_EQ(none, SharedVector<int>(std::vector<int>()));
}

TEST(SharedVectorTest, AnEmptyOneCanBeChanged) {
  SharedVector<int> items;
  EXPECT_TRUE(items.empty());
  EXPECT_EQ(items.begin(), items.end());
  items.push_back(1);
  SharedVector<int> copy = items;
  copy.clear();
  EXPECT_EQ(items.size(), 1U);
  EXPECT_TRUE(copy.empty());
  items.pop_back();
  EXPECT_TRUE(items.empty());
}

}  // namespace
}  // namespace shoal
