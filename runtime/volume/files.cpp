// SPDX-License-Identifier: Apache-2.0
#include "runtime/volume/files.h"

#include "netplane/base/fs.h"
#include "netplane/base/strings.h"
#include "netplane/base/unique_fd.h"

#include <cerrno>
#include <climits>
#include <ctime>
#include <fcntl.h>
#include <fmt/format.h>
#include <set>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace shoal::runtime {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kData = "..data";
constexpr std::string_view kDataNew = "..data_tmp";
constexpr std::size_t kFileBytesMax = 2 << 20;  // an object is smaller
constexpr mode_t kFolderMode = 0755;
constexpr int kNamesTried = 100;

mode_t file_mode(const VolumeFile& file, std::optional<gid_t> group) {
  return static_cast<mode_t>(file.mode) | (group ? 0440 : 0);
}
mode_t folder_mode(std::optional<gid_t> group) {
  return kFolderMode | (group ? S_ISGID | 0550 : 0);
}

// Whatever the umask is; a change of owner takes the set-group-id bit away, so the mode comes last.
Result<> own(int fd, mode_t mode, std::optional<gid_t> group, std::string_view what) {
  if (group && ::fchown(fd, static_cast<uid_t>(-1), *group) != 0)
    return fail_errno(fmt::format("give {} to group {}", what, *group));
  if (::fchmod(fd, mode) != 0)
    return fail_errno(fmt::format("chmod {}", what));
  return {};
}

std::string_view first_part(std::string_view path) { return path.substr(0, path.find('/')); }

// ---- what is there
std::string link_target(int dir, std::string_view name) {
  char text[PATH_MAX];
  const ssize_t n = ::readlinkat(dir, std::string(name).c_str(), text, sizeof(text));
  return n > 0 ? std::string(text, static_cast<std::size_t>(n)) : std::string();
}

bool shows(const fs::path& data, const VolumeFiles& files, std::optional<gid_t> group) {
  std::error_code error;
  std::size_t found = 0;
  for (fs::recursive_directory_iterator at(data, error), end; !error && at != end;
       at.increment(error)) {
    if (at->is_directory(error))
      continue;
    const auto file = files.find(at->path().lexically_relative(data).string());
    struct stat is{};
    if (file == files.end() || ::lstat(at->path().c_str(), &is) != 0 || !S_ISREG(is.st_mode) ||
        (is.st_mode & 07777) != file_mode(file->second, group) || (group && is.st_gid != *group) ||
        static_cast<std::size_t>(is.st_size) != file->second.content.size())
      return false;
    const auto content = read_file(at->path(), kFileBytesMax);
    if (!content || *content != file->second.content)
      return false;
    ++found;
  }
  return !error && found == files.size();
}

bool links_stand(int dir, const VolumeFiles& files) {
  for (const auto& [path, file] : files)
    if (const std::string name(first_part(path));
        link_target(dir, name) != fmt::format("{}/{}", kData, name))
      return false;
  return true;
}

// ---- the new state
Result<UniqueFd> make_folder(int parent, const std::string& name, std::optional<gid_t> group) {
  if (::mkdirat(parent, name.c_str(), 0700) != 0 && errno != EEXIST)
    return fail_errno(fmt::format("make folder {}", name));
  UniqueFd fd(::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd)
    return fail_errno(fmt::format("open folder {}", name));
  SHOAL_TRY(own(fd.get(), folder_mode(group), group, name));
  return fd;
}

Result<> write_one(int state, std::string_view path, const VolumeFile& file,
                   std::optional<gid_t> group) {
  const auto parts = split(path, '/');
  UniqueFd folder;
  for (std::size_t i = 0; i + 1 < parts.size(); ++i)
    if (!parts[i].empty())
      folder = SHOAL_TRY(make_folder(folder ? folder.get() : state, std::string(parts[i]), group));
  const std::string name(parts.back());
  const UniqueFd fd(::openat(folder ? folder.get() : state, name.c_str(),
                             O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd)
    return fail_errno(fmt::format("make file {}", path));
  SHOAL_TRY_WRAP(write_all(fd.get(), file.content), fmt::format("write file {}", path));
  return own(fd.get(), file_mode(file, group), group, path);
}

// A name that nothing has yet, by the time.
Result<std::string> make_state(int dir) {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  tm utc{};
  ::gmtime_r(&now.tv_sec, &utc);
  for (int i = 0; i < kNamesTried; ++i) {
    std::string name = fmt::format("..{:04}_{:02}_{:02}_{:02}_{:02}_{:02}.{:09}",
                                   utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour,
                                   utc.tm_min, utc.tm_sec, now.tv_nsec + i);
    if (::mkdirat(dir, name.c_str(), 0700) == 0)
      return name;
    if (errno != EEXIST)
      return fail_errno(fmt::format("make folder {}", name));
  }
  return fail(Errc::kExists, "no free name for the new state");
}

Result<> put_link(int dir, const std::string& name, const std::string& target) {
  if (link_target(dir, name) == target)
    return {};
  const std::string fresh(kDataNew);
  if (::unlinkat(dir, fresh.c_str(), 0) != 0 && errno != ENOENT)
    return fail_errno(fmt::format("remove {}", fresh));
  if (::symlinkat(target.c_str(), dir, fresh.c_str()) != 0)
    return fail_errno(fmt::format("link {}", fresh));
  if (::renameat(dir, fresh.c_str(), dir, name.c_str()) == 0)
    return {};
  // A subPath of that name was mounted before the file was there: the folder for it is empty.
  if (errno != EISDIR || ::unlinkat(dir, name.c_str(), AT_REMOVEDIR) != 0 ||
      ::renameat(dir, fresh.c_str(), dir, name.c_str()) != 0)
    return fail_errno(fmt::format("put link {} in place", name));
  return {};
}

// Earlier states, also those of calls that were cut short, and, with `names`, links to files that
// are no more.
Result<> clear_away(const fs::path& path, int dir, const std::string& state,
                    const std::set<std::string, std::less<>>* names) {
  std::vector<std::string> old;
  std::error_code error;
  for (fs::directory_iterator at(path, error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (name == kData || name == state)
      continue;
    const bool own_part = name.starts_with("..");
    if (own_part || (names && !names->contains(name) &&
                     link_target(dir, name) == fmt::format("{}/{}", kData, name)))
      old.push_back(name);
  }
  for (const std::string& name : old)
    if (!error)
      fs::remove_all(path / name, error);
  if (error)
    return fail_errno(error.value(), fmt::format("clear away in {}", path.string()));
  return {};
}

Result<bool> write(const fs::path& path, const VolumeFiles& files, std::optional<gid_t> group) {
  const UniqueFd dir(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!dir)
    return fail_errno("open it");
  std::set<std::string, std::less<>> names;
  for (const auto& [file, content] : files)
    names.emplace(first_part(file));
  const std::string before = link_target(dir.get(), kData);
  if (!before.empty() && links_stand(dir.get(), files) && shows(path / before, files, group)) {
    SHOAL_TRY(clear_away(path, dir.get(), before, &names));
    return false;
  }
  // What a try before this one left would otherwise pile up, on a disk that may be full.
  SHOAL_TRY(clear_away(path, dir.get(), before, nullptr));
  const std::string state = SHOAL_TRY(make_state(dir.get()));
  {
    const UniqueFd fd = SHOAL_TRY(make_folder(dir.get(), state, group));
    for (const auto& [file, content] : files)
      SHOAL_TRY(write_one(fd.get(), file, content, group));
  }
  SHOAL_TRY(put_link(dir.get(), std::string(kData), state));
  for (const std::string& name : names)
    SHOAL_TRY(put_link(dir.get(), name, fmt::format("{}/{}", kData, name)));
  SHOAL_TRY(clear_away(path, dir.get(), state, &names));
  return true;
}

}  // namespace

Result<bool> write_volume_files(const fs::path& dir, const VolumeFiles& files,
                                std::optional<gid_t> group) {
  auto written = write(dir, files, group);
  if (!written)
    return fail(
        std::move(written).error().wrap(fmt::format("write the files of {}", dir.string())));
  return written;
}

}  // namespace shoal::runtime
