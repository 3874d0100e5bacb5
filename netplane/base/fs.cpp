// SPDX-License-Identifier: Apache-2.0
#include "netplane/base/fs.h"

#include "netplane/base/strings.h"

#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace shoal {

Result<std::string> read_file(const std::filesystem::path& path, std::size_t max_bytes) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd)
    return fail_errno(fmt::format("open {}", path.string()));
  std::string content;
  char buffer[16384];
  for (;;) {
    const ssize_t n = ::read(fd.get(), buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return fail_errno(fmt::format("read {}", path.string()));
    if (n == 0)
      return content;
    if (content.size() + static_cast<std::size_t>(n) > max_bytes)
      return fail(Errc::kExhausted,
                  fmt::format("read {}: larger than {} bytes", path.string(), max_bytes));
    content.append(buffer, static_cast<std::size_t>(n));
  }
}

Result<> write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return fail_errno("write");
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return {};
}

Result<> write_file_atomic(const std::filesystem::path& path, std::string_view content,
                           mode_t mode) {
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  std::string temporary = (folder / fmt::format(".{}.XXXXXX", path.filename().string())).string();
  UniqueFd fd(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd)
    return fail_errno(fmt::format("create a temporary file in {}", folder.string()));
  const auto abandon = [&](Error error) {
    ::unlink(temporary.c_str());
    return fail(std::move(error).wrap(fmt::format("write {}", path.string())));
  };
  if (::fchmod(fd.get(), mode) != 0)
    return abandon(Error::from_errno("fchmod"));
  if (auto written = write_all(fd.get(), content); !written)
    return abandon(std::move(written).error());
  if (::fsync(fd.get()) != 0)
    return abandon(Error::from_errno("fsync"));
  fd.reset();
  if (::rename(temporary.c_str(), path.c_str()) != 0)
    return abandon(Error::from_errno("rename"));
  UniqueFd dir(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir || ::fsync(dir.get()) != 0)
    return fail_errno(fmt::format("fsync folder {}", folder.string()));
  return {};
}

Result<> make_dirs(const std::filesystem::path& path, mode_t mode) {
  std::filesystem::path sofar;
  for (const auto& part : path) {
    sofar /= part;
    if (::mkdir(sofar.c_str(), mode) != 0 && errno != EEXIST)
      return fail_errno(fmt::format("mkdir {}", sofar.string()));
  }
  struct stat st{};
  if (::stat(path.c_str(), &st) != 0)
    return fail_errno(fmt::format("stat {}", path.string()));
  if (!S_ISDIR(st.st_mode))
    return fail(Errc::kInvalid, fmt::format("{} is not a folder", path.string()));
  return {};
}

Result<UniqueFd> lock_file(const std::filesystem::path& path) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd)
    return fail_errno(fmt::format("open {}", path.string()));
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK)
      return fail_errno(fmt::format("lock {}", path.string()));
    char pid[32] = {};
    const ssize_t n = ::pread(fd.get(), pid, sizeof(pid) - 1, 0);
    return fail(Errc::kConflict,
                fmt::format("{} is locked by {}; stop it first", path.string(),
                            n > 0 ? fmt::format("process {}", trim(pid)) : "another process"));
  }
  // Who holds it is a courtesy to whoever comes next: on a full disk the lock is held all the same,
  // by "another process".
  const std::string pid = fmt::format("{}\n", ::getpid());
  if (::ftruncate(fd.get(), 0) != 0)
    return fail_errno(fmt::format("write {}", path.string()));
  (void)!::pwrite(fd.get(), pid.data(), pid.size(), 0);
  return fd;
}

}  // namespace shoal
