// SPDX-License-Identifier: Apache-2.0
// What of the mount table has to be undone before folders are removed.
#pragma once

#include "netplane/base/result.h"

#include <filesystem>
#include <string>
#include <vector>

namespace shoal::runtime {

// Mount points at or below `path`, in the order in which they can be unmounted.
Result<std::vector<std::string>> mounts_below(const std::filesystem::path& path);
// Detaches them all, but for those at or below `but`: a busy one goes once its last user does.
Result<> unmount_below(const std::filesystem::path& path, const std::filesystem::path& but = {});

// What is mounted or unmounted below from now on is so there alone: of mounts that are the host's
// own in another place, to unmount one would unmount it there. Slaves are none of those.
Result<> leave_peers_below(const std::filesystem::path& path);
// The folder with all that is in it; kUnavailable, and nothing is removed, while anything is
// mounted at or below it: that would delete what belongs to somebody else.
Result<> remove_unmounted(const std::filesystem::path& path);

}  // namespace shoal::runtime
