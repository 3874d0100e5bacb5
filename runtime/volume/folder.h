// SPDX-License-Identifier: Apache-2.0
// A volume's folder: what it takes of the disk, and whose it is. Programs may change what is below
// while it is looked at, so that nothing here follows a link. Blocking.
#pragma once

#include "netplane/base/result.h"

#include <cstdint>
#include <filesystem>
#include <sys/types.h>

namespace shoal::runtime {

// For anybody to write into, whatever the umask is. False: it was there.
Result<bool> make_open_folder(const std::filesystem::path& dir);

// As du counts: blocks, each file once. It need not be exact above `enough`: then it is what was
// found until there.
Result<std::int64_t> disk_usage(const std::filesystem::path& dir, std::int64_t enough = INT64_MAX);

enum class OwnershipPolicy : unsigned char { kAlways, kOnRootMismatch };
// All of it is given to a group that may read and write it, and so is what is made in it later: the
// kubelet's fsGroup.
Result<> give_to_group(const std::filesystem::path& dir, gid_t group, OwnershipPolicy policy);

}  // namespace shoal::runtime
