// SPDX-License-Identifier: Apache-2.0
// What a member means in builds of another SHOAL_ABI_VERSION: the one list of it. Where nothing is
// said here, a name means the same in both.
#pragma once

#include "netplane/kernel/bpf/layout.h"

#include <cstdint>
#include <optional>
#include <string_view>

namespace shoal::kernel {

// Entries of that version's maps can be taken over.
bool understands_version(std::uint32_t version);
// What values of that version's map lack: bits of a member that are not there yet.
struct MissingBits {
  std::string_view member;  // of 32 bits
  std::uint32_t bits = 0;
};
std::optional<MissingBits> missing_bits(std::uint32_t version, std::string_view map);
// Gives the members of a map of that version the names that they have in this one.
void use_todays_names(std::uint32_t version, std::string_view map, Layout& value);

}  // namespace shoal::kernel
