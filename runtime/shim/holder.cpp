// SPDX-License-Identifier: Apache-2.0
#include "runtime/shim/holder.h"

#include "netplane/base/unique_fd.h"
#include "runtime/shim/sys.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <grp.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <string>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace shoal::runtime::shim {
namespace {

constexpr std::string_view kName = "shoal-pause";
constexpr int kReport = 0;  // the one file that it has, until it has told

void must(bool ok, const char* what) {
  if (ok)
    return;
  const std::string text = std::string(what) + ": " + std::strerror(errno);
  [[maybe_unused]] const ssize_t n = ::write(kReport, text.data(), text.size());
  ::_exit(1);
}

// See the notes of pivot_root(2) on a new root that is the old one's place too.
void leave_the_hosts_files(const char* mount_point) {
  must(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, "part with mounts");
  must(::mount("tmpfs", mount_point, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY,
               "mode=555,size=4k") == 0,
       "mount an empty folder");
  must(::chdir(mount_point) == 0, "enter the empty folder");
  must(::syscall(SYS_pivot_root, ".", ".") == 0, "make the empty folder its root");
  must(::umount2(".", MNT_DETACH) == 0, "unmount the host's files");
  must(::chdir("/") == 0, "enter its root");
}

void drop_privileges() {
  for (unsigned capability = 0; capability < 64; ++capability)
    if (::prctl(PR_CAPBSET_DROP, capability) != 0) {
      must(errno == EINVAL, "drop capabilities");
      break;  // past the last one that this kernel has
    }
  must(::setgroups(0, nullptr) == 0, "drop groups");
  must(::setresgid(kHolderUser, kHolderUser, kHolderUser) == 0, "become nobody's group");
  must(::setresuid(kHolderUser, kHolderUser, kHolderUser) == 0, "become nobody");
  must(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "set no_new_privs");
}

[[noreturn]] void be_holder(int report, std::span<char> command_line, const char* mount_point) {
  must(::dup2(report, kReport) == kReport && ::close_range(kReport + 1, ~0U, 0) == 0,
       "close files");
  must(::prctl(PR_SET_DUMPABLE, 0) == 0, "hide from the pod");
  (void)::setsid();
  ::prctl(PR_SET_NAME, kName.data());
  std::ranges::fill(command_line, '\0');
  std::ranges::copy(kName.substr(0, std::min(kName.size(), command_line.size())),
                    command_line.begin());
  // The keys of the session that shoald was started in. A kernel without keys has none.
  (void)::syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nullptr);
  leave_the_hosts_files(mount_point);
  drop_privileges();
  must(::prctl(PR_SET_DUMPABLE, 0) == 0, "hide from the pod");  // a change of user may undo it
  must(::prctl(PR_SET_PDEATHSIG, SIGKILL) == 0, "end with the shim");
  ::signal(SIGCHLD, SIG_IGN);  // the kernel reaps for whom it does not matter
  // A shim that died before it could be followed reads this no more.
  if (::write(kReport, "+", 1) != 1)
    ::_exit(1);
  ::close(kReport);
  for (;;)
    ::pause();
}

}  // namespace

Result<Holder> start_holder(std::span<char> command_line, const char* mount_point) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    return fail_errno("make a pipe");
  const UniqueFd answer(ends[0]);
  UniqueFd report(ends[1]);
  const auto pid = static_cast<pid_t>(
      ::syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWNS | SIGCHLD, nullptr, nullptr, nullptr, 0));
  if (pid < 0)
    return fail_errno("make the pod's pid namespace");
  if (pid == 0)
    be_holder(report.get(), command_line, mount_point);
  report.reset();
  std::string text;
  char buffer[512];
  for (ssize_t n;
       text.size() < sizeof(buffer) && (n = ::read(answer.get(), buffer, sizeof(buffer))) > 0;)
    text.append(buffer, static_cast<std::size_t>(n));
  if (text == "+")
    return Holder{pid, start_ticks(pid)};
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  return fail(Errc::kIo, "start the process that holds the pod's pid namespace: " +
                             (text.empty() ? "it died" : text));
}

}  // namespace shoal::runtime::shim
