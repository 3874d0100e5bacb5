// SPDX-License-Identifier: Apache-2.0
#include "netplane/plan/index_pool.h"

#include "netplane/base/random.h"

namespace shoal::plan {
namespace {

TEST(IndexPool, GivesTheLowest) {
  IndexPool pool(10, 1);
  EXPECT_EQ(pool.take(), 1U);
  EXPECT_EQ(pool.take_run(3), 2U);
  EXPECT_EQ(pool.take(), 5U);
  pool.give_back(3, 2);
  EXPECT_EQ(pool.take_run(3), 6U);
  EXPECT_EQ(pool.take_run(2), 3U);
  EXPECT_EQ(pool.take_run(2), std::nullopt);
  EXPECT_EQ(pool.take(), 9U);
  EXPECT_EQ(pool.take(), std::nullopt);
  EXPECT_EQ(pool.free_count(), 0U);
}

TEST(IndexPool, ClaimIsAllOrNothing) {
  IndexPool pool(200);
  EXPECT_TRUE(pool.claim(60, 10));
  EXPECT_FALSE(pool.claim(69, 5));
  EXPECT_FALSE(pool.taken(70));
  EXPECT_FALSE(pool.claim(195, 6));
  EXPECT_FALSE(pool.claim(0, 0));
  EXPECT_TRUE(pool.claim(195, 5));
  EXPECT_EQ(pool.free_count(), 185U);
}

// A vector of bools, first fit by trying every place.
struct Twin {
  std::vector<bool> used;
  std::optional<std::uint32_t> take_run(std::uint32_t count) {
    for (std::uint32_t at = 0; at + count <= used.size(); at++) {
      bool fits = true;
      for (std::uint32_t i = at; i < at + count; i++)
        fits = fits && !used[i];
      if (!fits)
        continue;
      for (std::uint32_t i = at; i < at + count; i++)
        used[i] = true;
      return at;
    }
    return std::nullopt;
  }
};

TEST(IndexPool, DoesAsItsTwin) {
  constexpr std::uint64_t kSeed = 7;
  SeededRandom random(kSeed);
  for (const std::uint32_t size : {1U, 63U, 64U, 65U, 300U, 1000U}) {
    IndexPool pool(size);
    Twin twin{std::vector<bool>(size)};
    std::vector<std::pair<std::uint32_t, std::uint32_t>> held;
    for (int step = 0; step < 2000; step++) {
      if (random.below(2) == 0 || held.empty()) {
        const auto count =
            static_cast<std::uint32_t>(1 + random.below(random.below(4) == 0 ? 130 : 5));
        const auto at = pool.take_run(count);
        ASSERT_EQ(at, twin.take_run(count))
            << "seed " << kSeed << " size " << size << " step " << step;
        if (at)
          held.emplace_back(*at, count);
      } else {
        const std::size_t i = random.below(held.size());
        pool.give_back(held[i].first, held[i].second);
        for (std::uint32_t b = 0; b < held[i].second; b++)
          twin.used[held[i].first + b] = false;
        held[i] = held.back();
        held.pop_back();
      }
      ASSERT_EQ(pool.free_count(), std::count(twin.used.begin(), twin.used.end(), false));
    }
  }
}

}  // namespace
}  // namespace shoal::plan
