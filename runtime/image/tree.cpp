// SPDX-License-Identifier: Apache-2.0
#include "runtime/image/tree.h"

#include "netplane/base/strings.h"

#include <cerrno>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <memory>
#include <sys/stat.h>
#include <unistd.h>

namespace shoal::runtime {
namespace {

struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};
using Dir = std::unique_ptr<DIR, CloseDir>;

Result<std::vector<std::string>> names_in(UniqueFd folder) {
  Dir dir(::fdopendir(folder.get()));
  if (!dir)
    return fail_errno("read folder");
  folder.release();
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(dir.get())) {
    if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0)
      names.emplace_back(entry->d_name);
    errno = 0;
  }
  if (errno != 0)
    return fail_errno("read folder");
  return names;
}

constexpr std::uint64_t kBlockBytes = 512;  // what st_blocks counts in

Result<std::uint64_t> remove_at(int dir_fd, const std::string& name, std::size_t depth) {
  struct stat st{};
  if (::fstatat(dir_fd, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT)
      return 0;
    return fail_errno(fmt::format("stat {}", printable(name)));
  }
  std::uint64_t freed = st.st_nlink <= 1 || S_ISDIR(st.st_mode)
                            ? static_cast<std::uint64_t>(st.st_blocks) * kBlockBytes
                            : 0;
  if (!S_ISDIR(st.st_mode)) {
    if (::unlinkat(dir_fd, name.c_str(), 0) != 0 && errno != ENOENT)
      return fail_errno(fmt::format("delete {}", printable(name)));
    return freed;
  }
  // Trees are made by us, at most kTreeDepthMax deep under a few folders of our own.
  if (depth > 2 * kTreeDepthMax)
    return fail(Errc::kExhausted, fmt::format("delete {}: folders nest too deep", printable(name)));
  UniqueFd folder = SHOAL_TRY(open_folder(dir_fd, name.c_str()));
  const int fd = folder.get();
  UniqueFd listing(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!listing)
    return fail_errno("dup");
  for (const std::string& child : SHOAL_TRY(names_in(std::move(listing))))
    freed += SHOAL_TRY(remove_at(fd, child, depth + 1));
  if (::unlinkat(dir_fd, name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT)
    return fail_errno(fmt::format("delete folder {}", printable(name)));
  return freed;
}

}  // namespace

Result<std::vector<std::string>> entry_components(std::string_view name) {
  if (name.size() > kEntryNameBytesMax)
    return fail(Errc::kInvalid, fmt::format("\"{}\": the name is longer than {} bytes",
                                            printable(name), kEntryNameBytesMax));
  std::vector<std::string> out;
  for (const std::string_view part : split(name, '/')) {
    if (part.empty() || part == ".")
      continue;
    if (part == "..")
      return fail(Errc::kInvalid,
                  fmt::format("\"{}\": a name with \"..\" is refused", printable(name, 200)));
    out.emplace_back(part);
  }
  if (out.size() > kTreeDepthMax)
    return fail(Errc::kInvalid, fmt::format("\"{}\": nested deeper than {} folders",
                                            printable(name), kTreeDepthMax));
  return out;
}

Result<UniqueFd> open_folder(int dir_fd, const char* path) {
  UniqueFd fd(::openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd)
    return fail_errno(fmt::format("open folder {}", printable(path, 300)));
  return fd;
}

Result<std::uint64_t> remove_tree(int dir_fd, const std::string& name) {
  return remove_at(dir_fd, name, 0);
}

}  // namespace shoal::runtime
