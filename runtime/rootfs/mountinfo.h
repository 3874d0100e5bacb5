// SPDX-License-Identifier: Apache-2.0
// /proc/PID/mountinfo as proc(5) describes it: which overlay mounts there are. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace shoal::runtime {

struct MountEntry {
  std::string mount_point;  // unescaped
  std::string type;         // "overlay"
};

// Lines that do not parse are left out.
std::vector<MountEntry> parse_mountinfo(std::string_view text);

}  // namespace shoal::runtime
