// SPDX-License-Identifier: Apache-2.0
// Folders in memory: a tmpfs in the mount namespace of the caller, where it stays when the caller
// dies. What is written counts against the memory of the container that writes it. Blocking.
#pragma once

#include "netplane/base/result.h"

#include <cstdint>
#include <filesystem>
#include <optional>

namespace shoal::runtime {

struct MemoryOptions {
  std::optional<std::int64_t>
      bytes_max;               // nothing: half of the host's memory, as the kernel has it
  bool never_swapped = false;  // where the kernel can (6.3)
};

// The folder is made when missing; one that is mounted already stays as it is, and the answer is
// false.
Result<bool> mount_memory(const std::filesystem::path& dir, const MemoryOptions& options);

}  // namespace shoal::runtime
