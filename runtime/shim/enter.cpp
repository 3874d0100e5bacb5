// SPDX-License-Identifier: Apache-2.0
#include "runtime/shim/enter.h"

#include "runtime/shim/sys.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace shoal::runtime::shim {
namespace {

constexpr int kCannotRun = 126;
constexpr int kNotFound = 127;

// Everything that the processes on the way need, made before there are any.
struct Plan {
  const ExecPlan& it;
  const EnterRequest& request;
  std::vector<char*> argv;
  std::vector<char*> env;
  std::string path;  // PATH
};

[[noreturn]] void give_up(const std::string& what, int error, int code = kCannotRun) {
  const std::string text = what + ": " + std::strerror(error) + "\n";
  [[maybe_unused]] const ssize_t n = ::write(STDERR_FILENO, text.data(), text.size());
  ::_exit(code);
}
void must(bool ok, const char* what) {
  if (!ok)
    give_up(std::string("enter the container: ") + what, errno);
}

// ---- as the command, in the container

void send_fd(int socket, int fd) {
  char byte = 0;
  iovec part{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  cmsghdr* rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(rights), &fd, sizeof(int));
  must(::sendmsg(socket, &header, MSG_NOSIGNAL) == 1, "pass the terminal on");
}

// What is at /dev/ptmx is the container's business: nothing but the real thing is used.
void open_terminal(const Plan& plan, int socket) {
  const int master = ::open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
  must(master >= 0, "open /dev/ptmx");
  struct stat info{};
  must(::fstat(master, &info) == 0, "look at /dev/ptmx");
  if (!S_ISCHR(info.st_mode) || info.st_rdev != makedev(5, 2))
    give_up("enter the container: /dev/ptmx", ENOTTY);
  int locked = 0;
  must(::ioctl(master, TIOCSPTLCK, &locked) == 0, "unlock the terminal");
  const int end = ::ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  must(end >= 0, "open the terminal");
  const winsize size{plan.request.rows, plan.request.columns, 0, 0};
  if (size.ws_row != 0 && size.ws_col != 0)
    must(::ioctl(end, TIOCSWINSZ, &size) == 0, "set the terminal's size");
  must(::fchown(end, plan.it.uid, static_cast<gid_t>(-1)) == 0, "give the terminal to its user");
  must(::ioctl(end, TIOCSCTTY, 0) == 0, "make it the controlling terminal");
  send_fd(socket, master);
  for (const int stream : {0, 1, 2})
    must(::dup2(end, stream) == stream, "use the terminal");
}

void load_seccomp(const ExecPlan& plan) {
  if (plan.seccomp.empty())
    return;
  // The text need not be aligned as the kernel's struct is; it copies byte by byte.
  sock_fprog program{static_cast<unsigned short>(plan.seccomp.size() / sizeof(sock_filter)),
                     reinterpret_cast<sock_filter*>(const_cast<char*>(plan.seccomp.data()))};
  must(::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, plan.seccomp_flags, &program) == 0,
       "load the seccomp program");
}

void bound_capabilities(std::uint64_t set) {
  for (unsigned i = 0; i < 64; ++i)
    if ((set >> i & 1) == 0 && ::prctl(PR_CAPBSET_DROP, i) != 0) {
      must(errno == EINVAL, "drop capabilities");
      return;  // past the last one that this kernel has
    }
}

void become_user(const ExecPlan& plan) {
  bound_capabilities(plan.capabilities);
  must(::setgroups(plan.groups.size(), plan.groups.data()) == 0, "set groups");
  must(::setresgid(plan.gid, plan.gid, plan.gid) == 0, "set the group");
  must(::prctl(PR_SET_KEEPCAPS, 1) == 0, "keep capabilities");
  must(::setresuid(plan.uid, plan.uid, plan.uid) == 0, "set the user");
  must(::prctl(PR_SET_KEEPCAPS, 0) == 0, "keep capabilities no longer");
  must(::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == 0, "clear capabilities");
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2]{};
  for (int i = 0; i < 2; ++i)
    data[i].effective = data[i].permitted =
        static_cast<std::uint32_t>(plan.capabilities >> (32 * i));
  must(::syscall(SYS_capset, &header, data) == 0, "set capabilities");
}

// As root, and once more as the user where root may not (a remote file system).
bool go_to_folder(const std::string& folder, bool again) {
  if (::chdir(folder.c_str()) != 0) {
    if (errno == EACCES && again)
      return false;
    give_up("enter the container: chdir to " + folder, errno);
  }
  // A folder outside the container's root would be "(unreachable)".
  char now[4096];
  const long length = ::syscall(SYS_getcwd, now, sizeof(now));
  if (length <= 0 || now[0] != '/')
    give_up("enter the container: " + folder, ENOENT);
  return true;
}

[[noreturn]] void run(const Plan& plan) {
  const std::string name = plan.argv[0];
  int error = ENOENT;
  if (name.find('/') != std::string::npos) {
    ::execve(plan.argv[0], plan.argv.data(), plan.env.data());
    error = errno;
  } else if (!name.empty()) {
    for (std::size_t at = 0; at <= plan.path.size();) {
      const std::size_t end = std::min(plan.path.find(':', at), plan.path.size());
      const std::string folder = plan.path.substr(at, end - at);
      const std::string file = (folder.empty() ? "." : folder) + "/" + name;
      ::execve(file.c_str(), plan.argv.data(), plan.env.data());
      if (errno != ENOENT && errno != ENOTDIR)
        error = errno;  // goes on: a program of that name may be further on
      at = end + 1;
    }
    if (error == ENOENT) {
      const std::string text = "exec: \"" + name + "\": executable file not found in $PATH\n";
      [[maybe_unused]] const ssize_t n = ::write(STDERR_FILENO, text.data(), text.size());
      ::_exit(kNotFound);
    }
  }
  give_up("exec: \"" + name + "\"", error, error == ENOENT ? kNotFound : kCannotRun);
}

[[noreturn]] void be_command(const Plan& plan, int terminal_socket) {
  must(::setsid() > 0, "make a session");
  if (plan.request.terminal)
    open_terminal(plan, terminal_socket);
  must(::close_range(3, ~0U, 0) == 0, "close files");
  ::umask(022);
  if (plan.it.nofile != 0) {
    const rlimit limit{plan.it.nofile, plan.it.nofile};
    must(::setrlimit(RLIMIT_NOFILE, &limit) == 0, "limit open files");
  }
  // Without "no new privileges" this takes a capability that the user may not have.
  if (!plan.it.no_new_privileges)
    load_seccomp(plan.it);
  const bool there = go_to_folder(plan.it.cwd, true);
  become_user(plan.it);
  if (!there)
    go_to_folder(plan.it.cwd, false);
  if (plan.it.no_new_privileges) {
    must(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "set no_new_privs");
    load_seccomp(plan.it);
  }
  run(plan);
}

// ---- as the helper

bool join(const std::string& folder) { return write_small_file(folder + "/cgroup.procs", "0"); }

// Where a container has cgroups of its own below its own, no process may be in that: it goes where
// the first one is.
std::string cgroup2_of(pid_t pid, const std::string& root) {
  const std::string text = read_small_file("/proc/" + std::to_string(pid) + "/cgroup", 65536);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    if (text.compare(at, 3, "0::") == 0)
      return root + text.substr(at + 3, end - at - 3);
    at = end + 1;
  }
  return {};
}

void join_cgroups(const ExecPlan& plan, pid_t init, const std::string& cgroup2_root, bool in_v2) {
  bool joined = in_v2;
  if (!in_v2 && !plan.cgroup2.empty()) {
    joined = join(plan.cgroup2);
    if (!joined && errno == EBUSY && !cgroup2_root.empty())
      joined = join(cgroup2_of(init, cgroup2_root));
    must(joined, "join its cgroup");
  }
  for (const std::string& folder : plan.cgroups)
    if (join(folder))
      joined = true;
    else
      must(errno == ENOENT, "join its cgroups");
  if (!joined)
    give_up("enter the container: it has no cgroup", ENOENT);
}

void clean_signals() {
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (int signal = 1; signal < NSIG; ++signal)
    if (signal != SIGKILL && signal != SIGSTOP)
      ::signal(signal, SIG_DFL);
}

[[noreturn]] void be_helper(const Plan& plan, pid_t init, const std::string& cgroup2_root,
                            bool in_v2, UniqueFd (&fds)[kExecFds], int report) {
  must(::prctl(PR_SET_DUMPABLE, 0) == 0, "hide from it");
  // The keys of the session that shoald was started in are not the command's. A kernel without keys
  // has none to give.
  (void)::syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, nullptr);
  clean_signals();
  if (!plan.request.terminal)
    for (int i = 0; i < kExecFds; ++i)
      must(::dup2(fds[i].get(), i) == i, "pass standard streams");
  if (plan.it.has_oom_score_adj)
    must(write_small_file("/proc/self/oom_score_adj", std::to_string(plan.it.oom_score_adj)),
         "set the OOM score");
  join_cgroups(plan.it, init, cgroup2_root, in_v2);
  const UniqueFd target(static_cast<int>(::syscall(SYS_pidfd_open, init, 0)));
  must(static_cast<bool>(target), "find its first process");
  must(::setns(target.get(), CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC |
                                 CLONE_NEWUTS | CLONE_NEWCGROUP) == 0,
       "join its namespaces");
  // The shim's child, not this one's: it is waited for there, and this one ends now.
  const auto pid = static_cast<pid_t>(
      ::syscall(SYS_clone, CLONE_PARENT | SIGCHLD, nullptr, nullptr, nullptr, 0));
  must(pid >= 0, "fork");
  if (pid == 0)
    be_command(plan, fds[0].get());
  ::_exit(::write(report, &pid, sizeof(pid)) == sizeof(pid) ? 0 : kCannotRun);
}

// Born in the cgroup, where the kernel can do so: no process has to be moved then.
pid_t fork_into(const std::string& cgroup2, bool* in_v2) {
  *in_v2 = false;
  if (!cgroup2.empty()) {
    const UniqueFd folder(::open(cgroup2.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    clone_args args{};
    args.flags = CLONE_INTO_CGROUP;
    args.exit_signal = SIGCHLD;
    args.cgroup = static_cast<std::uint64_t>(folder.get());
    const auto pid = static_cast<pid_t>(folder ? ::syscall(SYS_clone3, &args, sizeof(args)) : -1);
    if (pid >= 0) {
      *in_v2 = true;
      return pid;
    }
  }
  return ::fork();
}

}  // namespace

Result<Entering> enter(const ExecPlan& plan, const EnterRequest& request, pid_t init,
                       const std::string& cgroup2_root, UniqueFd (&fds)[kExecFds]) {
  Plan whole{plan, request, {}, {}, {}};
  for (const std::string& arg : request.args)
    whole.argv.push_back(const_cast<char*>(arg.c_str()));
  whole.argv.push_back(nullptr);
  for (std::size_t at = 0; at < plan.env.size(); at += std::strlen(plan.env.data() + at) + 1) {
    char* entry = const_cast<char*>(plan.env.data()) + at;
    whole.env.push_back(entry);
    if (std::strncmp(entry, "PATH=", 5) == 0)
      whole.path = entry + 5;
  }
  // What a terminal is driven by is found under this name, which images do not set.
  if (request.terminal && std::ranges::none_of(whole.env, [](const char* entry) {
        return std::strncmp(entry, "TERM=", 5) == 0;
      }))
    whole.env.push_back(const_cast<char*>("TERM=xterm"));
  whole.env.push_back(nullptr);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
    return fail_errno("make a pipe");
  Entering entering;
  entering.report = UniqueFd(ends[0]);
  const UniqueFd report(ends[1]);
  bool in_v2 = false;
  entering.helper = fork_into(plan.cgroup2, &in_v2);
  if (entering.helper < 0)
    return fail_errno("fork for a command");
  if (entering.helper == 0)
    be_helper(whole, init, cgroup2_root, in_v2, fds, report.get());
  return entering;
}

}  // namespace shoal::runtime::shim
