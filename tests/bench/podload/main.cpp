// SPDX-License-Identifier: Apache-2.0
// The cost of a command in a container that runs: by the container's shim, as a probe has it, and
// by the least that it takes, setns + fork + exec + wait. Both run the same program so many times,
// one after the other, and print {"wall_us", "cpu_us"} a command. CPU time is that of everybody who
// takes part: this program, the shim, their children.
#include "netplane/base/fs.h"
#include "netplane/base/process.h"
#include "netplane/base/strings.h"
#include "runtime/sandbox/shim_client.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

using shoal::Result;
using shoal::UniqueFd;
namespace runtime = shoal::runtime;

constexpr int kNamespaces =
    CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;

[[noreturn]] void die(const std::string& why) {
  std::fprintf(stderr, "shoal-podload: %s\n", why.c_str());
  std::exit(1);
}

double used_us(int who) {
  rusage usage{};
  ::getrusage(who, &usage);
  const auto us = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_usec);
  };
  return us(usage.ru_utime) + us(usage.ru_stime);
}

// Of a process and the children it has waited for; to a clock tick.
double used_us_by(pid_t pid) {
  const auto stat = shoal::read_file(fmt::format("/proc/{}/stat", pid), 4096);
  if (!stat)
    die(stat.error().message());
  const std::string fields = stat->substr(stat->rfind(')') + 1);  // state is the first
  double ticks = 0;
  std::size_t at = 0;
  for (int field = 3; field <= 17; ++field) {
    at = fields.find_first_not_of(' ', at);
    const std::size_t end = fields.find(' ', at);
    if (field >= 14)  // utime, stime, cutime, cstime
      ticks += std::strtod(fields.c_str() + at, nullptr);
    at = end;
  }
  return ticks * 1e6 / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

void by_shim(const std::string& socket, const runtime::shim::EnterRequest& request) {
  const UniqueFd null_fd(::open("/dev/null", O_RDWR | O_CLOEXEC));
  auto session = runtime::ExecSession::enter(
      socket, request, std::array{null_fd.get(), null_fd.get(), null_fd.get()});
  if (!session)
    die(session.error().message());
  const auto result = session->wait(std::chrono::seconds(10));
  if (!result || result->exit_code != 0)
    die(result ? fmt::format("the command ended with {}", result->exit_code)
               : result.error().message());
}

int wait_for(pid_t pid) {
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

void by_hand(int pidfd, char** argv) {
  const pid_t helper = ::fork();
  if (helper == 0) {
    if (::setns(pidfd, kNamespaces) != 0)
      ::_exit(125);
    const pid_t command = ::fork();
    if (command == 0) {
      ::execv(argv[0], argv);
      ::_exit(127);
    }
    ::_exit(wait_for(command));
  }
  if (const int code = wait_for(helper); code != 0)
    die(fmt::format("the command ended with {}", code));
}

}  // namespace

// shoal-podload shim SOCKET NAME ATTEMPT COUNT COMMAND...   or   hand PID COUNT COMMAND...
int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  const int first = mode == "shim" ? 6 : 4;
  if ((mode != "shim" && mode != "hand") || argc <= first)
    die("shim SOCKET NAME ATTEMPT COUNT COMMAND... or hand PID COUNT COMMAND...");
  const auto number = [&](int at) {
    const auto value = shoal::parse_uint(argv[at], 1'000'000'000);
    if (!value)
      die(fmt::format("\"{}\" is not a number", argv[at]));
    return static_cast<std::uint32_t>(*value);
  };
  const std::uint32_t count = number(first - 1);
  runtime::shim::EnterRequest request;
  UniqueFd pidfd;
  pid_t shim = 0;
  if (mode == "shim") {
    request.ref = {argv[3], number(4)};
    request.args.assign(argv + first, argv + argc);
    const auto facts = runtime::ShimClient(argv[2]).state();
    if (!facts)
      die(facts.error().message());
    shim = facts->state.shim_pid;
  } else {
    pidfd = UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, number(2), 0)));
    if (!pidfd)
      die(std::strerror(errno));
  }
  const auto cpu = [&] {
    return used_us(RUSAGE_SELF) + used_us(RUSAGE_CHILDREN) + (shim != 0 ? used_us_by(shim) : 0);
  };
  const double cpu_before = cpu();
  const auto began = std::chrono::steady_clock::now();
  for (std::uint32_t i = 0; i < count; ++i)
    if (mode == "shim")
      by_shim(argv[2], request);
    else
      by_hand(pidfd.get(), argv + first);
  const std::chrono::duration<double, std::micro> wall = std::chrono::steady_clock::now() - began;
  std::printf("{\"wall_us\": %.1f, \"cpu_us\": %.1f}\n", wall.count() / count,
              (cpu() - cpu_before) / count);
}
