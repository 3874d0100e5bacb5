// SPDX-License-Identifier: Apache-2.0
// Files: whole reads with a bound, writes that survive a crash, locks that name their holder.
#pragma once

#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <sys/types.h>

namespace shoal {

// All of a file; kExhausted when it is larger than max_bytes.
Result<std::string> read_file(const std::filesystem::path& path, std::size_t max_bytes);

// Temporary name in the same folder, fsync, rename, fsync of the folder: after a crash the old or
// the new content is there, never a part.
Result<> write_file_atomic(const std::filesystem::path& path, std::string_view content,
                           mode_t mode = 0600);

Result<> make_dirs(const std::filesystem::path& path, mode_t mode = 0755);  // existing is fine
Result<> write_all(int fd, std::string_view bytes);  // EINTR and short writes handled

// An flock on path, held as long as the fd lives; kConflict names the pid that holds it.
Result<UniqueFd> lock_file(const std::filesystem::path& path);

}  // namespace shoal
