// SPDX-License-Identifier: Apache-2.0
// One part of a volume: found below the volume's folder without ever leaving it, whatever links its
// users put there, and bound from the descriptor that was found, so that nobody can exchange it in
// between. Blocking.
#pragma once

#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"

#include <filesystem>
#include <string>

namespace shoal::runtime {

// An O_PATH descriptor. Folders that are missing are made, with the mode of the volume's own.
// kPermission: it would lead out of the volume.
Result<UniqueFd> open_sub_path(const std::filesystem::path& volume, const std::string& sub_path);

// Mounts what was found at `target`, which is made: a folder or a file. shared: mounts made below
// it later are seen on the host, and the other way round; otherwise the host's only, and no unmount
// here reaches the host.
Result<> bind_found(const UniqueFd& found, const std::filesystem::path& target, bool shared);

}  // namespace shoal::runtime
