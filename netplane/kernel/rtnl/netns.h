// SPDX-License-Identifier: Apache-2.0
// Network namespaces, each held by a file descriptor: the fd keeps the namespace alive, no name in
// /run/netns and no mount is made.
//
// Threading: a namespace belongs to a thread, not to the process. NetnsScope changes the calling
// thread only and changes it back; it must end on the thread that began it. create_netns works on a
// helper thread, so that the caller's namespace is never in doubt.
#pragma once

#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <sys/types.h>
#include <utility>

namespace shoal::kernel {

Result<UniqueFd> open_current_netns();  // of the calling thread
// Pids are reused: hold the process by open_pidfd() before, and ask again after.
Result<UniqueFd> open_netns_of(pid_t pid);
// kInvalid when it is no network namespace.
Result<UniqueFd> open_netns_at(const std::filesystem::path& path);
// Empty: only lo, and that is down.
Result<UniqueFd> create_netns();

// The inode number of the namespace: the same for two fds of one namespace, and what `ls -l
// /proc/PID/ns/net` shows. It may be reused once the namespace is gone.
Result<std::uint64_t> netns_inode(int netns_fd);

// Every namespace that some process on this machine is in, the calling thread's own first; each
// once. `visit` gets a descriptor for as long as it runs. Processes may come and go meanwhile; of
// what only a file descriptor or a mount holds nothing is seen.
Result<> for_each_netns(const std::function<void(int netns_fd)>& visit);

// The calling thread is in another namespace for as long as the scope lives. Scopes nest. Failing
// to come back would leave a thread working on the wrong network: that ends the program.
class NetnsScope {
public:
  static Result<NetnsScope> enter(int netns_fd);
  NetnsScope(NetnsScope&& other) noexcept = default;
  NetnsScope& operator=(NetnsScope&&) = delete;
  ~NetnsScope();

private:
  explicit NetnsScope(UniqueFd home) : home_(std::move(home)) {}
  UniqueFd home_;
};

}  // namespace shoal::kernel
