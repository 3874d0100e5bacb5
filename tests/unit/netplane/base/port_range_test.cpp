// SPDX-License-Identifier: Apache-2.0
#include "netplane/base/port_range.h"

#include <gtest/gtest.h>

namespace shoal {
namespace {

TEST(PortRange, TextGoesBothWays) {
  const auto range = PortRange::parse("30000-32767");
  ASSERT_TRUE(range);
  EXPECT_EQ(*range, kNodePortsDefault);
  EXPECT_EQ(range->size(), 2768U);
  EXPECT_EQ(range->to_string(), "30000-32767");
  EXPECT_TRUE(range->contains(30000));
  EXPECT_TRUE(range->contains(32767));
  EXPECT_FALSE(range->contains(29999));
  EXPECT_FALSE(range->contains(32768));
  EXPECT_EQ(PortRange::parse("1-65535")->size(), 65535U);
  EXPECT_EQ(PortRange::parse("80-80")->size(), 1U);
}

TEST(PortRange, WhatIsNoRangeIsRefused) {
  for (const char* text : {"", "-", "30000", "30000-", "-32767", "2-1", "0-5", "1-65536", "1-2-3",
                           "a-b", " 1-2", "1 - 2"})
    EXPECT_EQ(PortRange::parse(text).error().code(), Errc::kInvalid) << text;
}

}  // namespace
}  // namespace shoal
