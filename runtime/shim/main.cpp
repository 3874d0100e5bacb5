// SPDX-License-Identifier: Apache-2.0
// shoal-shim: one per pod. It holds the pod's network, IPC and UTS namespaces (and, by a process of
// its own, a pid namespace that containers share: holder.h), runs the OCI runtime, reaps the
// containers, writes their logs and answers the agent. It outlives shoald, and ends by a shutdown
// request, or with its host: SIGTERM is what a machine that goes down sends to everybody, and
// containers get a short while then.
//
// Start: shoald runs it as a child; it leaves two forks behind it and answers shoald by the exit of
// the first process: 0 once the socket listens, otherwise 1 and the reason on standard error.
#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"
#include "runtime/shim/holder.h"
#include "runtime/shim/options.h"
#include "runtime/shim/server.h"
#include "runtime/shim/sys.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <linux/mount.h>
#include <net/if.h>
#include <sched.h>
#include <span>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

namespace shoal::runtime::shim {
namespace {

constexpr const char* kProgram = "/proc/self/exe";
constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

Result<> join_cgroups(const Options& options) {
  for (const std::string& folder : options.join)
    if (!write_small_file(folder + "/cgroup.procs", "0"))
      return fail_errno("join cgroup " + folder);
  return {};
}

Result<> bring_loopback_up() {
  const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strncpy(request.ifr_name, "lo", IFNAMSIZ - 1);
  if (!fd || ::ioctl(fd.get(), SIOCGIFFLAGS, &request) != 0)
    return fail_errno("read the flags of lo");
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  if (::ioctl(fd.get(), SIOCSIFFLAGS, &request) != 0)
    return fail_errno("set lo up");
  return {};
}

Result<> make_namespaces(const Options& options) {
  const int flags = (options.host_ipc ? 0 : CLONE_NEWIPC) |
                    (options.host_network ? 0 : CLONE_NEWNET | CLONE_NEWUTS);
  if (::unshare(flags) != 0)
    return fail_errno("make the pod's namespaces");
  if (options.host_network)
    return {};
  if (::sethostname(options.hostname.data(), options.hostname.size()) != 0)
    return fail_errno("set the pod's host name");
  SHOAL_TRY(bring_loopback_up());
  // A process without privileges may bind port 80 and ping: the namespace is the pod's own. Kernels
  // without these settings go on without.
  write_small_file("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
  write_small_file("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
  return {};
}

// The pid namespace that the pod's containers share, under the name that their specs have for it.
Result<Holder> hold_pids(const Options& options, std::span<char> command_line) {
  if (!options.share_pids)
    return Holder{};
  Holder holder = SHOAL_TRY(start_holder(command_line, options.pod_dir.c_str()));
  const std::string name = options.pod_dir + "/" + kPidNamespaceName;
  if (::symlink(("/proc/" + std::to_string(holder.pid) + "/ns/pid").c_str(), name.c_str()) != 0)
    return fail_errno("make the link " + name);
  return holder;
}

Result<UniqueFd> listen_at(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  // A pod's folder may be too long for sun_path: the shim stands in it and binds the plain name.
  std::strncpy(address.sun_path, "shim.sock", sizeof(address.sun_path) - 1);
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd)
    return fail_errno("make a socket");
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
      ::chmod("shim.sock", 0600) != 0 || ::listen(fd.get(), 64) != 0)
    return fail_errno("listen at " + path + "/shim.sock");
  return fd;
}

Result<UniqueFd> watch_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigaddset(&set, SIGTERM);
  if (::sigprocmask(SIG_BLOCK, &set, nullptr) != 0)
    return fail_errno("block signals");
  UniqueFd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd)
    return fail_errno("make a signalfd");
  return fd;
}

Result<std::unique_ptr<Server>> set_up(const Options& options, std::span<char> command_line) {
  ::umask(022);
  for (const int signal : {SIGPIPE, SIGINT, SIGHUP})
    ::signal(signal, SIG_IGN);
  if (::chdir(options.pod_dir.c_str()) != 0)
    return fail_errno("enter " + options.pod_dir);
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0)
    return fail_errno("become a subreaper");
  SHOAL_TRY(join_cgroups(options));
  SHOAL_TRY(make_namespaces(options));
  const Holder holder = SHOAL_TRY(hold_pids(options, command_line));
  UniqueFd signals = SHOAL_TRY(watch_signals());
  UniqueFd listener = SHOAL_TRY(listen_at(options.pod_dir));
  return Server::make(options, holder, std::move(listener), std::move(signals));
}

// Standard streams that belong to nobody: the agent's end with the agent.
bool detach_streams(const std::string& pod_dir) {
  const int null_fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  const int log_fd =
      ::open((pod_dir + "/shim.log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  return null_fd >= 0 && log_fd >= 0 && ::dup2(null_fd, 0) == 0 && ::dup2(null_fd, 1) == 1 &&
         ::dup2(log_fd, 2) == 2;
}

[[noreturn]] void run_daemon(const Options& options, std::span<char> command_line,
                             UniqueFd report) {
  ::setsid();
  if (const pid_t pid = ::fork(); pid != 0)
    ::_exit(pid < 0 ? 1 : 0);
  auto server = set_up(options, command_line);
  if (!server || !detach_streams(options.pod_dir)) {
    const std::string text = server ? "open /dev/null and shim.log" : server.error().message();
    [[maybe_unused]] const ssize_t n = ::write(report.get(), text.data(), text.size());
    ::_exit(1);
  }
  [[maybe_unused]] const ssize_t n = ::write(report.get(), "+", 1);
  report.reset();
  (*server)->run();
  ::_exit(0);
}

// The file that this runs from, where nothing can be written to it: one of a read-only mount of its
// own, or a copy that is sealed.
UniqueFd read_only_program() {
  UniqueFd program(static_cast<int>(
      ::syscall(SYS_open_tree, AT_FDCWD, kProgram, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)));
  mount_attr read_only{};
  read_only.attr_set = MOUNT_ATTR_RDONLY;
  if (program && ::syscall(SYS_mount_setattr, program.get(), "", AT_EMPTY_PATH, &read_only,
                           sizeof(read_only)) == 0)
    return program;
  const UniqueFd file(::open(kProgram, O_RDONLY | O_CLOEXEC));
  UniqueFd copy(::memfd_create("shoal-shim", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  struct stat info{};
  if (!file || !copy || ::fstat(file.get(), &info) != 0)
    return UniqueFd();
  for (off_t at = 0; at < info.st_size;)
    if (::sendfile(copy.get(), file.get(), &at, static_cast<std::size_t>(info.st_size - at)) <= 0)
      return UniqueFd();
  if (::fcntl(copy.get(), F_ADD_SEALS, kSeals) != 0)
    return UniqueFd();
  return copy;
}

bool is_read_only() {
  const UniqueFd file(::open(kProgram, O_RDONLY | O_CLOEXEC));
  struct statvfs place{};
  if (!file || ::fstatvfs(file.get(), &place) != 0)
    return false;
  const int seals = ::fcntl(file.get(), F_GET_SEALS);
  return (place.f_flag & ST_RDONLY) != 0 || (seals >= 0 && (seals & kSeals) == kSeals);
}

// A command that is run in a container is this program until it becomes another one, and an image
// may have it become /proc/self/exe: this program again, whose file the container could then open
// and write to, for the next pod to run as the host's root (CVE-2019-5736).
void leave_the_file(char** argv) {
  if (is_read_only())
    return;
  const UniqueFd program = read_only_program();
  if (program)
    ::syscall(SYS_execveat, program.get(), "", argv, environ, AT_EMPTY_PATH);
  std::fprintf(stderr, "shoal-shim: cannot run from a file that nobody writes to: %s\n",
               std::strerror(errno));
  ::_exit(1);
}

int start(const Options& options, std::span<char> command_line) {
  ::close_range(3, ~0U, 0);  // whatever the agent forgot to close
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) {
    std::perror("shoal-shim: pipe");
    return 1;
  }
  UniqueFd read_end(fds[0]);
  UniqueFd write_end(fds[1]);
  const pid_t pid = ::fork();
  if (pid == 0) {
    read_end.reset();
    run_daemon(options, command_line, std::move(write_end));
  }
  write_end.reset();
  if (pid > 0)
    ::waitpid(pid, nullptr, 0);
  std::string answer;
  char buffer[512];
  for (ssize_t n; (n = ::read(read_end.get(), buffer, sizeof(buffer))) > 0;)
    answer.append(buffer, static_cast<std::size_t>(n));
  if (answer == "+")
    return 0;
  std::fprintf(stderr, "shoal-shim: %s\n", answer.empty() ? "died at its start" : answer.c_str());
  return 1;
}

}  // namespace
}  // namespace shoal::runtime::shim

int main(int argc, char** argv) {
  shoal::runtime::shim::leave_the_file(argv);
  ::prctl(PR_SET_NAME, "shoal-shim");  // what is run by a descriptor has the name of that
  const auto options = shoal::runtime::shim::parse_options(argc, argv);
  if (!options) {
    std::fprintf(stderr, "shoal-shim: %s\n", options.error().message().c_str());
    return 2;
  }
  char* const end = argv[argc - 1] + std::strlen(argv[argc - 1]);
  return shoal::runtime::shim::start(*options, {argv[0], end});
}
