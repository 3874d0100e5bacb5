// SPDX-License-Identifier: Apache-2.0
// How full a file system is.
#pragma once

#include "netplane/base/result.h"

#include <cstdint>
#include <filesystem>

namespace shoal::images {

struct DiskUse {
  std::uint64_t capacity_bytes = 0;
  std::uint64_t available_bytes = 0;  // to everybody, without what is kept for root
  std::uint64_t inodes = 0;           // 0: the file system counts none
  std::uint64_t inodes_free = 0;

  // Of bytes or of inodes, whichever is used more; from 0 to 100, rounded up.
  unsigned used_percent() const;
  // That must come free for no more than this to be used.
  std::uint64_t bytes_above(unsigned percent) const;
};

Result<DiskUse> disk_use(const std::filesystem::path& path);

}  // namespace shoal::images
