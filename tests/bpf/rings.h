// SPDX-License-Identifier: Apache-2.0
// Rings of random groups, made as the planner makes them, and whether picks follow them.
#pragma once

#include "netplane/base/random.h"
#include "netplane/model/data_plane.h"
#include "netplane/plan/maglev.h"
#include "tests/bpf/chi_square.h"

#include <algorithm>
#include <array>
#include <gtest/gtest.h>
#include <vector>

namespace shoal::bpftest {

inline constexpr std::uint32_t kBackendsMax = 200;

struct Round {
  std::uint32_t backends;
  std::uint64_t picks;
};

// The first ring is there so that the second is what a change of groups leaves. IPv6 differs from
// IPv4 in what is hashed and in nothing after that: a tenth tells whether that spreads.
inline std::array<Round, 2> rounds(Random& random, bool v6) {
  const std::uint64_t picks = v6 ? 100'000 : 1'000'000;
  return {{{static_cast<std::uint32_t>(2 + random.below(kBackendsMax - 1)), picks / 10},
           {static_cast<std::uint32_t>(2 + random.below(kBackendsMax - 1)), picks}}};
}

struct WeightedRing {
  std::vector<model::BackendId> ids;
  std::vector<std::uint32_t> quotas;  // slots of each; 0: its group has weight 0
  std::vector<model::BackendId> slots;
};

// `backends` in groups of unequal sizes, with weights from 0 to 100 of which one is not 0.
inline WeightedRing random_ring(Random& random, std::uint32_t backends, model::BackendId first) {
  std::vector<plan::RingGroup> groups;
  for (std::uint32_t left = backends; left > 0; left -= groups.back().backends)
    groups.push_back({random.below(101), static_cast<std::uint32_t>(1 + random.below(left))});
  groups.front().weight = std::max<std::uint64_t>(groups.front().weight, 1);
  const auto size = static_cast<std::uint32_t>(plan::ring_slots(groups));
  std::uint64_t entitled = 0;
  for (const plan::RingGroup& group : groups)
    entitled += group.weight != 0 ? group.backends : 0;
  EXPECT_GE(size, plan::kSlotsPerBackend * entitled);
  const std::vector<std::uint32_t> of = plan::group_slots(groups, size);

  WeightedRing ring;
  ring.slots.resize(size);
  std::vector<plan::RingMember> members;
  for (std::size_t g = 0; g < groups.size(); ++g)
    for (std::uint32_t rank = 0; rank < groups[g].backends; ++rank) {
      ring.ids.push_back(first + static_cast<model::BackendId>(ring.ids.size()));
      ring.quotas.push_back(plan::share_of(of[g], groups[g].backends, rank));
      members.push_back({random.next(), ring.quotas.back(), ring.ids.back()});
    }
  plan::RingBuilder().build(members, ring.slots);
  for (std::size_t i = 0; i < ring.ids.size(); ++i)
    EXPECT_EQ(std::ranges::count(ring.slots, ring.ids[i]), ring.quotas[i]) << "exact slot counts";
  return ring;
}

// Whether `seen`, picks of each of the ring's backends, is what one honest run in a million
// exceeds.
inline void expect_picks(const WeightedRing& ring, const std::vector<std::uint64_t>& seen,
                         std::uint64_t picks) {
  std::vector<std::uint64_t> counted;
  std::vector<double> shares;
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < seen.size(); ++i) {
    total += seen[i];
    if (ring.quotas[i] == 0) {
      EXPECT_EQ(seen[i], 0U) << "weight 0, yet picked";
      continue;
    }
    counted.push_back(seen[i]);
    shares.push_back(static_cast<double>(ring.quotas[i]) / static_cast<double>(ring.slots.size()));
  }
  EXPECT_EQ(total, picks);
  if (shares.size() < 2)
    return;
  EXPECT_LT(chi_square(counted, shares), chi_square_limit(shares.size() - 1))
      << testing::PrintToString(counted);
}

}  // namespace shoal::bpftest
