// SPDX-License-Identifier: Apache-2.0
#include "runtime/spec/host_devices.h"

#include "netplane/base/fs.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <charconv>
#include <sys/stat.h>
#include <sys/sysmacros.h>

namespace shoal::runtime {
namespace fs = std::filesystem;

namespace {

// What the OCI runtime makes for each container itself.
bool is_own(const fs::path& name) {
  for (const std::string_view own :
       {"pts", "shm", "mqueue", "fd", "console", "ptmx", "stdin", "stdout", "stderr", "null",
        "zero", "full", "random", "urandom", "tty"})
    if (name == own)
      return true;
  return false;
}

}  // namespace

std::vector<DeviceNode> host_devices(const fs::path& dev) {
  std::vector<DeviceNode> nodes;
  std::error_code error;
  fs::recursive_directory_iterator at(dev, fs::directory_options::skip_permission_denied, error);
  for (const fs::recursive_directory_iterator end;
       !error && at != end && nodes.size() < kHostDevicesMax; at.increment(error)) {
    if (at.depth() == 0 && is_own(at->path().filename())) {
      at.disable_recursion_pending();
      continue;
    }
    struct stat info{};
    if (::lstat(at->path().c_str(), &info) != 0 ||
        !(S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode)))
      continue;
    nodes.push_back({"/dev/" + at->path().lexically_relative(dev).string(),
                     S_ISCHR(info.st_mode) ? 'c' : 'b', major(info.st_rdev), minor(info.st_rdev),
                     info.st_mode & 07777, info.st_uid, info.st_gid});
  }
  std::ranges::sort(nodes, {}, &DeviceNode::path);
  return nodes;
}

Result<std::uint64_t> parse_capability_bound(std::string_view status) {
  constexpr std::string_view kKey = "CapBnd:\t";
  for (const std::string_view line : split(status, '\n')) {
    if (!line.starts_with(kKey))
      continue;
    const std::string_view digits = line.substr(kKey.size());
    std::uint64_t mask = 0;
    const auto [end, code] =
        std::from_chars(digits.data(), digits.data() + digits.size(), mask, 16);
    if (code == std::errc() && end == digits.data() + digits.size())
      return mask;
  }
  return fail(Errc::kCorrupt, "/proc/self/status names no bounding set of capabilities");
}

Result<std::uint64_t> capability_bound() {
  return parse_capability_bound(SHOAL_TRY(read_file("/proc/self/status", 64 * 1024)));
}

}  // namespace shoal::runtime
