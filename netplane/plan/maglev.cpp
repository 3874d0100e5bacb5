// SPDX-License-Identifier: Apache-2.0
#include "netplane/plan/maglev.h"

#include "netplane/base/hash.h"
#include "netplane/base/result.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace shoal::plan {
namespace {

// Turns of a ring are dealt out in at most so many rounds; a backend with a large quota takes
// several slots in a turn then. It bounds the work for one heavy backend among thousands of light
// ones.
constexpr std::uint32_t kRoundsMax = 256;

// How many groups of four places of its permutation a backend looks at before it takes the next
// free slot whichever. Towards the end of a ring few slots are free, and a walk would go on for
// long.
constexpr int kProbeGroups = 32;

constexpr std::uint32_t kNameSeed = 0x52494e47;  // so that ring names are no other table's hashes

struct Claim {
  std::size_t group = 0;
  std::uint64_t remainder = 0;
};

std::uint64_t entitled_weight(std::span<const RingGroup> groups) {
  std::uint64_t sum = 0;
  for (const RingGroup& group : groups)
    sum += group.backends > 0 ? group.weight : 0;
  return sum;
}

// The next slot of a backend: the first free one of its permutation, as far as it looks. Everything
// is handed in by value, since a store through a byte pointer makes a compiler reload what it
// cannot prove to be elsewhere; this is the one hot loop of a plan.
struct Place {
  std::uint32_t slot = 0;
  std::uint32_t next = 0;  // where the walk goes on
};

inline Place next_place(const std::uint8_t* free, std::uint32_t mask, std::uint32_t at,
                        std::uint32_t skip) {
  for (int group = 0; group < kProbeGroups; group++) {
    const std::uint32_t b = (at + skip) & mask;
    const std::uint32_t c = (b + skip) & mask;
    const std::uint32_t d = (c + skip) & mask;
    // Four places at once: whether a place is free cannot be predicted, and a wrong guess costs
    // more than looking.
    const unsigned hits = free[at] | free[b] << 1U | free[c] << 2U | free[d] << 3U;
    if (hits != 0) {
      at = (at + static_cast<std::uint32_t>(std::countr_zero(hits)) * skip) & mask;
      return {at, (at + skip) & mask};
    }
    at = (d + skip) & mask;
  }
  // `free` is a multiple of 8 long, and somewhere in it is a 1: the quotas add up to its length.
  std::uint32_t word = at & ~7U;
  std::uint64_t bits = 0;
  std::memcpy(&bits, free + word, 8);
  bits &= ~std::uint64_t{0} << (at & 7U) * 8;
  while (bits == 0) {
    word = (word + 8) & mask;
    std::memcpy(&bits, free + word, 8);
  }
  return {word + static_cast<std::uint32_t>(std::countr_zero(bits)) / 8, at};
}

}  // namespace

std::uint64_t ring_name(const IpAddress& ip, std::uint16_t port) {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  // Byte by byte, so that the name does not depend on the machine's byte order.
  for (int i = 0; i < 8; i++) {
    high = high << 8 | ip.bytes()[static_cast<std::size_t>(i)];
    low = low << 8 | ip.bytes()[static_cast<std::size_t>(i) + 8];
  }
  return mix64(mix64(high ^ kNameSeed) ^ mix64(low + port * 0x9e3779b97f4a7c15U));
}

std::uint64_t ring_slots(std::span<const RingGroup> groups) {
  const std::uint64_t weight = entitled_weight(groups);
  if (weight == 0)
    return 0;
  // Groups of weight 0 are counted too: moving all weight from one group to another, slot by slot
  // or at once, then does not change the size.
  std::uint64_t backends = 0;
  for (const RingGroup& group : groups)
    backends += group.backends;
  std::uint64_t slots =
      std::bit_ceil(std::max<std::uint64_t>(backends * kSlotsPerBackend, kRingSlotsMin));
  if (groups.size() == 1)
    return slots;
  slots = std::max<std::uint64_t>(slots, kWeightedRingSlotsMin);
  for (const RingGroup& group : groups) {
    if (group.weight == 0 || group.backends == 0)
      continue;
    // slots * (group.weight / weight) / group.backends >= kSlotsOfSmallestShare
    const std::uint64_t wanted = kSlotsOfSmallestShare * weight * group.backends;
    while (slots < kWeightedRingSlotsMax && slots * group.weight < wanted)
      slots *= 2;
  }
  return slots;
}

std::vector<std::uint32_t> group_slots(std::span<const RingGroup> groups, std::uint32_t slots) {
  std::vector<std::uint32_t> out(groups.size(), 0);
  const std::uint64_t weight = entitled_weight(groups);
  if (weight == 0)
    return out;
  std::vector<Claim> claims;
  std::uint32_t left = slots;
  for (std::size_t i = 0; i < groups.size(); i++) {
    if (groups[i].backends == 0 || groups[i].weight == 0)
      continue;
    const std::uint64_t exact = groups[i].weight * slots;
    out[i] = static_cast<std::uint32_t>(exact / weight);
    left -= out[i];
    claims.push_back({i, exact % weight});
  }
  std::stable_sort(claims.begin(), claims.end(),
                   [](const Claim& a, const Claim& b) { return a.remainder > b.remainder; });
  SHOAL_ASSERT(left <= claims.size());
  for (std::uint32_t i = 0; i < left; i++)
    out[claims[i].group]++;
  return out;
}

void RingBuilder::add_walker(std::uint64_t name, std::uint32_t pairs, std::uint32_t rounds,
                             std::uint32_t value, std::uint32_t other) {
  const std::uint64_t h = mix64(name);
  walkers_.push_back({static_cast<std::uint32_t>(h) & mask_,
                      (static_cast<std::uint32_t>(h >> 32) | 1) & mask_, pairs / rounds,
                      pairs % rounds, rounds - 1, value, other});
}

// One walker for each member's pairs of slots, and one for each pair that two members share.
void RingBuilder::make_walkers(std::span<const RingMember> members, std::uint32_t slots) {
  sorted_.clear();
  std::uint64_t sum = 0;
  std::uint32_t largest = 2;
  for (const RingMember& member : members) {
    if (member.quota == 0)
      continue;
    sorted_.push_back(member);
    sum += member.quota;
    largest = std::max(largest, member.quota);
  }
  SHOAL_ASSERT(sum == slots);
  std::stable_sort(sorted_.begin(), sorted_.end(),
                   [](const RingMember& a, const RingMember& b) { return a.name < b.name; });
  const std::uint32_t rounds = std::min(largest / 2, kRoundsMax);
  walkers_.clear();
  const RingMember* odd = nullptr;
  for (const RingMember& member : sorted_) {
    if (member.quota >= 2)
      add_walker(member.name, member.quota / 2, rounds, member.value, member.value);
    if (member.quota % 2 == 0)
      continue;
    if (odd == nullptr) {
      odd = &member;
      continue;
    }
    add_walker(odd->name + mix64(member.name), 1, rounds, odd->value, member.value);
    odd = nullptr;
  }
}

void RingBuilder::reverse_table(std::uint32_t slots) {
  if (reversed_.size() == slots)
    return;
  reversed_.resize(slots);
  reversed_[0] = 0;
  for (std::uint32_t i = 1; i < slots; i++)
    reversed_[i] = reversed_[i >> 1] >> 1 | ((i & 1) != 0 ? slots >> 1 : 0);
}

void RingBuilder::build(std::span<const RingMember> members, std::span<std::uint32_t> ring) {
  const auto slots = static_cast<std::uint32_t>(ring.size());
  SHOAL_ASSERT(slots >= kRingSlotsMin && std::has_single_bit(slots));
  const std::uint32_t pairs = slots / 2;
  mask_ = pairs - 1;
  make_walkers(members, slots);
  reverse_table(pairs);
  free_.assign(pairs, 1);

  std::uint8_t* const free = free_.data();
  const std::uint32_t* const reversed = reversed_.data();
  std::uint32_t* const out = ring.data();
  const std::uint32_t mask = mask_;
  const auto count = static_cast<std::uint32_t>(walkers_.size());
  const std::uint32_t rounds = walkers_.front().carry + 1;
  for (std::uint32_t round = 0; round < rounds; round++) {
    for (std::uint32_t i = 0; i < count; i++) {
      Walker& walker = walkers_[i];
      std::uint32_t picks = walker.per_round;
      walker.carry += walker.rest;
      if (walker.carry >= rounds) {
        walker.carry -= rounds;
        picks++;
      }
      for (; picks > 0; picks--) {
        const Place place = next_place(free, mask, walker.position, walker.skip);
        walker.position = place.next;
        free[place.slot] = 0;
        // Index bits are reversed on the way out: the low bits of a place choose its part of the
        // hash space, so the places of a ring twice as large are halves of this one's, visited in
        // the same order.
        std::uint32_t* const pair = out + std::size_t{2} * reversed[place.slot];
        pair[0] = walker.value;
        pair[1] = walker.other;
      }
    }
  }
}

}  // namespace shoal::plan
