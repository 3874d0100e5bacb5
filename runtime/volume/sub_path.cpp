// SPDX-License-Identifier: Apache-2.0
#include "runtime/volume/sub_path.h"

#include "netplane/base/fs.h"
#include "netplane/base/strings.h"

#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace shoal::runtime {
namespace {

namespace fs = std::filesystem;

constexpr int kRacesMax = 16;  // renames at the same time make the kernel ask for another try

UniqueFd open_below(int root, const std::string& path) {
  open_how how{};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  for (int i = 0; i < kRacesMax; ++i) {
    const long fd = ::syscall(SYS_openat2, root, path.c_str(), &how, sizeof(how));
    if (fd >= 0 || errno != EAGAIN)
      return UniqueFd(static_cast<int>(fd));
  }
  return {};
}

std::unexpected<Error> cannot_open(const fs::path& volume, const std::string& sub_path) {
  if (errno == EXDEV)
    return fail(Errc::kPermission, fmt::format("subPath {} leads out of the volume {}",
                                               printable(sub_path), volume.string()));
  return fail_errno(fmt::format("open subPath {} of {}", printable(sub_path), volume.string()));
}

Result<> make_below(int parent, const std::string& name, mode_t mode) {
  if (::mkdirat(parent, name.c_str(), 0700) != 0) {
    if (errno == EEXIST)
      return {};  // somebody else was faster, or it is a link that leads nowhere
    return fail_errno(fmt::format("make folder {}", printable(name)));
  }
  const UniqueFd made(
      ::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat is{};
  // A set-group-id bit that it has by its parent's stays.
  if (!made || ::fstat(made.get(), &is) != 0 ||
      ::fchmod(made.get(), mode | (is.st_mode & S_ISGID)) != 0)
    return fail_errno(fmt::format("set the mode of folder {}", printable(name)));
  return {};
}

}  // namespace

Result<UniqueFd> open_sub_path(const fs::path& volume, const std::string& sub_path) {
  const UniqueFd root(::open(volume.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  struct stat is{};
  if (!root || ::fstat(root.get(), &is) != 0)
    return fail_errno(fmt::format("open volume {}", volume.string()));
  if (UniqueFd found = open_below(root.get(), sub_path))
    return found;
  if (errno != ENOENT)
    return cannot_open(volume, sub_path);
  UniqueFd parent = open_below(root.get(), ".");
  std::string prefix;
  for (const std::string_view part : split(sub_path, '/')) {
    if (part.empty() || part == ".")
      continue;
    prefix += (prefix.empty() ? "" : "/") + std::string(part);
    UniqueFd next = open_below(root.get(), prefix);
    if (!next && errno == ENOENT) {
      SHOAL_TRY_WRAP(make_below(parent.get(), std::string(part), is.st_mode & 07777),
                     fmt::format("volume {}", volume.string()));
      next = open_below(root.get(), prefix);
    }
    if (!next)
      return cannot_open(volume, sub_path);
    parent = std::move(next);
  }
  return parent;
}

Result<> bind_found(const UniqueFd& found, const fs::path& target, bool shared) {
  struct stat is{};
  if (::fstat(found.get(), &is) != 0)
    return fail_errno("look at what is to be mounted");
  if (S_ISDIR(is.st_mode)) {
    SHOAL_TRY(make_dirs(target, 0700));
  } else {
    SHOAL_TRY(make_dirs(target.parent_path(), 0700));
    const UniqueFd file(::open(target.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file)
      return fail_errno(fmt::format("make {}", target.string()));
  }
  // With all below it only where that is no peer of the host's own: to unmount that would unmount
  // the host's.
  const unsigned deep = shared ? 0 : AT_RECURSIVE;
  const UniqueFd tree(
      ::open_tree(found.get(), "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | deep));
  if (!tree)
    return fail_errno(fmt::format("copy the mount for {}", target.string()));
  mount_attr slave{};
  slave.propagation = MS_SLAVE;
  if (!shared &&
      ::mount_setattr(tree.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &slave, sizeof(slave)) != 0)
    return fail_errno(fmt::format("set the propagation of {}", target.string()));
  if (::move_mount(tree.get(), "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0)
    return fail_errno(fmt::format("mount at {}", target.string()));
  return {};
}

}  // namespace shoal::runtime
