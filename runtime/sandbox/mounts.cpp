// SPDX-License-Identifier: Apache-2.0
#include "runtime/sandbox/mounts.h"

#include "netplane/base/fs.h"
#include "runtime/rootfs/mountinfo.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>

namespace shoal::runtime {
namespace {

bool is_below(std::string_view point, std::string_view folder) {
  return point == folder || (point.starts_with(folder) && point[folder.size()] == '/');
}

}  // namespace

Result<std::vector<std::string>> mounts_below(const std::filesystem::path& path) {
  const std::string text = SHOAL_TRY(read_file("/proc/self/mountinfo", kMountinfoBytesMax));
  const std::string folder = path.lexically_normal().string();
  std::vector<std::string> points;
  for (MountEntry& entry : parse_mountinfo(text))
    if (is_below(entry.mount_point, folder))
      points.push_back(std::move(entry.mount_point));
  // Later mounts lie on top of or below earlier ones.
  std::reverse(points.begin(), points.end());
  return points;
}

Result<> unmount_below(const std::filesystem::path& path, const std::filesystem::path& but) {
  Result<> first;
  const std::string kept = but.lexically_normal().string();
  for (const std::string& point : SHOAL_TRY(mounts_below(path)))
    if ((kept.empty() || !is_below(point, kept)) &&
        ::umount2(point.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0 && errno != EINVAL &&
        errno != ENOENT && first)
      first = fail_errno(fmt::format("unmount {}", point));
  return first;
}

Result<> leave_peers_below(const std::filesystem::path& path) {
  const std::string text = SHOAL_TRY(read_file("/proc/self/mountinfo", kMountinfoBytesMax));
  const std::string folder = path.lexically_normal().string();
  mount_attr alone{};
  alone.propagation = MS_PRIVATE;
  for (const MountEntry& entry : parse_mountinfo(text))
    if (entry.shared && !entry.slave && is_below(entry.mount_point, folder) &&
        ::mount_setattr(AT_FDCWD, entry.mount_point.c_str(), AT_SYMLINK_NOFOLLOW, &alone,
                        sizeof(alone)) != 0 &&
        errno != EINVAL && errno != ENOENT)
      return fail_errno(fmt::format("part {} from its peers", entry.mount_point));
  return {};
}

Result<> remove_unmounted(const std::filesystem::path& path) {
  if (const auto left = SHOAL_TRY(mounts_below(path)); !left.empty())
    return fail(Errc::kUnavailable, fmt::format("{} is still mounted", left.front()));
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error)
    return fail_errno(error.value(), fmt::format("remove {}", path.string()));
  return {};
}

}  // namespace shoal::runtime
