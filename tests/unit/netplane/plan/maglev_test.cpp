// SPDX-License-Identifier: Apache-2.0
#include "netplane/plan/maglev.h"

#include "netplane/base/hash.h"
#include "netplane/base/random.h"
#include "tests/bpf/rings.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <numeric>

namespace shoal::plan {
namespace {

std::uint64_t seed() {
  const char* text = std::getenv("SHOAL_TEST_SEED");
  const std::uint64_t value = text != nullptr ? std::strtoull(text, nullptr, 10) : 20240607;
  fmt::print("SHOAL_TEST_SEED={}\n", value);
  return value;
}

std::uint64_t name(unsigned n) { return ring_name(IpAddress::v4(0x0af40000 + n), 8080); }

// A ring of even backends, by their numbers.
std::vector<std::uint32_t> even_ring(std::vector<unsigned> backends, std::uint32_t slots = 0) {
  const RingGroup all{1, static_cast<std::uint32_t>(backends.size())};
  if (slots == 0)
    slots = static_cast<std::uint32_t>(ring_slots({&all, 1}));
  std::sort(backends.begin(), backends.end(),
            [](unsigned a, unsigned b) { return name(a) < name(b); });
  std::vector<RingMember> members;
  for (std::uint32_t i = 0; i < backends.size(); i++)
    members.push_back({name(backends[i]), share_of(slots, all.backends, i), backends[i]});
  std::vector<std::uint32_t> ring(slots);
  RingBuilder().build(members, ring);
  return ring;
}

std::vector<unsigned> numbers(unsigned count, unsigned from = 0) {
  std::vector<unsigned> out(count);
  std::iota(out.begin(), out.end(), from);
  return out;
}

// The share of the hash space that changes hands.
double moved(const std::vector<std::uint32_t>& a, const std::vector<std::uint32_t>& b) {
  const std::size_t n = std::max(a.size(), b.size());
  std::size_t differ = 0;
  for (std::size_t i = 0; i < n; i++)
    differ += a[i * a.size() / n] != b[i * b.size() / n];
  return static_cast<double>(differ) / static_cast<double>(n);
}

// --- Sizes and shares
// -------------------------------------------------------------------------------

TEST(RingSlots, AtLeastAHundredABackendInWholeBlocks) {
  for (std::uint32_t n = 1; n <= 2000; n++) {
    const RingGroup all{1, n};
    const std::uint64_t slots = ring_slots({&all, 1});
    EXPECT_GE(slots, 100 * n);
    EXPECT_EQ(slots % 64, 0U);
    EXPECT_TRUE(std::has_single_bit(slots));
  }
}

TEST(RingSlots, NoneWithoutAnyoneEntitled) {
  const RingGroup empty{1, 0};
  const RingGroup weightless{0, 5};
  EXPECT_EQ(ring_slots({}), 0U);
  EXPECT_EQ(ring_slots({&empty, 1}), 0U);
  EXPECT_EQ(ring_slots({&weightless, 1}), 0U);
}

TEST(RingSlots, MovingWeightsKeepsTheSize) {
  for (std::uint64_t blue = 0; blue <= 100; blue += 5) {
    const RingGroup groups[] = {{blue, 3}, {100 - blue, 3}};
    EXPECT_EQ(ring_slots(groups), 1024U) << blue;
  }
}

TEST(RingSlots, ASmallShareIsStillExact) {
  const RingGroup groups[] = {{999, 1}, {1, 1}};
  const auto slots = static_cast<std::uint32_t>(ring_slots(groups));
  EXPECT_GE(group_slots(groups, slots)[1], kSlotsOfSmallestShare);
  const RingGroup extreme[] = {{1'000'000, 1}, {1, 200}};
  EXPECT_LE(ring_slots(extreme), kWeightedRingSlotsMax);
}

// The dumb twin: every group within one slot of its exact share, none left over, none too many.
void expect_exact(std::span<const RingGroup> groups, std::uint32_t slots) {
  const std::vector<std::uint32_t> got = group_slots(groups, slots);
  double weight = 0;
  for (const RingGroup& group : groups)
    weight += group.backends > 0 ? static_cast<double>(group.weight) : 0;
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < groups.size(); i++) {
    const double exact = groups[i].backends == 0 || weight == 0
                             ? 0
                             : static_cast<double>(groups[i].weight) / weight * slots;
    EXPECT_LT(std::abs(got[i] - exact), 1.0);
    sum += got[i];
  }
  EXPECT_EQ(sum, weight == 0 ? 0 : slots);
}

TEST(GroupSlots, ExactToOneSlot) {
  for (std::uint64_t a = 0; a <= 100; a++)
    for (std::uint64_t b = 0; b <= 100; b += 7) {
      const RingGroup groups[] = {{a, 3}, {b, 1}, {33, 0}, {5, 40}};
      expect_exact(groups, 8192);
    }
}

TEST(GroupSlots, RandomGroupsAreExact) {
  SeededRandom random(seed());
  for (int round = 0; round < 2000; round++) {
    std::vector<RingGroup> groups(1 + random.below(8));
    for (RingGroup& group : groups)
      group = {random.below(random.below(2) == 0 ? 101 : 1'000'001),
               static_cast<std::uint32_t>(random.below(200))};
    const std::uint64_t slots = ring_slots(groups);
    expect_exact(groups, static_cast<std::uint32_t>(slots));
  }
}

TEST(GroupSlots, AnEmptyGroupHandsOverInProportion) {
  const RingGroup groups[] = {{50, 0}, {30, 2}, {10, 2}};
  EXPECT_THAT(group_slots(groups, 1024), testing::ElementsAre(0, 768, 256));
}

// --- Placement
// --------------------------------------------------------------------------------------

TEST(Ring, EveryBackendHasItsQuota) {
  for (unsigned n = 2; n <= 200; n++) {
    const std::vector<std::uint32_t> ring = even_ring(numbers(n));
    std::map<std::uint32_t, std::uint32_t> counts;
    for (const std::uint32_t value : ring)
      counts[value]++;
    ASSERT_EQ(counts.size(), n);
    const auto [low, high] =
        std::minmax_element(counts.begin(), counts.end(),
                            [](const auto& a, const auto& b) { return a.second < b.second; });
    EXPECT_GE(low->second, 100U);
    EXPECT_LE(high->second - low->second, 1U);
  }
}

TEST(Ring, AnyQuotasAreMet) {
  SeededRandom random(seed());
  for (int round = 0; round < 300; round++) {
    const std::uint32_t slots = 64U << random.below(8);
    std::vector<RingMember> members(1 + random.below(20));
    std::uint32_t left = slots;
    for (std::uint32_t i = 0; i < members.size(); i++) {
      const bool last = i + 1 == members.size();
      const auto quota = last ? left : static_cast<std::uint32_t>(random.below(left + 1));
      members[i] = {random.next(), quota, i};
      left -= quota;
    }
    std::vector<std::uint32_t> ring(slots, UINT32_MAX);
    RingBuilder().build(members, ring);
    for (const RingMember& member : members)
      EXPECT_EQ(std::count(ring.begin(), ring.end(), member.value), member.quota);
  }
}

TEST(Ring, OrderDoesNotMatterAndABuilderRemembersNothing) {
  SeededRandom random(seed());
  RingBuilder used;
  for (int round = 0; round < 50; round++) {
    std::vector<RingMember> members;
    const auto n = static_cast<std::uint32_t>(2 + random.below(30));
    for (std::uint32_t i = 0; i < n; i++)
      members.push_back({random.next(), share_of(4096, n, i), i});
    std::vector<std::uint32_t> first(4096);
    std::vector<std::uint32_t> second(4096);
    used.build(members, first);
    for (std::size_t i = members.size(); i-- > 1;)
      std::swap(members[i], members[random.below(i + 1)]);
    RingBuilder().build(members, second);
    EXPECT_EQ(first, second);
  }
}

// The ring is a protocol between hosts: a change of it breaks flows that move between hosts of two
// versions.
TEST(Ring, IsPinned) {
  const std::vector<std::uint32_t> ring = even_ring({1, 2, 3});
  std::uint64_t digest = 0;
  for (const std::uint32_t value : ring)
    digest = mix64(digest ^ value);
  EXPECT_EQ(ring.size(), 512U);
  EXPECT_EQ(digest, 15162407436368550418U);
}

struct Disruption {
  unsigned backends;
  double excess_max;  // share of the hash space moved beyond the one backend's own
};

class RingDisruption : public testing::TestWithParam<Disruption> {};

// One backend of n goes: at least its 1/n must move. Full-table hashing moves nearly all.
TEST_P(RingDisruption, RemovingOneMovesLittleElse) {
  const auto [n, excess_max] = GetParam();
  double sum = 0;
  const unsigned rounds = n > 100 ? 4 : 20;
  for (unsigned round = 0; round < rounds; round++) {
    const std::vector<unsigned> all = numbers(n, round * 1000);
    std::vector<unsigned> less = all;
    less.erase(less.begin() + round % n);
    const std::vector<std::uint32_t> before = even_ring(all);
    sum += moved(before, even_ring(less, static_cast<std::uint32_t>(before.size())));
  }
  const double excess = sum / rounds - 1.0 / n;
  fmt::print("{} backends: one removed moves {:.4f}, of which {:.4f} is its own\n", n, sum / rounds,
             1.0 / n);
  EXPECT_LE(excess, excess_max);
}

INSTANTIATE_TEST_SUITE_P(Sizes, RingDisruption,
                         testing::Values(Disruption{2, 0.001}, Disruption{3, 0.03},
                                         Disruption{5, 0.05}, Disruption{10, 0.05},
                                         Disruption{40, 0.06}, Disruption{100, 0.035},
                                         Disruption{200, 0.035}));

TEST(Ring, AWeightChangeMovesLittleMoreThanTheDifference) {
  const auto weighted = [](std::uint32_t blue, std::uint32_t green) {
    const RingGroup groups[] = {{blue, 3}, {green, 3}};
    const auto slots = static_cast<std::uint32_t>(ring_slots(groups));
    const std::vector<std::uint32_t> of = group_slots(groups, slots);
    std::vector<RingMember> members;
    for (std::uint32_t i = 0; i < 6; i++)
      members.push_back({name(i), share_of(of[i / 3], 3, i % 3), i / 3});
    std::vector<std::uint32_t> ring(slots);
    RingBuilder().build(members, ring);
    return ring;
  };
  const double step = moved(weighted(90, 10), weighted(80, 20));
  const double far = moved(weighted(90, 10), weighted(50, 50));
  fmt::print("90/10 to 80/20 moves {:.3f}, to 50/50 {:.3f} between versions\n", step, far);
  EXPECT_LE(step, 0.10 + 0.06);
  EXPECT_LE(far, 0.40 + 0.10);
}

TEST(Ring, DoublingLeavesAboutHalfWhereItWas) {
  for (const unsigned n : {5U, 10U, 50U}) {
    const std::vector<std::uint32_t> ring = even_ring(numbers(n));
    EXPECT_LE(moved(ring, even_ring(numbers(n), static_cast<std::uint32_t>(ring.size() * 2))),
              0.60);
  }
}

// Picks as the data plane makes them: slot = hash * slots >> 32, with even hashes.
TEST(Ring, PicksFollowTheWeights) {
  constexpr std::uint64_t kPicks = 1'000'000;
  SeededRandom random(seed());
  for (const auto backends : {2U, 3U, static_cast<unsigned>(4 + random.below(196)), 200U}) {
    const bpftest::WeightedRing ring = bpftest::random_ring(random, backends, 0);
    std::vector<std::uint64_t> seen(backends);
    for (std::uint64_t i = 0; i < kPicks; i++)
      ++seen[ring.slots[(random.next() & 0xffffffffU) * ring.slots.size() >> 32]];
    bpftest::expect_picks(ring, seen, kPicks);
  }
}

}  // namespace
}  // namespace shoal::plan
