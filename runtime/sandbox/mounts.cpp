// SPDX-License-Identifier: Apache-2.0
#include "runtime/sandbox/mounts.h"

#include "netplane/base/fs.h"
#include "runtime/rootfs/mountinfo.h"

#include <algorithm>
#include <cerrno>
#include <fmt/format.h>
#include <sys/mount.h>

namespace shoal::runtime {

Result<std::vector<std::string>> mounts_below(const std::filesystem::path& path) {
  const std::string text = SHOAL_TRY(read_file("/proc/self/mountinfo", kMountinfoBytesMax));
  const std::string folder = path.lexically_normal().string();
  std::vector<std::string> points;
  for (MountEntry& entry : parse_mountinfo(text))
    if (entry.mount_point == folder ||
        (entry.mount_point.starts_with(folder) && entry.mount_point[folder.size()] == '/'))
      points.push_back(std::move(entry.mount_point));
  // Later mounts lie on top of or below earlier ones.
  std::reverse(points.begin(), points.end());
  return points;
}

Result<> unmount_below(const std::filesystem::path& path) {
  Result<> first;
  for (const std::string& point : SHOAL_TRY(mounts_below(path)))
    if (::umount2(point.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0 && errno != EINVAL &&
        errno != ENOENT && first)
      first = fail_errno(fmt::format("unmount {}", point));
  return first;
}

}  // namespace shoal::runtime
