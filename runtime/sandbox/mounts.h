// SPDX-License-Identifier: Apache-2.0
// What of the mount table has to be undone before folders are removed.
#pragma once

#include "netplane/base/result.h"

#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace shoal::runtime {

// Mount points at or below `path`, in the order in which they can be unmounted.
Result<std::vector<std::string>> mounts_below(const std::filesystem::path& path);
// Detaches what is mounted at or below any of `paths`, but for what is at or below `but`: a busy
// one goes once its last user does. The table is read once, and not at all where there are no such
// paths: it is long on a host of many pods.
Result<> unmount_below(std::span<const std::filesystem::path> paths,
                       const std::filesystem::path& but = {});
Result<> unmount_below(const std::filesystem::path& path, const std::filesystem::path& but = {});

// What is mounted or unmounted below from now on is so there alone: of mounts that are the host's
// own in another place, to unmount one would unmount it there. Slaves are none of those.
Result<> leave_peers_below(const std::filesystem::path& path);

}  // namespace shoal::runtime
