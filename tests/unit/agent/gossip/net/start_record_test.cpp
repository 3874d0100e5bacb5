// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/net/start_record.h"

#include "netplane/base/fs.h"
#include "tests/fakes/fake_clock.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace shoal::gossip {
namespace {

TEST(StartRecord, RisesAtEveryStartWhateverTheClockDoes) {
  char folder[] = "/tmp/shoal-start-XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  const auto file = std::filesystem::path(folder) / "start";
  FakeClock clock;
  const auto first = next_start_id(file, clock);
  ASSERT_TRUE(first) << first.error().message();
  EXPECT_EQ(*next_start_id(file, clock), *first) << "asking writes nothing";
  ASSERT_TRUE(save_start_id(file, *first));
  EXPECT_EQ(*next_start_id(file, clock), *first + 1);
  clock.advance(std::chrono::hours(1));
  EXPECT_EQ(*next_start_id(file, clock), *first + 3'600'000);
  ASSERT_TRUE(save_start_id(file, *first * 2));
  EXPECT_EQ(*next_start_id(file, clock), *first * 2 + 1);
  ASSERT_TRUE(write_file_atomic(file, "garbage"));
  EXPECT_EQ(*next_start_id(file, clock), *first + 3'600'000) << "the clock is the floor";
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace shoal::gossip
