// SPDX-License-Identifier: Apache-2.0
#include "runtime/volume/host_path.h"

#include "netplane/base/fs.h"
#include "netplane/base/unique_fd.h"

#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

namespace shoal::runtime {
namespace {

struct PathType {
  std::string_view name;
  mode_t type;
  std::string_view is;
  bool made = false;
};
constexpr PathType kTypes[] = {
    {"DirectoryOrCreate", S_IFDIR, "a directory", true},
    {"Directory", S_IFDIR, "a directory"},
    {"FileOrCreate", S_IFREG, "a file", true},
    {"File", S_IFREG, "a file"},
    {"Socket", S_IFSOCK, "a socket file"},
    {"CharDevice", S_IFCHR, "a character device"},
    {"BlockDevice", S_IFBLK, "a block device"},
};

Result<> make_file(const std::filesystem::path& path) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  if (!fd)
    return fail_errno(fmt::format("make file {}", path.string()));
  return {};
}

}  // namespace

Result<> check_host_path(const std::filesystem::path& path, std::string_view type) {
  struct stat is{};
  const bool there = ::stat(path.c_str(), &is) == 0;
  if (!there && errno != ENOENT && errno != ENOTDIR)
    return fail_errno(fmt::format("look at {}", path.string()));
  if (type.empty())
    return there ? Result<>() : make_dirs(path, 0755);
  for (const PathType& wanted : kTypes) {
    if (wanted.name != type)
      continue;
    if (!there && wanted.made)
      return wanted.type == S_IFDIR ? make_dirs(path, 0755) : make_file(path);
    if (!there || (is.st_mode & S_IFMT) != wanted.type)
      return fail(Errc::kInvalid, fmt::format("hostPath type check failed: {} is not {}",
                                              path.string(), wanted.is));
    return {};
  }
  return fail(Errc::kInvalid, fmt::format("{} is an invalid volume type", type));
}

}  // namespace shoal::runtime
