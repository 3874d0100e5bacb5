// SPDX-License-Identifier: Apache-2.0
#include "runtime/volume/memory.h"

#include "netplane/base/fs.h"
#include "netplane/base/unique_fd.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <string>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

namespace shoal::runtime {
namespace {

Result<bool> is_mounted(const std::filesystem::path& dir) {
  struct statx is{};
  if (::statx(AT_FDCWD, dir.c_str(), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_TYPE, &is) != 0)
    return fail_errno(fmt::format("look at {}", dir.string()));
  return (is.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

Result<UniqueFd> make_tmpfs(const MemoryOptions& options, bool noswap) {
  UniqueFd context(::fsopen("tmpfs", FSOPEN_CLOEXEC));
  if (!context)
    return fail_errno("open a tmpfs");
  const auto set = [&](const char* key, const std::string& value) {
    return ::fsconfig(context.get(), FSCONFIG_SET_STRING, key, value.c_str(), 0) == 0;
  };
  if (!set("source", "shoal") || !set("mode", "0777") ||
      (options.bytes_max && !set("size", std::to_string(*options.bytes_max))))
    return fail_errno("configure a tmpfs");
  if (noswap && ::fsconfig(context.get(), FSCONFIG_SET_FLAG, "noswap", nullptr, 0) != 0)
    return make_tmpfs(options, false);
  if (::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0)
    return fail_errno("create a tmpfs");
  UniqueFd mount(::fsmount(context.get(), FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV));
  if (!mount)
    return fail_errno("fsmount a tmpfs");
  return mount;
}

}  // namespace

Result<bool> mount_memory(const std::filesystem::path& dir, const MemoryOptions& options) {
  SHOAL_TRY(make_dirs(dir, 0755));
  if (SHOAL_TRY(is_mounted(dir)))
    return false;
  const UniqueFd mount = SHOAL_TRY(make_tmpfs(options, options.never_swapped));
  if (::move_mount(mount.get(), "", AT_FDCWD, dir.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0)
    return fail_errno(fmt::format("mount a tmpfs at {}", dir.string()));
  return true;
}

}  // namespace shoal::runtime
