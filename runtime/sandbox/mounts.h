// SPDX-License-Identifier: Apache-2.0
// The mount table of the calling thread's namespace, as far as a sandbox needs it (proc(5),
// /proc/self/mountinfo).
#pragma once

#include "netplane/base/result.h"

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::runtime {

inline constexpr std::size_t kMountinfoBytesMax = 16 << 20;

struct MountEntry {
  std::string point;  // with the kernel's octal escapes undone
  std::string type;
  std::string super_options;
};
// Pure; in the table's order. Lines that cannot be read are left out.
std::vector<MountEntry> mounts_in(std::string_view text);

// Mount points at or below `path`, in the order in which they can be unmounted.
Result<std::vector<std::string>> mounts_below(const std::filesystem::path& path);
// Detaches them all: a busy one goes once its last user does.
Result<> unmount_below(const std::filesystem::path& path);

}  // namespace shoal::runtime
