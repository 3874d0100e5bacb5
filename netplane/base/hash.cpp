// SPDX-License-Identifier: Apache-2.0
#include "netplane/base/hash.h"

#include <algorithm>
#include <utility>

namespace shoal {

std::uint64_t mix64(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31);
}

std::uint64_t hash64(std::string_view bytes, std::uint64_t seed) {
  std::uint64_t h = 0xcbf29ce484222325U ^ mix64(seed);
  for (const char c : bytes) {
    h ^= static_cast<unsigned char>(c);
    h *= 0x100000001b3U;
  }
  return mix64(h);
}

std::vector<std::string> rendezvous_rank(std::string_view key,
                                         std::span<const std::string> candidates) {
  const std::uint64_t key_hash = hash64(key);
  std::vector<std::pair<std::uint64_t, const std::string*>> scored;
  scored.reserve(candidates.size());
  for (const std::string& candidate : candidates)
    scored.emplace_back(hash64(candidate, key_hash), &candidate);
  std::sort(scored.begin(), scored.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : *a.second < *b.second;
  });
  std::vector<std::string> ranked;
  ranked.reserve(scored.size());
  for (const auto& [score, name] : scored)
    ranked.push_back(*name);
  return ranked;
}

std::string rendezvous_owner(std::string_view key, std::span<const std::string> candidates) {
  const std::uint64_t key_hash = hash64(key);
  const std::string* best = nullptr;
  std::uint64_t best_score = 0;
  for (const std::string& candidate : candidates) {
    const std::uint64_t score = hash64(candidate, key_hash);
    if (!best || score > best_score || (score == best_score && candidate < *best)) {
      best = &candidate;
      best_score = score;
    }
  }
  return best ? *best : std::string();
}

}  // namespace shoal
