// SPDX-License-Identifier: Apache-2.0
#include "netplane/base/process.h"

#include "netplane/base/process_watch.h"

#include "netplane/base/fs.h"
#include "netplane/base/strings.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace shoal {
namespace {

struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
};

Result<Pipe> make_pipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0)
    return fail_errno("pipe");
  return Pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

[[noreturn]] void child_fail(int report_fd, int error) {
  [[maybe_unused]] const ssize_t n = ::write(report_fd, &error, sizeof(error));
  ::_exit(127);
}

// What the parent keeps while the child runs.
struct Running {
  pid_t pid = -1;
  UniqueFd pidfd;
  UniqueFd in;
  UniqueFd out;
  UniqueFd err;
};

void set_nonblocking(int fd) { ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK); }

// False at end of file or on a hard error.
bool drain(int fd, std::string& into, std::size_t max) {
  char buffer[16384];
  for (;;) {
    const ssize_t n = ::read(fd, buffer, sizeof(buffer));
    if (n > 0) {
      if (into.size() < max)
        into.append(buffer, std::min(static_cast<std::size_t>(n), max - into.size()));
      continue;
    }
    if (n < 0 && errno == EINTR)
      continue;
    return n < 0 && errno == EAGAIN;
  }
}

int reap(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

void kill_group(pid_t pid) {
  ::kill(-pid, SIGKILL);
  ::kill(pid, SIGKILL);
}

Result<Running> start(const std::vector<std::string>& argv, const RunOptions& options) {
  Pipe in = SHOAL_TRY(make_pipe());
  Pipe out = SHOAL_TRY(make_pipe());
  Pipe err = SHOAL_TRY(make_pipe());
  Pipe report = SHOAL_TRY(make_pipe());

  std::vector<char*> args;
  for (const std::string& arg : argv)
    args.push_back(const_cast<char*>(arg.c_str()));
  args.push_back(nullptr);
  std::vector<char*> env;
  for (const std::string& entry : options.env)
    env.push_back(const_cast<char*>(entry.c_str()));
  env.push_back(nullptr);

  const pid_t pid = ::fork();
  if (pid < 0)
    return fail_errno(fmt::format("fork for {}", argv[0]));
  if (pid == 0) {
    ::setpgid(0, 0);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::signal(SIGPIPE, SIG_DFL);
    if (::dup2(in.read_end.get(), 0) < 0 || ::dup2(out.write_end.get(), 1) < 0 ||
        ::dup2(err.write_end.get(), 2) < 0)
      child_fail(report.write_end.get(), errno);
    if (!options.cwd.empty() && ::chdir(options.cwd.c_str()) != 0)
      child_fail(report.write_end.get(), errno);
    // Libraries open sockets without the flag. A child that outlives this process (a shim in its
    // first moment) would hold the listening ones against whoever is started next.
    ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    if (options.in_child)
      if (const int error = options.in_child())
        child_fail(report.write_end.get(), error);
    if (options.env.empty())
      ::execvp(args[0], args.data());
    else
      ::execvpe(args[0], args.data(), env.data());
    child_fail(report.write_end.get(), errno);
  }
  report.write_end.reset();
  int error = 0;
  ssize_t n = 0;
  do
    n = ::read(report.read_end.get(), &error, sizeof(error));
  while (n < 0 && errno == EINTR);
  if (n == sizeof(error)) {
    reap(pid);
    return fail_errno(error, fmt::format("run {}", argv[0]));
  }
  Running running;
  running.pid = pid;
  running.pidfd = UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  running.in = std::move(in.write_end);
  running.out = std::move(out.read_end);
  running.err = std::move(err.read_end);
  for (const int fd : {running.in.get(), running.out.get(), running.err.get()})
    set_nonblocking(fd);
  return running;
}

}  // namespace

Result<RunOutput> run_process(const std::vector<std::string>& argv, const RunOptions& options) {
  return run_watched(argv, options, {}, std::chrono::milliseconds(0));
}

Result<RunOutput> run_watched(const std::vector<std::string>& argv, const RunOptions& options,
                              const std::function<Result<>()>& watch,
                              std::chrono::milliseconds every) {
  SHOAL_ASSERT(!argv.empty() && (!watch || every.count() > 0));
  Running child = SHOAL_TRY(start(argv, options));
  RunOutput output;
  std::string_view input = options.input;
  if (input.empty())
    child.in.reset();
  const auto deadline = std::chrono::steady_clock::now() + options.timeout;
  auto next_look = std::chrono::steady_clock::now() + every;
  bool exited = false;
  // The child's exit ends the wait even when a grandchild still holds its pipes.
  while (!exited) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd fds[4] = {{child.pidfd.get(), POLLIN, 0},
                     {child.out.get(), POLLIN, 0},
                     {child.err.get(), POLLIN, 0},
                     {child.in.get(), POLLOUT, 0}};
    const auto wait = watch ? std::min(left, every) : left;
    const int ready = left.count() > 0 ? ::poll(fds, 4, static_cast<int>(wait.count())) : 0;
    if (ready < 0 && errno != EINTR) {
      kill_group(child.pid);
      reap(child.pid);
      return fail_errno(fmt::format("wait for {}", argv[0]));
    }
    if (watch && std::chrono::steady_clock::now() >= next_look) {
      next_look = std::chrono::steady_clock::now() + every;
      if (auto fine = watch(); !fine) {
        kill_group(child.pid);
        reap(child.pid);
        return fail(std::move(fine).error());
      }
    }
    if (ready == 0 && std::chrono::steady_clock::now() >= deadline) {
      kill_group(child.pid);
      reap(child.pid);
      return fail(Errc::kTimeout, fmt::format("{} did not finish within {} ms and was killed",
                                              argv[0], options.timeout.count()));
    }
    if (child.out && fds[1].revents &&
        !drain(child.out.get(), output.out, options.output_bytes_max))
      child.out.reset();
    if (child.err && fds[2].revents &&
        !drain(child.err.get(), output.err, options.output_bytes_max))
      child.err.reset();
    if (child.in && fds[3].revents) {
      const ssize_t n = ::write(child.in.get(), input.data(), input.size());
      if (n > 0)
        input.remove_prefix(static_cast<std::size_t>(n));
      if (input.empty() || (n < 0 && errno != EAGAIN && errno != EINTR))
        child.in.reset();
    }
    exited = fds[0].revents != 0;
  }
  output.exit_code = reap(child.pid);
  if (child.out)
    drain(child.out.get(), output.out, options.output_bytes_max);
  if (child.err)
    drain(child.err.get(), output.err, options.output_bytes_max);
  return output;
}

Result<std::string> run_checked(const std::vector<std::string>& argv, const RunOptions& options) {
  RunOutput output = SHOAL_TRY(run_process(argv, options));
  if (output.exit_code == 0)
    return std::move(output.out);
  std::string_view text = trim(output.err);
  text = text.substr(text.rfind('\n') == std::string_view::npos ? 0 : text.rfind('\n') + 1);
  return fail(Errc::kIo, fmt::format("{} exited with {}{}{}", argv[0], output.exit_code,
                                     text.empty() ? "" : ": ", printable(text, 512)));
}

Result<ProcessId> identify_process(pid_t pid) {
  const std::string stat = SHOAL_TRY(read_file(fmt::format("/proc/{}/stat", pid), 4096));
  // The command name may hold blanks and parentheses: fields are counted from the last ')'.
  const std::size_t paren = stat.rfind(')');
  if (paren == std::string::npos || paren + 2 >= stat.size())
    return fail(Errc::kCorrupt, fmt::format("/proc/{}/stat has no command name", pid));
  const auto fields = split(std::string_view(stat).substr(paren + 2), ' ');
  constexpr std::size_t kStartTime = 22 - 3;  // the field after ") " is number 3
  const auto ticks = fields.size() > kStartTime ? parse_uint(fields[kStartTime]) : std::nullopt;
  if (!ticks)
    return fail(Errc::kCorrupt, fmt::format("/proc/{}/stat has no start time", pid));
  return ProcessId{pid, *ticks};
}

Result<UniqueFd> open_pidfd(const ProcessId& id) {
  UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_open, id.pid, 0)));
  if (!fd)
    return fail_errno(fmt::format("pidfd_open {}", id.pid));
  // Checked after the open: the pidfd now pins whoever has the pid.
  auto now = identify_process(id.pid);
  if (!now || *now != id)
    return fail(Errc::kNotFound, fmt::format("process {} is gone", id.pid));
  return fd;
}

Result<> signal_pidfd(int pidfd, int signal) {
  if (::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0) != 0)
    return fail_errno("pidfd_send_signal");
  return {};
}

Result<std::string> boot_id() {
  const std::string text = SHOAL_TRY(read_file("/proc/sys/kernel/random/boot_id", 128));
  return std::string(trim(text));
}

}  // namespace shoal
