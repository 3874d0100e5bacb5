// SPDX-License-Identifier: Apache-2.0
#include "runtime/volume/folder.h"

#include "netplane/base/fs.h"
#include "netplane/base/unique_fd.h"

#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <sys/stat.h>
#include <unistd.h>

namespace shoal::runtime {
namespace {

namespace fs = std::filesystem;

constexpr int kDepthMax = 1000;  // each level holds a file descriptor and a buffer
constexpr int kBlockBytes = 512;
constexpr mode_t kGroupFile = 0660;
constexpr mode_t kGroupFolder = S_ISGID | 0770;

struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

// What it is told goes on with; false ends the walk.
using Visit = std::function<Result<bool>(int dir, const char* name, const struct stat& is)>;

// Everything below a folder, its children after each folder, on one file system. What goes away
// meanwhile is passed over.
Result<bool> walk(UniqueFd folder, dev_t device, const Visit& visit, int depth) {
  if (depth > kDepthMax)
    return fail(Errc::kExhausted, fmt::format("folders are nested deeper than {}", kDepthMax));
  const std::unique_ptr<DIR, CloseDir> dir(::fdopendir(folder.get()));
  if (!dir)
    return fail_errno("read a folder");
  (void)folder.release();
  const int fd = ::dirfd(dir.get());
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string_view name = entry->d_name;
    struct stat is{};
    if (name == "." || name == "..")
      continue;
    if (::fstatat(fd, entry->d_name, &is, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT)
        continue;
      return fail_errno(fmt::format("look at {}", name));
    }
    if (is.st_dev != device)
      continue;
    if (!SHOAL_TRY(visit(fd, entry->d_name, is)))
      return false;
    if (!S_ISDIR(is.st_mode))
      continue;
    UniqueFd child(
        ::openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC));
    if (!child) {
      if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)
        continue;
      return fail_errno(fmt::format("open folder {}", name));
    }
    if (!SHOAL_TRY(walk(std::move(child), device, visit, depth + 1)))
      return false;
  }
  return true;
}

struct Root {
  UniqueFd fd;
  struct stat is{};
};
Result<Root> open_root(const fs::path& dir) {
  Root root{UniqueFd(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)), {}};
  if (!root.fd || ::fstat(root.fd.get(), &root.is) != 0)
    return fail_errno(fmt::format("open {}", dir.string()));
  return root;
}

mode_t group_mode(const struct stat& is) {
  return (is.st_mode & 07777) | (S_ISDIR(is.st_mode) ? kGroupFolder : kGroupFile);
}

Result<> give(int fd, const struct stat& is, gid_t group, std::string_view name) {
  if (is.st_gid != group &&
      ::fchownat(fd, "", static_cast<uid_t>(-1), group, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0)
    return fail_errno(fmt::format("give {} to group {}", name, group));
  if (S_ISLNK(is.st_mode))
    return {};
  // An O_PATH descriptor takes no fchmod.
  const std::string path = fmt::format("/proc/self/fd/{}", fd);
  if ((is.st_mode & 07777) == group_mode(is) && is.st_gid == group)
    return {};
  if (::chmod(path.c_str(), group_mode(is)) != 0)
    return fail_errno(fmt::format("open {} to group {}", name, group));
  return {};
}

}  // namespace

Result<bool> make_open_folder(const fs::path& dir) {
  SHOAL_TRY(make_dirs(dir.parent_path(), 0755));
  if (struct stat is{}; ::lstat(dir.c_str(), &is) == 0)
    return false;
  // Under another name until it is as it should be: who is killed between leaves no folder that
  // looks like one.
  fs::path fresh = dir;
  fresh += ".new";
  if (::mkdir(fresh.c_str(), 0700) != 0 && errno != EEXIST)
    return fail_errno(fmt::format("make {}", dir.string()));
  if (::chmod(fresh.c_str(), 0777) != 0)
    return fail_errno(fmt::format("open {} to all", dir.string()));
  if (::rename(fresh.c_str(), dir.c_str()) != 0)
    return fail_errno(fmt::format("make {}", dir.string()));
  return true;
}

Result<std::int64_t> disk_usage(const fs::path& dir, std::int64_t enough) {
  Root root = SHOAL_TRY(open_root(dir));
  std::int64_t bytes = static_cast<std::int64_t>(root.is.st_blocks) * kBlockBytes;
  std::set<ino_t> linked;  // with several names
  const Visit add = [&](int, const char*, const struct stat& is) -> Result<bool> {
    const bool several = is.st_nlink > 1 && !S_ISDIR(is.st_mode);
    if (!several || linked.insert(is.st_ino).second)
      bytes += static_cast<std::int64_t>(is.st_blocks) * kBlockBytes;
    return bytes <= enough;
  };
  SHOAL_TRY_WRAP(walk(std::move(root.fd), root.is.st_dev, add, 0),
                 fmt::format("measure {}", dir.string()));
  return bytes;
}

Result<> give_to_group(const fs::path& dir, gid_t group, OwnershipPolicy policy) {
  Root root = SHOAL_TRY(open_root(dir));
  if (policy == OwnershipPolicy::kOnRootMismatch && root.is.st_gid == group &&
      (root.is.st_mode & 07777) == group_mode(root.is))
    return {};
  const UniqueFd top(::open(dir.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  const Visit visit = [group](int parent, const char* name, const struct stat&) -> Result<bool> {
    const UniqueFd fd(::openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
    struct stat is{};
    if (!fd || ::fstat(fd.get(), &is) != 0) {
      if (errno == ENOENT)
        return true;
      return fail_errno(fmt::format("open {}", name));
    }
    SHOAL_TRY(give(fd.get(), is, group, name));
    return true;
  };
  SHOAL_TRY_WRAP(walk(std::move(root.fd), root.is.st_dev, visit, 0),
                 fmt::format("set the group of {}", dir.string()));
  // Last: as long as the root does not match, it is not done.
  return give(top.get(), root.is, group, dir.string());
}

}  // namespace shoal::runtime
