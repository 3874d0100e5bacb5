// SPDX-License-Identifier: Apache-2.0
// Commands in containers, and who is attached to them.
#include "runtime/spec/host_devices.h"
#include "tests/unit/runtime/sandbox/sandbox_fixture.h"

#include <array>
#include <csignal>
#include <fcntl.h>
#include <functional>
#include <optional>
#include <sys/ioctl.h>
#include <sys/socket.h>

namespace shoal::runtime {
namespace {

TEST_F(SandboxTest, ExecCarriesStreamsAndExitCode) {
  start();
  expect_running(box.run("pod-a", main, box.config("pod-a", main, "sleep 1000")));
  const ExecOutput output =
      exec(main, {"sh", "-c", "cat; echo bad >&2; echo $GREETING; exit 3"}, 0, "in\n");
  EXPECT_EQ(output.exit_code, 3);
  EXPECT_EQ(output.out, "in\nhello\n");
  EXPECT_EQ(output.err, "bad\n");
  // Far more output than a pipe holds.
  EXPECT_EQ(exec(main, {"sh", "-c", "yes | head -c 700000"}).out.size(), 700000U);
  const ExecOutput missing = exec(main, {"/no/such"});
  EXPECT_NE(missing.exit_code, 0);
  EXPECT_NE(missing.err.find("/no/such"), std::string::npos) << missing.err;
  // A time limit, and a client that goes away: the command dies with either.
  const ExecOutput late = exec(main, {"sleep", "1000"}, 100);
  EXPECT_TRUE(late.timed_out);
  EXPECT_EQ(late.exit_code, 137);
  {
    auto session =
        ExecSession::enter(box.env.socket("pod-a"), {main, {"sleep", "777"}}, std::array{0, 1, 2});
    ASSERT_TRUE(session);
    ASSERT_TRUE(
        wait_until([&] { return exec(main, {"ps"}).out.find("sleep 777") != std::string::npos; }));
  }
  EXPECT_TRUE(
      wait_until([&] { return exec(main, {"ps"}).out.find("sleep 777") == std::string::npos; }));
  const auto nobody = exec_and_collect(
      box.env.socket("pod-a"), shim::EnterRequest{{"other", 0}, {"true"}}, std::chrono::seconds(5));
  EXPECT_EQ(nobody.error().code(), Errc::kNotFound);
}

// The way of earlier agents, and of containers that were made by them.
TEST_F(SandboxTest, ExecByTheRuntimeCarriesStreamsAndExitCode) {
  start();
  const ContainerConfig config = box.config("pod-a", main, "sleep 1000");
  expect_running(box.run("pod-a", main, config));
  const auto run = [&](std::vector<std::string> argv, std::uint32_t timeout_ms = 0) {
    return exec_by_runtime(main, config, std::move(argv), timeout_ms, "in\n");
  };
  const ExecOutput output = run({"sh", "-c", "cat; echo bad >&2; echo $GREETING; exit 3"});
  EXPECT_EQ(output.exit_code, 3);
  EXPECT_EQ(output.out, "in\nhello\n");
  EXPECT_EQ(output.err, "bad\n");
  EXPECT_NE(run({"/no/such"}).exit_code, 0);
  // Long enough for the OCI runtime to have begun it: one that is killed before says 1.
  const ExecOutput late = run({"sleep", "1000"}, 3000);
  EXPECT_TRUE(late.timed_out);
  EXPECT_EQ(late.exit_code, 137);
}

// What a process can see of what it is. The OCI runtime is the oracle.
TEST_F(SandboxTest, AFurtherProcessIsWhatTheRuntimeWouldMakeOfIt) {
  start();
  const std::vector<std::string> look = {
      "sh", "-c",
      "grep -Ev '^(Name|Pid|Tgid|NStgid|NSpid|PPid|NSpgid|NSsid|Vm|Rss|Hugetlb|Threads|Sig|Shd|"
      "voluntary|nonvoluntary|Speculation|Mems|Cpus|x86|FDSize|THP|untag|CoreD)' /proc/self/status;"
      "cat /proc/self/limits; umask; pwd; export; ls -l /proc/self/ns | "
      "sed 's/.*-> //'; sed 's/[0-9]*://' /proc/self/cgroup; ls /proc/self/fd | wc -l"};
  std::uint32_t attempt = 0;
  const auto compare = [&](const char* what, const std::function<void(ContainerConfig&)>& change) {
    SCOPED_TRACE(what);
    const ContainerRef ref{"main", attempt++};
    ContainerConfig config = box.config("pod-a", ref, "exec sleep 1000");
    config.env.push_back("HOME=/somewhere");
    change(config);
    expect_running(box.run("pod-a", ref, config));
    const ExecOutput theirs = exec_by_runtime(ref, config, look);
    const ExecOutput ours = exec(ref, look);
    EXPECT_EQ(ours.exit_code, 0) << ours.err;
    EXPECT_EQ(ours.out, theirs.out);
    EXPECT_NE(ours.out.find("Seccomp:"), std::string::npos);
    ASSERT_TRUE(ShimClient(box.env.socket("pod-a")).stop(ref, SIGKILL, {}));
    ASSERT_TRUE(box.wait_exit("pod-a", ref));
  };
  compare("as it is", [](ContainerConfig&) {});
  compare("another user", [](ContainerConfig& c) {
    c.user = {101, 102, {200, 7}};
    c.cwd = "/tmp";
  });
  compare("new privileges", [](ContainerConfig& c) {
    c.no_new_privileges = false;
    c.user = {101, 102, {}};
  });
  compare("other capabilities", [](ContainerConfig& c) {
    c.capabilities_add = {"NET_ADMIN"};
    c.capabilities_drop = {"CHOWN", "MKNOD"};
  });
  compare("no seccomp", [](ContainerConfig& c) { c.seccomp = false; });
  compare("limits", [](ContainerConfig& c) {
    c.nofile = 100;
    c.resources.pids = 20;
    c.resources.memory_bytes = 64 << 20;
  });
  compare("privileged", [](ContainerConfig& c) {
    c.privileged = true;
    c.capability_bound = *capability_bound();
    c.devices = host_devices();
  });
}

TEST_F(SandboxTest, WhatCannotBeRunIsSaidOnTheStandardError) {
  start();
  auto config = box.config("pod-a", main, "sleep 1000");
  config.oom_score_adj = 500;
  // More than a message to the shim may hold.
  for (int i = 0; i < 16; ++i)
    config.env.push_back(fmt::format("LARGE{}={}", i, std::string(60'000, 'x')));
  expect_running(box.run("pod-a", main, config));
  EXPECT_EQ(exec(main, {"sh", "-c", "echo ${#LARGE15}"}).out, "60000\n");
  EXPECT_EQ(exec(main, {"cat", "/proc/self/oom_score_adj"}).out, "500\n");
  const ExecOutput missing = exec(main, {"nothing"});
  EXPECT_EQ(missing.exit_code, 127);
  EXPECT_EQ(missing.err, "exec: \"nothing\": executable file not found in $PATH\n");
  const ExecOutput folder = exec(main, {"/etc"});
  EXPECT_EQ(folder.exit_code, 126);
  EXPECT_EQ(folder.err, "exec: \"/etc\": Permission denied\n");
  const auto large =
      exec_and_collect(box.env.socket("pod-a"),
                       shim::EnterRequest{main, {"echo", std::string(shim::kMessageBytesMax, 'x')}},
                       std::chrono::seconds(5));
  EXPECT_EQ(large.error().code(), Errc::kInvalid);
  // Many at once, some of which end before their helpers are reaped.
  std::vector<ExecSession> sessions;
  for (int i = 0; i < 40; ++i) {
    auto session =
        ExecSession::enter(box.env.socket("pod-a"), {main, {"true"}}, std::array{0, 1, 2});
    ASSERT_TRUE(session);
    sessions.push_back(std::move(*session));
  }
  for (ExecSession& session : sessions)
    EXPECT_EQ(session.wait(std::chrono::seconds(20))->exit_code, 0);
  // Its container's end is its own.
  auto orphan =
      ExecSession::enter(box.env.socket("pod-a"), {main, {"sleep", "1000"}}, std::array{0, 1, 2});
  ASSERT_TRUE(orphan);
  ASSERT_TRUE(
      wait_until([&] { return exec(main, {"ps"}).out.find("sleep 1000") != std::string::npos; }));
  ASSERT_TRUE(ShimClient(box.env.socket("pod-a")).stop(main, SIGKILL, {}));
  EXPECT_EQ(orphan->wait(std::chrono::seconds(20))->exit_code, 137);
}

TEST_F(SandboxTest, ACommandMayHaveATerminal) {
  start();
  auto config = box.config("pod-a", main, "sleep 1000");
  config.user = {101, 102, {}};
  expect_running(box.run("pod-a", main, config));
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
  const UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  shim::EnterRequest request{main, {"sh"}};
  request.terminal = true;
  request.rows = 33;
  request.columns = 111;
  auto session = ExecSession::enter(box.env.socket("pod-a"), request, std::array{theirs.get()});
  ASSERT_TRUE(session) << session.error().message();
  theirs.reset();
  auto terminal = receive_terminal(ours.get());
  ASSERT_TRUE(terminal) << terminal.error().message();
  std::string seen;
  const auto see = [&](std::string_view text) {
    return wait_until([&] {
      char buffer[4096];
      const ssize_t n = ::read(terminal->get(), buffer, sizeof(buffer));
      if (n > 0)
        seen.append(buffer, static_cast<std::size_t>(n));
      return seen.find(text) != std::string::npos;
    });
  };
  const auto type = [&](std::string_view text) {
    EXPECT_EQ(::write(terminal->get(), text.data(), text.size()),
              static_cast<ssize_t>(text.size()));
  };
  type("tty; stty size; id -u; echo $((40 + 2))\n");
  EXPECT_TRUE(see("42")) << seen;
  EXPECT_NE(seen.find("/dev/pts/0\r\n33 111\r\n101\r\n"), std::string::npos) << seen;
  const winsize wider{40, 120, 0, 0};
  ASSERT_EQ(::ioctl(terminal->get(), TIOCSWINSZ, &wider), 0);
  type("stty size\n");
  EXPECT_TRUE(see("40 120")) << seen;
  type("echo of $TERM.\n");
  EXPECT_TRUE(see("of xterm.")) << seen;
  // Control C reaches what runs in it, and the shell goes on.
  type("sleep 4711\n");
  ASSERT_TRUE(
      wait_until([&] { return exec(main, {"ps"}).out.find("sleep 4711") != std::string::npos; }));
  type("\x03");
  type("echo $?; exit 9\n");
  EXPECT_TRUE(see("130")) << seen;
  EXPECT_EQ(session->wait(std::chrono::seconds(20))->exit_code, 9);
}

// Attached to a container: what it wrote since, and what it is told.
class Attached {
public:
  Attached(const PodBox& box, const shim::AttachRequest& request) {
    std::vector<int> theirs;
    UniqueFd ends[3];
    const auto make = [&](bool wanted, int index) {
      int fds[2];
      if (!wanted || ::pipe2(fds, O_CLOEXEC) != 0)
        return;
      const int own = index == 0 ? 1 : 0;
      ours_[index] = UniqueFd(fds[own]);
      ends[index] = UniqueFd(fds[1 - own]);
      ::fcntl(fds[own], F_SETFL, O_NONBLOCK);
      theirs.push_back(ends[index].get());
    };
    make(request.input, 0);
    make(request.output, 1);
    make(request.error, 2);
    auto session = ExecSession::attach(box.env.socket("pod-a"), request, theirs);
    EXPECT_TRUE(session) << session.error().message();
    if (session)
      session_ = std::move(*session);
  }
  void type(std::string_view text) {
    EXPECT_EQ(::write(ours_[0].get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  void end_input() { ours_[0].reset(); }
  bool sees(std::string_view text, int stream = 1) {
    return wait_until([&] {
      char buffer[4096];
      const ssize_t n = ::read(ours_[stream].get(), buffer, sizeof(buffer));
      if (n > 0)
        seen_[stream].append(buffer, static_cast<std::size_t>(n));
      return seen_[stream].find(text) != std::string::npos;
    });
  }
  const std::string& seen(int stream = 1) const { return seen_[stream]; }
  ExecSession& session() { return *session_; }
  // How it ended: the exit code, or the error.
  std::string end() {
    const auto result = session_->wait(std::chrono::seconds(20));
    return result ? std::to_string(result->exit_code) : result.error().message();
  }

private:
  UniqueFd ours_[3];
  std::string seen_[3];
  std::optional<ExecSession> session_;
};

shim::CreateRequest open_stdin(bool once = false) {
  shim::CreateRequest request;
  request.open_stdin = true;
  request.stdin_once = once;
  return request;
}

TEST_F(SandboxTest, SeveralAreAttachedToAContainer) {
  start();
  expect_running(box.run("pod-a", main,
                         box.config("pod-a", main,
                                    "while read x; do echo got $x; echo bad >&2;"
                                    " [ $x = end ] && exit 7; done; exit 8"),
                         open_stdin()));
  Attached first(box, {main, true, true, true});
  Attached second(box, {main, false, true, false});
  first.type("one\n");
  EXPECT_TRUE(first.sees("got one\n"));
  EXPECT_TRUE(first.sees("bad\n", 2));
  EXPECT_TRUE(second.sees("got one\n"));
  first.end_input();  // is not the container's end of input
  {
    Attached third(box, {main, true, true, false});
    third.type("two\n");
    EXPECT_TRUE(third.sees("got two\n"));
    EXPECT_EQ(third.seen(), "got two\n");  // from when it was attached
  }
  Attached fourth(box, {main, true, false, false});
  fourth.type("end\n");
  for (Attached* attached : {&first, &second, &fourth})
    EXPECT_EQ(attached->end(), "7");
  EXPECT_TRUE(second.sees("got two\ngot end\n"));
  ASSERT_TRUE(box.wait_exit("pod-a", main));
  EXPECT_NE(log("main").find("got two\n"), std::string::npos);
  Attached late(box, {main, false, true, false});
  EXPECT_EQ(late.end(), "container main-0 does not run");
}

TEST_F(SandboxTest, StdinOnceEndsWithTheFirstInput) {
  start();
  expect_running(box.run("pod-a", main, box.config("pod-a", main, "cat; echo over; sleep 1000"),
                         open_stdin(true)));
  {
    Attached first(box, {main, true, true, false});
    first.type("last");
    first.end_input();
    EXPECT_TRUE(first.sees("lastover\n")) << first.seen();
  }
  Attached second(box, {main, true, true, false});
  EXPECT_NE(second.end().find("takes no input"), std::string::npos);
  // A client that is gone is one that ends, too.
  const ContainerRef other{"other", 0};
  expect_running(
      box.run("pod-a", other, box.config("pod-a", other, "cat; exit 5"), open_stdin(true)));
  std::make_unique<Attached>(box, shim::AttachRequest{other, true, false, false}).reset();
  ASSERT_TRUE(box.wait_exit("pod-a", other));
  EXPECT_EQ(box.state("pod-a", other)->exit_code, 5);
}

TEST_F(SandboxTest, WithoutStdinItIsEmpty) {
  start();
  expect_running(box.run("pod-a", main, box.config("pod-a", main, "cat; sleep 1000")));
  Attached attached(box, {main, true, true, false});
  EXPECT_NE(attached.end().find("its stdin is not open"), std::string::npos);
  Attached nothing(box, {main, false, false, false});
  EXPECT_EQ(nothing.end(), "you must specify at least 1 of stdin, stdout, stderr");
}

TEST_F(SandboxTest, WhoDoesNotReadHoldsUpNobody) {
  start();
  expect_running(
      box.run("pod-a", main,
              box.config("pod-a", main,
                         "read x; yes 0123456789abcdef | head -c 4000000; echo; echo done;"
                         " read x; exit 3"),
              open_stdin()));
  Attached slow(box, {main, false, true, false});
  Attached other(box, {main, true, false, false});
  other.type("go\n");
  EXPECT_NE(slow.end().find("bytes of its output were waiting"), std::string::npos);
  EXPECT_TRUE(wait_until([&] { return log("main").ends_with("\ndone\n"); }));
  other.type("x\n");
  EXPECT_EQ(other.end(), "3");
}

TEST_F(SandboxTest, AContainerHasATerminalOfItsOwn) {
  start();
  auto config = box.config("pod-a", main, "stty size; while read x; do eval \"$x\"; done");
  config.terminal = true;
  config.user = {101, 102, {}};
  expect_running(box.run("pod-a", main, config, open_stdin(true)));
  {
    Attached attached(box, {main, true, true, false});
    ASSERT_TRUE(attached.session().resize(33, 111));
    attached.type("tty; stty size; echo err >&2\n");
    EXPECT_TRUE(attached.sees("33 111\r\nerr\r\n")) << attached.seen();
    // Nobody has it open for a while, and then somebody has again.
    attached.type("exec 5<&0 </dev/null >/dev/null 2>&1; exec <&5 >&5; echo again\n");
    EXPECT_TRUE(attached.sees("\nagain")) << attached.seen();
  }
  Attached again(box, {main, true, true, false});  // also where stdin is for once
  again.type("echo $((40 + 2))\n");
  EXPECT_TRUE(again.sees("42\r\n")) << again.seen();
  again.type("exit 4\n");
  EXPECT_EQ(again.end(), "4");
  ASSERT_TRUE(box.wait_exit("pod-a", main));
  EXPECT_NE(log("main").find("33 111\r\n"), std::string::npos) << log("main");
  // What is written before anybody looks is not lost, however short its time.
  const ContainerRef brief{"brief", 0};
  config = box.config("pod-a", brief, "echo there and gone");
  config.terminal = true;
  expect_running(box.run("pod-a", brief, config));
  ASSERT_TRUE(box.wait_exit("pod-a", brief));
  EXPECT_EQ(log("brief"), "there and gone\r\n");
}

}  // namespace
}  // namespace shoal::runtime
