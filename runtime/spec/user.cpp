// SPDX-License-Identifier: Apache-2.0
#include "runtime/spec/user.h"

#include "netplane/base/strings.h"
#include "netplane/base/unique_fd.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <optional>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace shoal::runtime {
namespace {

constexpr std::size_t kFileBytesMax = 1 << 20;

struct PasswdEntry {
  std::string_view name;
  std::uint32_t uid;
  std::uint32_t gid;
  std::string_view home;
};

// name:password:uid:gid:comment:home:shell. Lines that cannot be read are passed over, as libc
// does.
template <class Match>
std::optional<PasswdEntry> find_passwd(std::string_view passwd, Match&& match) {
  for (const std::string_view line : split(passwd, '\n')) {
    const auto fields = split(line, ':');
    if (fields.size() < 6)
      continue;
    const auto uid = parse_uint(fields[2], UINT32_MAX - 1);
    const auto gid = parse_uint(fields[3], UINT32_MAX - 1);
    if (!uid || !gid)
      continue;
    const PasswdEntry entry{fields[0], static_cast<std::uint32_t>(*uid),
                            static_cast<std::uint32_t>(*gid), fields[5]};
    if (match(entry))
      return entry;
  }
  return std::nullopt;
}

struct GroupEntry {
  std::string_view name;
  std::uint32_t gid;
  std::vector<std::string_view> members;
};

// name:password:gid:member,member
std::vector<GroupEntry> parse_groups(std::string_view group) {
  std::vector<GroupEntry> entries;
  for (const std::string_view line : split(group, '\n')) {
    const auto fields = split(line, ':');
    const auto gid = fields.size() >= 4 ? parse_uint(fields[2], UINT32_MAX - 1) : std::nullopt;
    if (gid)
      entries.push_back({fields[0], static_cast<std::uint32_t>(*gid), split(fields[3], ',')});
  }
  return entries;
}

}  // namespace

Result<ProcessUser> resolve_user(std::string_view user, std::string_view passwd,
                                 std::string_view group) {
  const std::size_t colon = user.find(':');
  const std::string_view who = user.substr(0, colon);
  const std::string_view which =
      colon == std::string_view::npos ? std::string_view() : user.substr(colon + 1);
  ProcessUser resolved;
  std::string_view name;
  if (const auto uid =
          who.empty() ? std::optional<std::uint64_t>(0) : parse_uint(who, UINT32_MAX - 1)) {
    resolved.uid = static_cast<std::uint32_t>(*uid);
    if (const auto entry =
            find_passwd(passwd, [&](const PasswdEntry& e) { return e.uid == resolved.uid; })) {
      resolved.gid = entry->gid;
      name = entry->name;
    }
  } else {
    const auto entry = find_passwd(passwd, [&](const PasswdEntry& e) { return e.name == who; });
    if (!entry)
      return fail(Errc::kNotFound,
                  fmt::format("user '{}' is not in the image's /etc/passwd", printable(who)));
    resolved.uid = entry->uid;
    resolved.gid = entry->gid;
    name = entry->name;
  }
  const auto groups = parse_groups(group);
  if (!which.empty()) {
    if (const auto gid = parse_uint(which, UINT32_MAX - 1)) {
      resolved.gid = static_cast<std::uint32_t>(*gid);
    } else {
      const auto entry = std::ranges::find(groups, which, &GroupEntry::name);
      if (entry == groups.end())
        return fail(Errc::kNotFound,
                    fmt::format("group '{}' is not in the image's /etc/group", printable(which)));
      resolved.gid = entry->gid;
    }
    return resolved;  // a group that is named stands alone
  }
  for (const GroupEntry& entry : groups)
    if (!name.empty() && entry.gid != resolved.gid &&
        std::ranges::find(entry.members, name) != entry.members.end())
      resolved.additional_gids.push_back(entry.gid);
  std::ranges::sort(resolved.additional_gids);
  const auto tail = std::ranges::unique(resolved.additional_gids);
  resolved.additional_gids.erase(tail.begin(), tail.end());
  return resolved;
}

std::string home_of(std::uint32_t uid, std::string_view passwd) {
  const auto entry = find_passwd(passwd, [&](const PasswdEntry& e) { return e.uid == uid; });
  return entry && entry->home.starts_with('/') ? std::string(entry->home) : "/";
}

Result<std::string> read_rootfs_file(const std::filesystem::path& rootfs, const std::string& path) {
  const UniqueFd root(::open(rootfs.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root)
    return fail_errno(fmt::format("open {}", rootfs.string()));
  open_how how{};
  // Not blocking: the image may hold a FIFO of that name.
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  const UniqueFd fd(
      static_cast<int>(::syscall(SYS_openat2, root.get(), path.c_str(), &how, sizeof(how))));
  if (!fd)
    return errno == ENOENT || errno == ENOTDIR
               ? Result<std::string>(std::string())
               : fail_errno(fmt::format("open {} of the image", path));
  struct stat st{};
  if (::fstat(fd.get(), &st) != 0 || !S_ISREG(st.st_mode))
    return fail(Errc::kInvalid, fmt::format("{} of the image is not a regular file", path));
  std::string text;
  char buffer[16384];
  for (ssize_t n; (n = ::read(fd.get(), buffer, sizeof(buffer))) != 0;) {
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return fail_errno(fmt::format("read {} of the image", path));
    text.append(buffer, static_cast<std::size_t>(n));
    if (text.size() > kFileBytesMax)
      return fail(Errc::kExhausted,
                  fmt::format("{} of the image is larger than {} bytes", path, kFileBytesMax));
  }
  return text;
}

}  // namespace shoal::runtime
