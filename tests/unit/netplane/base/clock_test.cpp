// SPDX-License-Identifier: Apache-2.0
#include "netplane/base/clock.h"

namespace shoal {
namespace {

TEST(Clock, FormatsUtc) {
  const WallTime time{std::chrono::seconds(1'767'225'600) + std::chrono::nanoseconds(5)};
  EXPECT_EQ(rfc3339(time), "2026-01-01T00:00:00Z");
  EXPECT_EQ(rfc3339_nano(time), "2026-01-01T00:00:00.000000005Z");
  EXPECT_EQ(rfc3339_nano(WallTime{std::chrono::nanoseconds(-1)}), "1969-12-31T23:59:59.999999999Z");
}

TEST(Clock, MonotonicDoesNotGoBack) {
  SystemClock clock;
  const auto a = clock.now();
  EXPECT_LE(a, clock.now());
}

}  // namespace
}  // namespace shoal
