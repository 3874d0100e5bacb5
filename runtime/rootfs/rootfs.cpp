// SPDX-License-Identifier: Apache-2.0
#include "runtime/rootfs/rootfs.h"

#include "netplane/base/fs.h"
#include "netplane/base/unique_fd.h"
#include "runtime/rootfs/mountinfo.h"
#include "runtime/rootfs/remove_tree.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <optional>
#include <set>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <system_error>
#include <unistd.h>

namespace shoal::runtime {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMountOptionsMax = 4095;  // mount(2) copies one page
constexpr int kStackedMountsMax = 8;            // mounts found on top of each other at one place

fs::path rootfs_of(const fs::path& dir) { return dir / "rootfs"; }

Result<std::vector<MountEntry>> overlay_mounts() {
  // Of the calling thread: it may be in a mount namespace of its own.
  const std::string text = SHOAL_TRY(read_file("/proc/thread-self/mountinfo", kMountinfoBytesMax));
  std::vector<MountEntry> mounts = parse_mountinfo(text);
  std::erase_if(mounts, [](const MountEntry& m) { return m.type != "overlay"; });
  return mounts;
}

bool is_overlay_mount(const fs::path& path) {
  struct statx is{};
  struct statfs fs{};
  return ::statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_TYPE, &is) ==
             0 &&
         (is.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0 && ::statfs(path.c_str(), &fs) == 0 &&
         fs.f_type == OVERLAYFS_SUPER_MAGIC;
}

// The kernel shows mount points without symlinks.
Result<fs::path> real_path(const fs::path& path) {
  std::error_code ec;
  fs::path real = fs::weakly_canonical(path, ec);
  if (ec)
    return fail_errno(ec.value(), fmt::format("resolve {}", path.string()));
  return real;
}

Result<> empty_folder(const fs::path& path, mode_t mode) {
  SHOAL_TRY(remove_tree(path));
  SHOAL_TRY(make_dirs(path, mode));
  // A umask must not decide what a container's user may enter.
  if (::chmod(path.c_str(), mode) != 0)
    return fail_errno(fmt::format("chmod {}", path.string()));
  return {};
}

// What the kernel logged into the mount context says more than errno does.
Error context_error(int fs_fd, std::string_view what) {
  const int saved = errno;
  char text[512];
  const ssize_t n = ::read(fs_fd, text, sizeof(text));
  Error error = Error::from_errno(saved, what);
  if (n <= 2)
    return error;
  return Error(error.code(),
               fmt::format("{} ({})", error.message(), std::string_view(text, n).substr(2)), saved);
}

struct Overlay {
  std::span<const fs::path> layers;
  fs::path upper;
  fs::path work;
  fs::path target;
};

Result<> set_string(int fs_fd, const char* key, const char* value) {
  if (::fsconfig(fs_fd, FSCONFIG_SET_STRING, key, value, 0) != 0)
    return fail(context_error(fs_fd, fmt::format("overlay option {}={}", key, value)));
  return {};
}

// Overlayfs of before 6.5 takes any option from fsconfig, and refuses what it does not know only
// when the file system is made, by the same EINVAL as anything else.
bool knows_its_options() {
  const UniqueFd context(::fsopen("overlay", FSOPEN_CLOEXEC));
  return context && ::fsconfig(context.get(), FSCONFIG_SET_FLAG, "no-such-option", nullptr, 0) != 0;
}

// False: this kernel does not have lowerdir+ (6.8) or the mount API, and nothing was mounted.
Result<bool> mount_by_api(const Overlay& overlay) {
  const UniqueFd context(::fsopen("overlay", FSOPEN_CLOEXEC));
  if (!context || !knows_its_options())
    return false;
  // From the top down.
  bool first = true;
  for (auto it = overlay.layers.rbegin(); it != overlay.layers.rend(); ++it) {
    if (::fsconfig(context.get(), FSCONFIG_SET_STRING, "lowerdir+", it->c_str(), 0) != 0) {
      if (first && errno == EINVAL)
        return false;
      return fail(context_error(context.get(), fmt::format("overlay layer {}", it->string())));
    }
    first = false;
  }
  SHOAL_TRY(set_string(context.get(), "upperdir", overlay.upper.c_str()));
  SHOAL_TRY(set_string(context.get(), "workdir", overlay.work.c_str()));
  if (::fsconfig(context.get(), FSCONFIG_SET_FLAG, "volatile", nullptr, 0) != 0)
    return fail(context_error(context.get(), "overlay option volatile"));
  if (::fsconfig(context.get(), FSCONFIG_SET_STRING, "source", "shoal", 0) != 0 ||
      ::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0)
    return fail(context_error(context.get(), "create overlay"));
  const UniqueFd mount(::fsmount(context.get(), FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV));
  if (!mount)
    return fail_errno("fsmount overlay");
  if (::move_mount(mount.get(), "", AT_FDCWD, overlay.target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0)
    return fail_errno(fmt::format("move_mount to {}", overlay.target.string()));
  return true;
}

// mount(2) takes one page of options. Layers are named by short fd paths, which also spares the
// escaping of ':' and ',' in them.
Result<> mount_classic(const Overlay& overlay) {
  std::vector<UniqueFd> fds;
  const auto name = [&](const fs::path& path) -> Result<std::string> {
    UniqueFd fd(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!fd)
      return fail_errno(fmt::format("open {}", path.string()));
    fds.push_back(std::move(fd));
    return fmt::format("/proc/self/fd/{}", fds.back().get());
  };
  std::vector<std::string> lower;
  for (auto it = overlay.layers.rbegin(); it != overlay.layers.rend(); ++it)
    lower.push_back(SHOAL_TRY(name(*it)));
  const std::string options =
      fmt::format("volatile,upperdir={},workdir={},lowerdir={}", SHOAL_TRY(name(overlay.upper)),
                  SHOAL_TRY(name(overlay.work)), fmt::join(lower, ":"));
  if (options.size() > kMountOptionsMax)
    return fail(Errc::kExhausted,
                fmt::format("{} layers do not fit one mount on this kernel", lower.size()));
  if (::mount("shoal", overlay.target.c_str(), "overlay", MS_NODEV, options.c_str()) != 0)
    return fail_errno("mount overlay");
  return {};
}

Result<> unmount_all(const fs::path& target) {
  for (int i = 0; i < kStackedMountsMax; ++i) {
    if (::umount2(target.c_str(), UMOUNT_NOFOLLOW) == 0)
      continue;
    if (errno == EINVAL || errno == ENOENT)
      return {};
    // Somebody is still inside: it goes from the tree now and from memory when they leave.
    if (errno == EBUSY && ::umount2(target.c_str(), UMOUNT_NOFOLLOW | MNT_DETACH) == 0)
      continue;
    return fail_errno(fmt::format("unmount {}", target.string()));
  }
  return fail(Errc::kInternal, fmt::format("{} is mounted again and again", target.string()));
}

}  // namespace

Result<fs::path> mount_rootfs(const fs::path& dir, std::span<const fs::path> layers,
                              const RootfsOptions& options) {
  if (layers.empty() || layers.size() > kLayersMax)
    return fail(Errc::kInvalid, fmt::format("rootfs {}: {} layers, must be 1 to {}", dir.string(),
                                            layers.size(), kLayersMax));
  const auto run = [&]() -> Result<fs::path> {
    SHOAL_TRY(make_dirs(dir, 0711));
    const fs::path real = SHOAL_TRY(real_path(dir));
    const Overlay overlay{layers, real / "upper", real / "work", rootfs_of(real)};
    if (is_overlay_mount(overlay.target))
      return overlay.target;
    SHOAL_TRY(empty_folder(overlay.upper, 0755));
    SHOAL_TRY(empty_folder(overlay.work, 0700));
    SHOAL_TRY(make_dirs(overlay.target, 0755));
    if (!options.mount_api || !SHOAL_TRY(mount_by_api(overlay)))
      SHOAL_TRY(mount_classic(overlay));
    return overlay.target;
  };
  auto mounted = run();
  if (!mounted)
    return fail(std::move(mounted).error().wrap(fmt::format("mount rootfs in {}", dir.string())));
  return mounted;
}

Result<> remove_rootfs(const fs::path& dir) {
  SHOAL_TRY_WRAP(unmount_all(rootfs_of(dir)), fmt::format("remove rootfs in {}", dir.string()));
  // Not remove_tree: should the place still be a mount, nothing in it may be touched.
  if (::rmdir(rootfs_of(dir).c_str()) != 0 && errno != ENOENT)
    return fail_errno(fmt::format("delete {}", rootfs_of(dir).string()));
  for (const char* part : {"upper", "work"})
    SHOAL_TRY(remove_tree(dir / part));
  return {};
}

Result<std::vector<fs::path>> list_rootfs(const fs::path& under) {
  const std::string prefix = SHOAL_TRY(real_path(under)).string() + "/";
  std::set<fs::path> dirs;
  for (const MountEntry& mount : SHOAL_TRY(overlay_mounts())) {
    const fs::path point = mount.mount_point;
    if (mount.mount_point.starts_with(prefix) && point.filename() == "rootfs")
      dirs.insert(point.parent_path());
  }
  return std::vector<fs::path>(dirs.begin(), dirs.end());
}

Result<std::vector<fs::path>> sweep_rootfs(const fs::path& under, std::span<const fs::path> keep) {
  std::set<fs::path> kept;
  for (const fs::path& dir : keep)
    kept.insert(SHOAL_TRY(real_path(dir)));
  std::vector<fs::path> removed;
  std::optional<Error> first;
  for (const fs::path& dir : SHOAL_TRY(list_rootfs(under))) {
    if (kept.contains(dir))
      continue;
    auto done = remove_rootfs(dir);
    if (done)
      removed.push_back(dir);
    else if (!first)
      first = std::move(done).error();
  }
  if (first)
    return fail(std::move(*first));
  return removed;
}

}  // namespace shoal::runtime
