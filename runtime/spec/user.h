// SPDX-License-Identifier: Apache-2.0
// Users of an image: "uid", "uid:gid", "name", "name:group", resolved against the image's own
// /etc/passwd and /etc/group. These files are the image author's: they are read with every symlink
// kept inside the root file system, and bounded in size.
#pragma once

#include "netplane/base/result.h"
#include "runtime/spec/container_config.h"

#include <filesystem>
#include <string>
#include <string_view>

namespace shoal::runtime {

// Pure. passwd and group may be empty when the image has none. kNotFound names the user or group
// that is missing. A number without an entry is fine (gid 0 then, as Docker and Kubernetes have
// it); an empty user is root.
Result<ProcessUser> resolve_user(std::string_view user, std::string_view passwd,
                                 std::string_view group);
// The home folder of uid: passwd's, otherwise "/".
std::string home_of(std::uint32_t uid, std::string_view passwd);
// A file inside a root file system, as a process chrooted there would see it. Missing: empty text.
Result<std::string> read_rootfs_file(const std::filesystem::path& rootfs, const std::string& path);

}  // namespace shoal::runtime
