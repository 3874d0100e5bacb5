// SPDX-License-Identifier: Apache-2.0
// Hashes that are the same on every host and in every version: placement depends on them.
// hash64 is FNV-1a 64 finished with a splitmix64 mix; it is not keyed, so never for tables that
// untrusted input fills.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoal {

std::uint64_t mix64(std::uint64_t value);
std::uint64_t hash64(std::string_view bytes, std::uint64_t seed = 0);

// Rendezvous (highest random weight, Thaler and Ravishankar 1998): candidates ordered for a key,
// the owner first. Every host computes the same order from the same candidates, in whatever order
// given.
std::vector<std::string> rendezvous_rank(std::string_view key,
                                         std::span<const std::string> candidates);
// The owner alone; empty when there are no candidates.
std::string rendezvous_owner(std::string_view key, std::span<const std::string> candidates);

}  // namespace shoal
