// SPDX-License-Identifier: Apache-2.0
#include "netplane/plan/ring_history.h"

#include "netplane/base/random.h"

#include <algorithm>
#include <deque>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <set>

namespace shoal::plan {
namespace {

using model::BackendId;
using model::kSlotFormer;
using model::kSlotMoved;

struct Ring {
  std::vector<BackendId> slots, former;
};

Ring first(std::vector<BackendId> slots) { return {std::move(slots), {}}; }

Ring next(const Ring& before, std::vector<BackendId> slots, const std::set<BackendId>& gone = {}) {
  Ring ring{std::move(slots), {}};
  ring.former.resize(kSlotFormer * ring.slots.size());
  carry_history(
      {before.slots, before.former}, [&](BackendId id) { return !gone.contains(id); }, ring.slots,
      ring.former);
  return ring;
}

using Owners = std::vector<BackendId>;
constexpr BackendId kMoved1 = 1 | kSlotMoved, kMoved2 = 2 | kSlotMoved, kMoved3 = 3 | kSlotMoved;

TEST(RingHistory, OnlySlotsThatChangedHandsAreMarked) {
  const Ring ring = next(first({1, 1, 2, 2}), {1, 2, 2, 1});
  EXPECT_EQ(ring.slots, (Owners{1, kMoved2, 2, kMoved1}));
  EXPECT_EQ(ring.former, (Owners{0, 0, 1, 0, 0, 0, 2, 0}));
}

TEST(RingHistory, TheLastTwoOwnersAreRememberedThroughAnyNumberOfRings) {
  Ring ring = next(first({1, 1}), {2, 1});
  for (int i = 0; i < 5; i++)
    ring = next(ring, {2, 1});
  EXPECT_EQ(ring.former, (Owners{1, 0, 0, 0}));
  ring = next(ring, {3, 1});
  EXPECT_EQ(ring.slots, (Owners{kMoved3, 1}));
  EXPECT_EQ(ring.former, (Owners{2, 1, 0, 0}));
  ring = next(ring, {4, 1});
  EXPECT_EQ(ring.former, (Owners{3, 2, 0, 0}));
}

TEST(RingHistory, AnOwnerThatComesBackIsNoFormerOne) {
  const Ring ring = next(next(first({1}), {2}), {1});
  EXPECT_EQ(ring.slots, (Owners{kMoved1}));
  EXPECT_EQ(ring.former, (Owners{2, 0}));
}

TEST(RingHistory, WhoIsGoneIsLeftOut) {
  const Ring ring = next(next(first({1, 1}), {2, 1}), {3, 3}, {2});
  EXPECT_EQ(ring.former, (Owners{1, 0, 1, 0}));
  EXPECT_EQ(next(first({1, 2}), {2, 2}, {1}).slots, (Owners{2, 2}));
}

TEST(RingHistory, ARingThatRefusesKeepsWhatTheOwnersHad) {
  const Ring refusing = next(first({1, 2}), {0, 0});
  EXPECT_EQ(refusing.slots, (Owners{kSlotMoved, kSlotMoved}));
  EXPECT_EQ(next(refusing, {1, 1}).slots, (Owners{1, kMoved1}));
}

TEST(RingHistory, SizesFollowTheHashSpace) {
  const Ring grown = next(first({1, 2}), {1, 2, 2, 1});
  EXPECT_EQ(grown.slots, (Owners{1, kMoved2, 2, kMoved1}));
  EXPECT_EQ(next(first({1, 2, 3, 3}), {1, 3}).former, (Owners{2, 0, 0, 0}));
  EXPECT_EQ(next(first({1, 2, 3, 4}), {5, 5}).former, (Owners{1, 2, 3, 4}));
}

TEST(RingHistory, WithoutOneEverySlotMayHaveMoved) {
  Owners ring{1, 2};
  mark_all_moved(ring);
  EXPECT_EQ(ring, (Owners{kMoved1, kMoved2}));
}

// Against a twin that keeps, for each of the smallest parts of the hash space, a list of who had
// it: as long as rings do not shrink, the ring knows exactly those.
TEST(RingHistory, IsWhatAListOfOwnersSays) {
  const std::uint64_t seed = SystemRandom().next();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  SeededRandom random(seed);
  constexpr std::size_t kParts = 64;
  for (int round = 0; round < 200; round++) {
    std::vector<std::deque<BackendId>> had(kParts);
    std::size_t size = std::size_t{1} << random.below(3);
    const auto picked = [&] {
      std::vector<BackendId> slots(size);
      for (BackendId& slot : slots)
        slot = static_cast<BackendId>(random.below(5));
      return slots;
    };
    Ring ring = first(picked());
    for (int change = 0; change < 12; change++) {
      for (std::size_t part = 0; part < kParts; part++) {
        const BackendId owner = ring.slots[part * size / kParts] & ~kSlotMoved;
        std::erase(had[part], owner);
        if (owner != 0)
          had[part].push_front(owner);
      }
      if (size < kParts && random.below(4) == 0)
        size *= 2;
      ring = next(ring, picked());
      for (std::size_t part = 0; part < kParts; part++) {
        const std::size_t slot = part * size / kParts;
        Owners expected;
        for (const BackendId owner : had[part])
          if (owner != (ring.slots[slot] & ~kSlotMoved) && expected.size() < kSlotFormer)
            expected.push_back(owner);
        had[part].assign(expected.begin(), expected.end());
        ASSERT_EQ((ring.slots[slot] & kSlotMoved) != 0, !expected.empty());
        expected.resize(kSlotFormer);
        ASSERT_TRUE(std::ranges::equal(
            expected, std::span(ring.former).subspan(kSlotFormer * slot, kSlotFormer)));
      }
    }
  }
}

}  // namespace
}  // namespace shoal::plan
