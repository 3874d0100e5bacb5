// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/core/suspicion.h"

#include <gtest/gtest.h>

namespace shoal::gossip {
namespace {

using namespace std::chrono_literals;
const ProtocolConfig kConfig;

TEST(Suspicion, OfTwoMembersNobodyCanConfirm) {
  EXPECT_EQ(confirmations_wanted(kConfig, 2), 0U);
  EXPECT_EQ(suspicion_timeout(kConfig, 2, 0), 2s);
}

TEST(Suspicion, OfThreeOneConfirmationShortensIt) {
  EXPECT_EQ(confirmations_wanted(kConfig, 3), 1U);
  EXPECT_EQ(suspicion_timeout(kConfig, 3, 0), 12s);
  EXPECT_EQ(suspicion_timeout(kConfig, 3, 1), 2s);
}

TEST(Suspicion, GrowsWithTheClusterAndFallsWithConfirmations) {
  EXPECT_EQ(confirmations_wanted(kConfig, 100), 2U);
  Duration before = suspicion_timeout(kConfig, 100, 0);
  EXPECT_EQ(before, 24s);
  for (std::size_t c = 1; c <= 2; ++c) {
    const Duration now = suspicion_timeout(kConfig, 100, c);
    EXPECT_LT(now, before);
    before = now;
  }
  EXPECT_EQ(before, 4s);
  EXPECT_EQ(suspicion_timeout(kConfig, 100, 9), 4s);
}

TEST(Suspicion, NewsIsToldMoreOftenInLargerClusters) {
  EXPECT_EQ(retransmits(kConfig, 3), 4U);
  EXPECT_EQ(retransmits(kConfig, 100), 12U);
}

}  // namespace
}  // namespace shoal::gossip
