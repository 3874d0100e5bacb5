// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/bpf/abi_versions.h"

#include "bpf/abi/shoal_abi.h"

#include <algorithm>

namespace shoal::kernel {
namespace {

constexpr std::uint32_t kUnderstood[] = {3, SHOAL_ABI_VERSION};

struct OtherName {
  std::uint32_t version;
  std::string_view map;
  std::string_view theirs;
  std::string_view ours;
};
constexpr OtherName kOtherNames[] = {
    // A slot was a backend's id and no more: one that has not moved, of a ring without a history.
    {3, "shoal_ring_blocks", "backend", "slot"},
};

struct Lacks {
  std::uint32_t version;
  std::string_view map;
  MissingBits missing;
};
constexpr Lacks kLacks[] = {
    // Every TCP connection had an entry, and rings have no memory of changes before.
    {3, "shoal_frontends", {"flags", SHOAL_FE_ENTRIES}},
};

}  // namespace

std::optional<MissingBits> missing_bits(std::uint32_t version, std::string_view map) {
  for (const Lacks& lacks : kLacks)
    if (lacks.version == version && lacks.map == map)
      return lacks.missing;
  return std::nullopt;
}

bool understands_version(std::uint32_t version) {
  return std::ranges::find(kUnderstood, version) != std::end(kUnderstood);
}

void use_todays_names(std::uint32_t version, std::string_view map, Layout& value) {
  for (const OtherName& name : kOtherNames)
    if (name.version == version && name.map == map)
      for (Member& member : value.members)
        if (member.name == name.theirs)
          member.name = name.ours;
}

}  // namespace shoal::kernel
