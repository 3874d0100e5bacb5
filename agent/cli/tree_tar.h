// SPDX-License-Identifier: Apache-2.0
// A tree of files as a tar archive, both ways, for `shoal cp`.
//
// What is unpacked comes from a container, which may be anybody's: nothing of it is written but
// beneath the folder that is given, whatever its names and links say. A name with ".." ends the
// copy; no symbolic link is followed, not even one that was there before; those that lead out, or
// go up after a name, and what is neither file, folder nor link, are left out with a word about it;
// it is an error where that is all that was asked for. Set-user-ID bits go. Both block: the caller
// has threads.
#pragma once

#include "netplane/base/result.h"

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace shoal::cli {

using Warn = std::function<void(std::string_view)>;

// Writes the file or folder to fd, under the name `as` in the archive; links as links.
Result<> pack_tree(int fd, const std::filesystem::path& source, const std::string& as,
                   const Warn& warn);

// Reads an archive from fd whose entries are `base` or below it, and makes them `name` or below
// that, in the folder, which exists. An empty name: the folder itself. kNotFound
// without an errno: it held nothing. Reads to the end.
Result<> unpack_tree(int fd, const std::string& base, const std::filesystem::path& folder,
                     const std::string& name, const Warn& warn);

}  // namespace shoal::cli
