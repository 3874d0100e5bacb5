// SPDX-License-Identifier: Apache-2.0
// File trees whose content is untrusted: every step goes through a directory fd, no symlink is ever
// followed out of the tree, and nothing is addressed by an absolute path.
#pragma once

#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::runtime {

inline constexpr std::size_t kTreeDepthMax = 256;
inline constexpr std::size_t kEntryNameBytesMax = 3800;  // below PATH_MAX, with room for a prefix

// An entry's name as components: no leading '/', no "." or empty parts. Refuses ".." and names too
// long or too deep. No component at all means the root.
Result<std::vector<std::string>> entry_components(std::string_view name);

Result<UniqueFd> open_folder(int dir_fd, const char* path);  // O_DIRECTORY, a symlink is refused

// Deletes dir_fd/name and everything below; gone already is fine. Returns the bytes of disk it
// held.
Result<std::uint64_t> remove_tree(int dir_fd, const std::string& name);

}  // namespace shoal::runtime
