// SPDX-License-Identifier: Apache-2.0
// Weighted rings: how many slots each backend of a service gets, and where they lie.
//
// After Maglev (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI
// 2016, section 3.4): each backend walks a permutation of the slots that follows from its name
// alone, and the backends take free slots in turns. Three things are added:
//   - quotas: a backend stops when it has its share, so the shares are exact to one slot;
//   - slots are placed in pairs of neighbours, which halves the work; two backends with an odd
//   quota
//     share a pair;
//   - sizes are powers of two and the permutation of size 2M extends the one of size M, so that a
//     ring that doubles leaves about half of the hash space with its owner, where independent
//     permutations would leave one part in the number of backends.
// Every host that knows the same backends builds the same ring, in whatever order they are given.
//
// Pure functions of their arguments. RingBuilder keeps scratch memory between rings and nothing
// else.
#pragma once

#include "netplane/base/ip.h"

#include <cstdint>
#include <span>
#include <vector>

namespace shoal::plan {

inline constexpr std::uint32_t kSlotsPerBackend = 100;  // at least, of the ring's backends
inline constexpr std::uint32_t kRingSlotsMin = 64;      // one block
inline constexpr std::uint32_t kWeightedRingSlotsMin =
    1024;  // so that a move of weights keeps the size
// A weighted ring grows until the backend with the smallest share has this many slots, but not
// above kWeightedRingSlotsMax for that reason alone: 1 % means 1 %, at 256 KiB the most.
inline constexpr std::uint32_t kSlotsOfSmallestShare = 16;
inline constexpr std::uint32_t kWeightedRingSlotsMax = 65'536;

// Ready backends that share a weight. A service without weights is one group of weight 1.
struct RingGroup {
  std::uint64_t weight = 0;
  std::uint32_t backends = 0;
};

// The number of slots of a ring: a power of two, a multiple of 64; 0 when no group has both weight
// and backends. Not bounded from above: the caller compares with model::kRingSlotsMax.
std::uint64_t ring_slots(std::span<const RingGroup> groups);

// Slots of each group: weight / sum of the weights of groups that have backends, by largest
// remainder; ties go to the group that stands first. Sums to `slots`, or to 0 when nobody is
// entitled.
std::vector<std::uint32_t> group_slots(std::span<const RingGroup> groups, std::uint32_t slots);

// A backend's share of its group's slots, the `rank`-th of `backends`: even to one slot.
constexpr std::uint32_t share_of(std::uint32_t slots, std::uint32_t backends, std::uint32_t rank) {
  return slots / backends + (rank < slots % backends ? 1 : 0);
}

// A backend's name in the ring: a hash of its address and port, the same everywhere and always.
std::uint64_t ring_name(const IpAddress& ip, std::uint16_t port);

struct RingMember {
  std::uint64_t name = 0;   // ring_name
  std::uint32_t quota = 0;  // slots
  std::uint32_t value = 0;  // what is written in them
  bool operator==(const RingMember&) const = default;
};

class RingBuilder {
public:
  // Fills `ring`, whose size is a power of two of at least 64 and the sum of the quotas. The order
  // of members does not matter, except between two of equal name.
  void build(std::span<const RingMember> members, std::span<std::uint32_t> ring);

private:
  struct Walker {
    std::uint32_t position = 0;
    std::uint32_t skip = 0;
    std::uint32_t per_round = 0;  // picks in every round,
    std::uint32_t rest = 0;       // and `rest` more over all rounds
    std::uint32_t carry = 0;
    std::uint32_t value = 0;  // for the first slot of a pair,
    std::uint32_t other = 0;  // and for the second
  };
  void add_walker(std::uint64_t name, std::uint32_t pairs, std::uint32_t rounds,
                  std::uint32_t value, std::uint32_t other);
  void make_walkers(std::span<const RingMember> members, std::uint32_t slots);
  void reverse_table(std::uint32_t slots);

  std::vector<RingMember> sorted_;
  std::vector<Walker> walkers_;
  std::vector<std::uint8_t> free_;       // 1: nobody's yet
  std::vector<std::uint32_t> reversed_;  // bit reversal of an index of a ring of its size
  std::uint32_t mask_ = 0;
};

}  // namespace shoal::plan
