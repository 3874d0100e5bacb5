// SPDX-License-Identifier: Apache-2.0
#include "runtime/shim/spawn.h"

#include "netplane/base/unique_fd.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace shoal::runtime::shim {
namespace {

constexpr int kStackedMountsMax = 8;

[[noreturn]] void give_up(const Spawn& spawn, const char* what, int code) {
  char text[256];
  const int length = std::snprintf(text, sizeof(text), "%s: %s\n", what, std::strerror(errno));
  int fd = STDERR_FILENO;
  if (!spawn.error_file.empty())
    fd = ::open(spawn.error_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  [[maybe_unused]] const ssize_t n = ::write(fd, text, static_cast<std::size_t>(length));
  ::_exit(code);
}

bool join_cgroup(const std::string& leaf) {
  if (::mkdir(leaf.c_str(), 0755) != 0 && errno != EEXIST)
    return false;
  const UniqueFd fd(::open((leaf + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
  return fd && ::write(fd.get(), "0", 1) == 1;
}

// The nearest mount above a mount point, with all that is mounted below it. Slave, not private:
// what the host unmounts later goes away here too. The other mounts stay the host's peers, for
// containers that share theirs with it.
bool cut_off(std::string mount_point) {
  do {
    mount_point.resize(mount_point.find_last_of('/'));
    const char* above = mount_point.empty() ? "/" : mount_point.c_str();
    if (::mount(nullptr, above, nullptr, MS_REC | MS_SLAVE, nullptr) == 0)
      return true;
  } while (errno == EINVAL && !mount_point.empty());  // no mount point
  return false;
}

// The OCI runtime makes its files for that tree all the same: on a mount that goes with it, or they
// would stay on what lies beneath until that has no room for the next container.
bool hide(const std::string& mount_point) {
  if (::unshare(CLONE_NEWNS) != 0 || !cut_off(mount_point))
    return false;
  // A subtree may be mounted over the whole tree: all of the stack goes.
  int hidden = 0;
  while (hidden < kStackedMountsMax && ::umount2(mount_point.c_str(), MNT_DETACH) == 0)
    ++hidden;
  return hidden > 0 && ::mount("tmpfs", mount_point.c_str(), "tmpfs",
                               MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755,size=256k") == 0;
}

[[noreturn]] void run_child(const Spawn& spawn, int null_fd) {
  ::setpgid(0, 0);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const int signal : {SIGPIPE, SIGTERM, SIGINT, SIGHUP})
    ::signal(signal, SIG_DFL);
  const auto or_null = [null_fd](int fd) { return fd < 0 ? null_fd : fd; };
  // None of the sources is 0, 1 or 2: the shim keeps /dev/null there.
  if (::dup2(or_null(spawn.stdin_fd), 0) < 0 || ::dup2(or_null(spawn.stdout_fd), 1) < 0 ||
      ::dup2(or_null(spawn.stderr_fd), 2) < 0)
    give_up(spawn, "pass standard streams", 126);
  if (spawn.extra_fd >= 0 && ::fcntl(spawn.extra_fd, F_SETFD, 0) != 0)
    give_up(spawn, "pass a file", 126);
  if (!spawn.cgroup2_leaf.empty() && !join_cgroup(spawn.cgroup2_leaf))
    give_up(spawn, ("join cgroup " + spawn.cgroup2_leaf).c_str(), 126);
  if (!spawn.hide_mount.empty() && !hide(spawn.hide_mount))
    give_up(spawn, ("hide the cgroup2 tree at " + spawn.hide_mount).c_str(), 126);
  std::vector<char*> argv;
  for (const std::string& arg : spawn.argv)
    argv.push_back(const_cast<char*>(arg.c_str()));
  argv.push_back(nullptr);
  ::execv(argv[0], argv.data());
  give_up(spawn, ("run " + spawn.argv[0]).c_str(), 127);
}

}  // namespace

Result<pid_t> spawn(const Spawn& spawn) {
  const UniqueFd null_fd(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null_fd)
    return fail_errno("open /dev/null");
  const pid_t pid = ::fork();
  if (pid < 0)
    return fail_errno("fork for " + spawn.argv[0]);
  if (pid == 0)
    run_child(spawn, null_fd.get());
  ::setpgid(pid, pid);  // also here: whoever comes first
  return pid;
}

int exit_code_of(int status) {
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

bool kill_children_of(pid_t pid) {
  const std::string id = std::to_string(pid);
  const UniqueFd fd(
      ::open(("/proc/" + id + "/task/" + id + "/children").c_str(), O_RDONLY | O_CLOEXEC));
  char text[512] = {};
  const ssize_t n = fd ? ::read(fd.get(), text, sizeof(text) - 1) : -1;
  bool found = false;
  char* at = text;
  while (n > 0) {
    char* end = at;
    const long child = std::strtol(at, &end, 10);
    if (end == at || child <= 1)
      break;
    ::kill(static_cast<pid_t>(child), SIGKILL);
    found = true;
    at = end;
  }
  return found;
}

}  // namespace shoal::runtime::shim
