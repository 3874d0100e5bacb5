// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/rtnl/netns.h"

#include "netplane/base/strings.h"

#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/nsfs.h>
#include <optional>
#include <sched.h>
#include <set>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace shoal::kernel {
namespace {

constexpr const char* kOwnNetns = "/proc/thread-self/ns/net";

Result<UniqueFd> open_fd(const char* path) {
  UniqueFd fd(::open(path, O_RDONLY | O_CLOEXEC));
  if (!fd)
    return fail_errno(fmt::format("open network namespace {}", path));
  return fd;
}

}  // namespace

Result<UniqueFd> open_current_netns() { return open_fd(kOwnNetns); }

Result<UniqueFd> open_netns_of(pid_t pid) {
  return open_fd(fmt::format("/proc/{}/ns/net", pid).c_str());
}

Result<UniqueFd> open_netns_at(const std::filesystem::path& path) {
  UniqueFd fd = SHOAL_TRY(open_fd(path.c_str()));
  if (::ioctl(fd.get(), NS_GET_NSTYPE) != CLONE_NEWNET)
    return fail(Errc::kInvalid, fmt::format("{} is not a network namespace", path.string()));
  return fd;
}

Result<UniqueFd> create_netns() {
  std::optional<Result<UniqueFd>> made;
  try {
    std::thread maker([&made] {
      if (::unshare(CLONE_NEWNET) != 0)
        made = fail_errno("create a network namespace");
      else
        made = open_current_netns();
    });
    maker.join();
  } catch (const std::system_error& error) {
    return fail_errno(error.code().value(), "start a thread that makes a network namespace");
  }
  return std::move(*made);
}

Result<std::uint64_t> netns_inode(int netns_fd) {
  struct stat st{};
  if (::fstat(netns_fd, &st) != 0)
    return fail_errno("stat a network namespace");
  return st.st_ino;
}

Result<> for_each_netns(const std::function<void(int netns_fd)>& visit) {
  std::set<std::uint64_t> seen;
  {
    const UniqueFd own = SHOAL_TRY(open_current_netns());
    seen.insert(SHOAL_TRY(netns_inode(own.get())));
    visit(own.get());
  }
  std::error_code error;
  std::filesystem::directory_iterator processes("/proc", error);
  for (; !error && processes != std::filesystem::directory_iterator(); processes.increment(error)) {
    const std::string pid = processes->path().filename().string();
    if (!parse_uint(pid))
      continue;
    // Asked before it is opened: most processes share a namespace with another one.
    const std::string path = fmt::format("/proc/{}/ns/net", pid);
    struct stat st{};
    if (::stat(path.c_str(), &st) != 0 || seen.contains(st.st_ino))
      continue;  // a process that has ended has none
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd)
      continue;
    if (const auto inode = netns_inode(fd.get()); inode && seen.insert(*inode).second)
      visit(fd.get());
  }
  if (error)
    return fail_errno(error.value(), "list processes");
  return {};
}

Result<NetnsScope> NetnsScope::enter(int netns_fd) {
  UniqueFd home = SHOAL_TRY(open_current_netns());
  if (::setns(netns_fd, CLONE_NEWNET) != 0)
    return fail_errno("enter a network namespace");
  return NetnsScope(std::move(home));
}

NetnsScope::~NetnsScope() {
  if (home_)
    SHOAL_ASSERT(::setns(home_.get(), CLONE_NEWNET) == 0);
}

}  // namespace shoal::kernel
