// SPDX-License-Identifier: Apache-2.0
#include "agent/images/disk_use.h"

#include <algorithm>
#include <fmt/format.h>
#include <sys/statvfs.h>

namespace shoal::images {
namespace {

unsigned percent_used(std::uint64_t all, std::uint64_t free) {
  if (all == 0)
    return 0;
  const std::uint64_t used = all - std::min(all, free);
  return static_cast<unsigned>((static_cast<unsigned __int128>(used) * 100 + all - 1) / all);
}

}  // namespace

unsigned DiskUse::used_percent() const {
  return std::max(percent_used(capacity_bytes, available_bytes), percent_used(inodes, inodes_free));
}

std::uint64_t DiskUse::bytes_above(unsigned percent) const {
  const std::uint64_t used = capacity_bytes - std::min(capacity_bytes, available_bytes);
  const std::uint64_t fine = capacity_bytes / 100 * percent;
  return used > fine ? used - fine : 0;
}

Result<DiskUse> disk_use(const std::filesystem::path& path) {
  struct statvfs fs{};
  if (::statvfs(path.c_str(), &fs) != 0)
    return fail_errno(fmt::format("look at the file system of {}", path.string()));
  return DiskUse{fs.f_blocks * fs.f_frsize, fs.f_bavail * fs.f_frsize, fs.f_files, fs.f_favail};
}

}  // namespace shoal::images
