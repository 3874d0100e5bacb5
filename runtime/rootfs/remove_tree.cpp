// SPDX-License-Identifier: Apache-2.0
#include "runtime/rootfs/remove_tree.h"

#include "netplane/base/strings.h"
#include "netplane/base/unique_fd.h"

#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <memory>
#include <string>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <vector>

namespace shoal::runtime {
namespace {

struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

bool same_place(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

class Removal {
public:
  Removal(UniqueFd parent, std::string top) : at_(std::move(parent)), top_(std::move(top)) {}

  // Depth first; `at_` is the folder that holds `path_`'s last name.
  Result<> run(const std::string& name) {
    SHOAL_TRY(remove_or_enter(name));
    while (!path_.empty()) {
      const std::string inner = SHOAL_TRY(first_folder());
      if (inner.empty())
        SHOAL_TRY(leave());
      else
        SHOAL_TRY(remove_or_enter(inner));
    }
    return {};
  }

private:
  struct Level {
    std::string name;
    struct stat above;  // the folder that it is in
  };

  std::unexpected<Error> failed(std::string_view what, std::string_view name) const {
    if (errno == EBUSY || errno == EXDEV)
      return fail(Errc::kUnavailable, fmt::format("{} is still mounted", place(name)));
    return fail_errno(fmt::format("{} {}", what, place(name)));
  }
  std::string place(std::string_view name) const {
    std::string text = top_;
    for (const Level& level : path_)
      text += "/" + level.name;
    if (text.size() > kPlaceBytes) {
      text.resize(kPlaceBytes);
      text += "...";
    }
    return printable(name.empty() ? text : text + "/" + std::string(name));
  }

  Result<> remove_or_enter(const std::string& name) {
    if (::unlinkat(at_.get(), name.c_str(), 0) == 0 || errno == ENOENT)
      return {};
    if (errno != EISDIR && errno != EPERM)
      return failed("delete", name);
    if (::unlinkat(at_.get(), name.c_str(), AT_REMOVEDIR) == 0)
      return {};
    if (errno != ENOTEMPTY && errno != EEXIST)
      return failed("delete", name);
    open_how how{};
    how.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
    UniqueFd inner(
        static_cast<int>(::syscall(SYS_openat2, at_.get(), name.c_str(), &how, sizeof(how))));
    Level level{name, {}};
    if (!inner || ::fstat(at_.get(), &level.above) != 0)
      return failed("open", name);
    path_.push_back(std::move(level));
    at_ = std::move(inner);
    return {};
  }

  // Deletes what is no folder, and empty ones; the name of the first that is not, or "".
  Result<std::string> first_folder() {
    UniqueFd again(::openat(at_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const std::unique_ptr<DIR, CloseDir> dir(again ? ::fdopendir(again.get()) : nullptr);
    if (!dir)
      return failed("read", "");
    (void)again.release();
    errno = 0;
    while (const dirent* entry = ::readdir(dir.get())) {
      const std::string_view name = entry->d_name;
      if (name == "." || name == "..")
        continue;
      if (::unlinkat(at_.get(), entry->d_name, entry->d_type == DT_DIR ? AT_REMOVEDIR : 0) != 0 &&
          errno != ENOENT) {
        if (errno == ENOTEMPTY || errno == EEXIST || errno == EISDIR)
          return std::string(name);
        return failed("delete", name);
      }
      errno = 0;
    }
    if (errno != 0)
      return failed("read", "");
    return std::string();
  }

  Result<> leave() {
    const Level level = std::move(path_.back());
    path_.pop_back();
    UniqueFd above(::openat(at_.get(), "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    struct stat info{};
    if (!above || ::fstat(above.get(), &info) != 0)
      return failed("open what holds", level.name);
    if (!same_place(info, level.above))
      return fail(Errc::kUnavailable,
                  fmt::format("{} was moved while it was deleted", place(level.name)));
    at_ = std::move(above);
    if (::unlinkat(at_.get(), level.name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT)
      return failed("delete", level.name);
    return {};
  }

  static constexpr std::size_t kPlaceBytes = 512;
  UniqueFd at_;
  std::string top_;  // the path of the folder that holds all
  std::vector<Level> path_;
};

}  // namespace

Result<> remove_tree(const std::filesystem::path& path) {
  const std::filesystem::path parent = path.parent_path();
  UniqueFd at(::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!at)
    return errno == ENOENT ? Result<>() : fail_errno(fmt::format("open {}", parent.string()));
  return Removal(std::move(at), parent.string()).run(path.filename());
}

}  // namespace shoal::runtime
