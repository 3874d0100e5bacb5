// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/bpf/flow_hash.h"

#include <arpa/inet.h>
#include <array>
#include <cstring>

namespace shoal::kernel {
namespace {

// Two 8-byte halves, each as the program reads it: two 32-bit words in memory order, the first one
// high.
std::array<std::uint64_t, 2> halves(const IpAddress& ip) {
  std::array<std::uint32_t, 4> words{};
  static_assert(sizeof(words) == sizeof(IpAddress::Bytes));
  std::memcpy(words.data(), ip.bytes().data(), sizeof(words));
  return {std::uint64_t{words[0]} << 32 | words[1], std::uint64_t{words[2]} << 32 | words[3]};
}

}  // namespace

std::uint32_t flow_hash(const FlowTuple& flow, std::uint64_t seed) {
  constexpr std::uint64_t kMultiplier = 0x9e3779b97f4a7c15ULL;
  std::uint64_t h = seed ^ kMultiplier;
  for (const IpAddress& ip : {flow.source.ip, flow.destination.ip})
    for (const std::uint64_t half : halves(ip)) {
      h = (h ^ half) * kMultiplier;
      h ^= h >> 32;
    }
  const std::uint64_t ports = std::uint64_t{htons(flow.source.port)} << 32 |
                              std::uint64_t{htons(flow.destination.port)} << 16 |
                              static_cast<std::uint64_t>(flow.proto);
  h = (h ^ ports) * kMultiplier;
  h ^= h >> 33;
  h *= 0xff51afd7ed558ccdULL;
  h ^= h >> 33;
  h *= 0xc4ceb9fe1a85ec53ULL;
  return static_cast<std::uint32_t>(h >> 32);
}

std::uint32_t ring_slot(std::uint32_t number, std::uint32_t slots) {
  return static_cast<std::uint32_t>((std::uint64_t{number} * slots) >> 32);
}

}  // namespace shoal::kernel
