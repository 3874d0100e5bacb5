// SPDX-License-Identifier: Apache-2.0
// What of the mount table a sandbox has to undo.
#pragma once

#include "netplane/base/result.h"

#include <filesystem>
#include <string>
#include <vector>

namespace shoal::runtime {

// Mount points at or below `path`, in the order in which they can be unmounted.
Result<std::vector<std::string>> mounts_below(const std::filesystem::path& path);
// Detaches them all: a busy one goes once its last user does.
Result<> unmount_below(const std::filesystem::path& path);

}  // namespace shoal::runtime
