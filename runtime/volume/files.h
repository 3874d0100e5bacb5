// SPDX-License-Identifier: Apache-2.0
// Folders whose files change all at once: what is read of them is the old state or the new one,
// never a mixture. The layout is the kubelet's, so that programs which watch for its change work:
//
//   ..2026_01_31_12_00_00.123456789/   the files
//   ..data -> ..2026_01_31_12_00_00.123456789
//   KEY -> ..data/KEY                  one for each first part of a path
//
// Blocking; any thread, one caller a folder at a time.
#pragma once

#include "netplane/base/result.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <sys/types.h>

namespace shoal::runtime {

struct VolumeFile {
  std::string content;
  std::uint32_t mode = 0644;
  bool operator==(const VolumeFile&) const = default;
};
// By relative path, without ".." and not beginning with "..".
using VolumeFiles = std::map<std::string, VolumeFile>;

// Makes the folder, which exists, show these files and no others; `group` gets to read them. False:
// it does so already. A call that was cut short by a crash leaves the old state, and the next one
// clears away after it.
Result<bool> write_volume_files(const std::filesystem::path& dir, const VolumeFiles& files,
                                std::optional<gid_t> group);

}  // namespace shoal::runtime
