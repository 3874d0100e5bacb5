// SPDX-License-Identifier: Apache-2.0
#include "runtime/shim/sys.h"

#include "netplane/base/unique_fd.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <fcntl.h>
#include <unistd.h>

namespace shoal::runtime::shim {
namespace {

bool write_and_rename(const std::string& path, std::string_view text, bool sync) {
  const std::string temporary = path + ".new";
  UniqueFd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd || ::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      (sync && ::fsync(fd.get()) != 0))
    return false;
  fd.reset();
  return ::rename(temporary.c_str(), path.c_str()) == 0;
}

}  // namespace

std::int64_t mono_ms() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::int64_t>(now.tv_sec) * 1000 + now.tv_nsec / 1'000'000;
}

std::int64_t wall_ns() {
  timespec now;
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

std::string read_small_file(const std::string& path, std::size_t max) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  char buffer[512];
  while (fd && text.size() < max) {
    const ssize_t n = ::read(fd.get(), buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      break;
    text.append(buffer, static_cast<std::size_t>(n));
  }
  if (text.size() > max)
    text.resize(max);
  return text;
}

std::string read_file_end(const std::string& path, std::size_t max) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  const off_t size = fd ? ::lseek(fd.get(), 0, SEEK_END) : -1;
  if (size <= 0)
    return {};
  const auto bytes = std::min(static_cast<std::size_t>(size), max);
  std::string text(bytes, '\0');
  const ssize_t n = ::pread(fd.get(), text.data(), bytes, size - static_cast<off_t>(bytes));
  text.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  return text;
}

bool write_small_file(const std::string& path, std::string_view text) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  return fd && ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

bool replace_file(const std::string& path, std::string_view text) {
  return write_and_rename(path, text, false);
}

bool save_file(const std::string& path, std::string_view text) {
  if (!write_and_rename(path, text, true))
    return false;
  const UniqueFd folder(
      ::open(path.substr(0, path.rfind('/')).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return folder && ::fsync(folder.get()) == 0;
}

std::uint64_t start_ticks(pid_t pid) {
  const std::string stat = read_small_file("/proc/" + std::to_string(pid) + "/stat", 4096);
  // Fields are counted from the last ')': the command name may hold blanks.
  std::size_t at = stat.rfind(')');
  for (int field = 2; at != std::string::npos && field < 22; ++field)
    at = stat.find(' ', at + 1);
  return at == std::string::npos ? 0 : std::strtoull(stat.c_str() + at, nullptr, 10);
}

}  // namespace shoal::runtime::shim
