// SPDX-License-Identifier: Apache-2.0
#include "runtime/sandbox/mounts.h"

#include "netplane/base/fs.h"
#include "runtime/rootfs/mountinfo.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <ranges>
#include <sys/mount.h>
#include <unistd.h>

namespace shoal::runtime {

namespace fs = std::filesystem;

namespace {

bool is_below(std::string_view point, std::string_view folder) {
  return point == folder || (point.starts_with(folder) && point[folder.size()] == '/');
}

bool is_there(const fs::path& path) {
  return ::faccessat(AT_FDCWD, path.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

// Later mounts lie on top of or below earlier ones.
Result<std::vector<MountEntry>> read_table() {
  return parse_mountinfo(SHOAL_TRY(read_file("/proc/self/mountinfo", kMountinfoBytesMax)));
}

}  // namespace

Result<std::vector<std::string>> mounts_below(const fs::path& path) {
  const std::string folder = path.lexically_normal().string();
  std::vector<std::string> points;
  for (MountEntry& entry : SHOAL_TRY(read_table()))
    if (is_below(entry.mount_point, folder))
      points.push_back(std::move(entry.mount_point));
  std::reverse(points.begin(), points.end());
  return points;
}

Result<> unmount_below(std::span<const fs::path> paths, const fs::path& but) {
  std::vector<std::string> folders;
  for (const fs::path& path : paths)
    if (is_there(path))
      folders.push_back(path.lexically_normal().string());
  if (folders.empty())
    return {};
  Result<> first;
  const std::string kept = but.lexically_normal().string();
  const std::vector<MountEntry> table = SHOAL_TRY(read_table());
  for (const MountEntry& mount : table | std::views::reverse) {
    const std::string& point = mount.mount_point;
    const auto below = [&](const std::string& folder) { return is_below(point, folder); };
    if (std::ranges::any_of(folders, below) && (kept.empty() || !is_below(point, kept)) &&
        ::umount2(point.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0 && errno != EINVAL &&
        errno != ENOENT && first)
      first = fail_errno(fmt::format("unmount {}", point));
  }
  return first;
}

Result<> unmount_below(const fs::path& path, const fs::path& but) {
  return unmount_below(std::span(&path, 1), but);
}

Result<> leave_peers_below(const fs::path& path) {
  if (!is_there(path))
    return {};
  const std::vector<MountEntry> table = SHOAL_TRY(read_table());
  const std::string folder = path.lexically_normal().string();
  mount_attr alone{};
  alone.propagation = MS_PRIVATE;
  for (const MountEntry& entry : table)
    if (entry.shared && !entry.slave && is_below(entry.mount_point, folder) &&
        ::mount_setattr(AT_FDCWD, entry.mount_point.c_str(), AT_SYMLINK_NOFOLLOW, &alone,
                        sizeof(alone)) != 0 &&
        errno != EINVAL && errno != ENOENT)
      return fail_errno(fmt::format("part {} from its peers", entry.mount_point));
  return {};
}

}  // namespace shoal::runtime
