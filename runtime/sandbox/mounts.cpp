// SPDX-License-Identifier: Apache-2.0
#include "runtime/sandbox/mounts.h"

#include "netplane/base/fs.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <cerrno>
#include <fmt/format.h>
#include <sys/mount.h>

namespace shoal::runtime {
namespace {

// Blank, tab, newline and backslash are written as \ and three octal digits.
std::string unescape(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto octal = [&](std::size_t at) {
      return at < text.size() && text[at] >= '0' && text[at] <= '7' ? text[at] - '0' : -1;
    };
    if (text[i] == '\\' && octal(i + 1) >= 0 && octal(i + 2) >= 0 && octal(i + 3) >= 0) {
      out.push_back(static_cast<char>(octal(i + 1) * 64 + octal(i + 2) * 8 + octal(i + 3)));
      i += 3;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

}  // namespace

std::vector<MountEntry> mounts_in(std::string_view text) {
  std::vector<MountEntry> entries;
  for (const std::string_view line : split(text, '\n')) {
    // 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    const std::size_t dash = line.find(" - ");
    if (dash == std::string_view::npos)
      continue;
    const auto left = split(line.substr(0, dash), ' ');
    const auto right = split(line.substr(dash + 3), ' ');
    if (left.size() < 6 || right.size() < 3)
      continue;
    entries.push_back({unescape(left[4]), std::string(right[0]), std::string(right[2])});
  }
  return entries;
}

Result<std::vector<std::string>> mounts_below(const std::filesystem::path& path) {
  const std::string text = SHOAL_TRY(read_file("/proc/self/mountinfo", kMountinfoBytesMax));
  const std::string folder = path.lexically_normal().string();
  std::vector<std::string> points;
  for (MountEntry& entry : mounts_in(text))
    if (entry.point == folder ||
        (entry.point.starts_with(folder) && entry.point[folder.size()] == '/'))
      points.push_back(std::move(entry.point));
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
