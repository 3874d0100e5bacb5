// SPDX-License-Identifier: Apache-2.0
// /proc/PID/mountinfo as proc(5) describes it. Pure.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::runtime {

inline constexpr std::size_t kMountinfoBytesMax = 64 << 20;

struct MountEntry {
  std::string mount_point;    // unescaped
  std::string type;           // "overlay"
  std::string super_options;  // "rw,memory"
  bool shared = false;        // has peers, or may have
  bool slave = false;
};

// In the table's order. Lines that do not parse are left out.
std::vector<MountEntry> parse_mountinfo(std::string_view text);

}  // namespace shoal::runtime
