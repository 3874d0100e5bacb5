// SPDX-License-Identifier: Apache-2.0
#include "runtime/volume/folder.h"

#include "netplane/base/fs.h"
#include "netplane/base/unique_fd.h"

#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace shoal::runtime {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kDepthMax = 1000;  // each level holds a file descriptor and a buffer
constexpr int kBlockBytes = 512;
constexpr mode_t kGroupFile = 0660;
constexpr mode_t kGroupFolder = S_ISGID | 0770;

struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

// Everything below a folder on one file system, each folder before what is in it. What goes away
// meanwhile is passed over.
class TreeWalk {
public:
  struct Entry {
    int dir = -1;  // that holds it
    std::string name;
    struct stat is{};
  };

  static Result<TreeWalk> begin(UniqueFd folder, dev_t device) {
    TreeWalk walk(device);
    SHOAL_TRY(walk.enter(std::move(folder)));
    return walk;
  }

  // Good until the next call. Null: that was all.
  Result<const Entry*> next() {
    if (descend_)
      SHOAL_TRY(descend());
    while (!open_.empty()) {
      DIR* dir = open_.back().get();
      const dirent* found = ::readdir(dir);
      if (found == nullptr) {
        open_.pop_back();
        continue;
      }
      entry_.dir = ::dirfd(dir);
      entry_.name = found->d_name;
      if (entry_.name == "." || entry_.name == "..")
        continue;
      if (::fstatat(entry_.dir, found->d_name, &entry_.is, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT)
          continue;
        return fail_errno(fmt::format("look at {}", entry_.name));
      }
      if (entry_.is.st_dev != device_)
        continue;
      descend_ = S_ISDIR(entry_.is.st_mode);
      return &entry_;
    }
    return nullptr;
  }

private:
  explicit TreeWalk(dev_t device) : device_(device) {}

  Result<> enter(UniqueFd folder) {
    if (open_.size() > kDepthMax)
      return fail(Errc::kExhausted, fmt::format("folders are nested deeper than {}", kDepthMax));
    std::unique_ptr<DIR, CloseDir> dir(::fdopendir(folder.get()));
    if (!dir)
      return fail_errno("read a folder");
    (void)folder.release();
    open_.push_back(std::move(dir));
    return {};
  }
  Result<> descend() {
    descend_ = false;
    UniqueFd child(::openat(entry_.dir, entry_.name.c_str(),
                            O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC));
    if (child)
      return enter(std::move(child));
    if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)
      return {};
    return fail_errno(fmt::format("open folder {}", entry_.name));
  }

  dev_t device_;
  std::vector<std::unique_ptr<DIR, CloseDir>> open_;  // from the top to where it is
  Entry entry_;
  bool descend_ = false;  // into entry_, before anything else
};

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

struct DiskWalk::Impl {
  std::string dir;
  TreeWalk walk;
  DiskUsage found;
  std::set<ino_t> linked;  // with several names
};

DiskWalk::DiskWalk(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
DiskWalk::DiskWalk(DiskWalk&&) noexcept = default;
DiskWalk& DiskWalk::operator=(DiskWalk&&) noexcept = default;
DiskWalk::~DiskWalk() = default;

Result<DiskWalk> DiskWalk::begin(const fs::path& dir) {
  Root root = SHOAL_TRY(open_root(dir));
  TreeWalk walk = SHOAL_TRY_WRAP(TreeWalk::begin(std::move(root.fd), root.is.st_dev),
                                 fmt::format("measure {}", dir.string()));
  const DiskUsage top{static_cast<std::int64_t>(root.is.st_blocks) * kBlockBytes, 1};
  return DiskWalk(std::make_unique<Impl>(Impl{dir.string(), std::move(walk), top, {}}));
}

const DiskUsage& DiskWalk::found() const { return impl_->found; }

Result<bool> DiskWalk::step(std::size_t entries) {
  for (std::size_t i = 0; i < entries; ++i) {
    const TreeWalk::Entry* entry =
        SHOAL_TRY_WRAP(impl_->walk.next(), fmt::format("measure {}", impl_->dir));
    if (!entry)
      return false;
    const bool several = entry->is.st_nlink > 1 && !S_ISDIR(entry->is.st_mode);
    if (several && !impl_->linked.insert(entry->is.st_ino).second)
      continue;
    impl_->found.bytes += static_cast<std::int64_t>(entry->is.st_blocks) * kBlockBytes;
    ++impl_->found.inodes;
  }
  return true;
}

Result<> give_to_group(const fs::path& dir, gid_t group, OwnershipPolicy policy) {
  Root root = SHOAL_TRY(open_root(dir));
  if (policy == OwnershipPolicy::kOnRootMismatch && root.is.st_gid == group &&
      (root.is.st_mode & 07777) == group_mode(root.is))
    return {};
  const UniqueFd top(::open(dir.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  const std::string what = fmt::format("set the group of {}", dir.string());
  TreeWalk walk = SHOAL_TRY_WRAP(TreeWalk::begin(std::move(root.fd), root.is.st_dev), what);
  while (const TreeWalk::Entry* entry = SHOAL_TRY_WRAP(walk.next(), what)) {
    const UniqueFd fd(::openat(entry->dir, entry->name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    struct stat is{};
    if (fd && ::fstat(fd.get(), &is) == 0)
      SHOAL_TRY_WRAP(give(fd.get(), is, group, entry->name), what);
    else if (errno != ENOENT)
      return fail_errno(fmt::format("{}: open {}", what, entry->name));
  }
  // Last: as long as the root does not match, it is not done.
  return give(top.get(), root.is, group, dir.string());
}

}  // namespace shoal::runtime
