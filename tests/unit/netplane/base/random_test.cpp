// SPDX-License-Identifier: Apache-2.0
#include "netplane/base/random.h"

namespace shoal {
namespace {

TEST(Random, ASeedReplays) {
  SeededRandom a(42);
  SeededRandom b(42);
  SeededRandom c(43);
  bool differs = false;
  for (int i = 0; i < 100; i++) {
    const auto value = a.next();
    EXPECT_EQ(value, b.next());
    differs |= value != c.next();
  }
  EXPECT_TRUE(differs);
}

TEST(Random, BelowIsEven) {
  SeededRandom random(1);
  int counts[7] = {};
  for (int i = 0; i < 70'000; i++)
    counts[random.below(7)]++;
  double chi = 0;
  for (const int n : counts)
    chi += (n - 10'000.0) * (n - 10'000.0) / 10'000.0;
  EXPECT_LT(chi, 33.1);  // p = 1e-5 at 6 degrees of freedom
}

TEST(Random, SystemFillsEveryByte) {
  SystemRandom random;
  std::uint8_t seen[64] = {};
  for (int round = 0; round < 8; round++) {
    std::uint8_t bytes[64] = {};
    random.fill(bytes);
    for (int i = 0; i < 64; i++)
      seen[i] |= bytes[i];
  }
  for (const std::uint8_t byte : seen)
    EXPECT_NE(byte, 0);
}

}  // namespace
}  // namespace shoal
