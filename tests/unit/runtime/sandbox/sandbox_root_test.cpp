// SPDX-License-Identifier: Apache-2.0
// The shim with real containers: crun, busybox, cgroups. Runs as root in pid, mount and net
// namespaces of its own.
#include "netplane/base/fs.h"
#include "netplane/base/strings.h"
#include "runtime/log/log_reader.h"
#include "runtime/sandbox/container_record.h"
#include "runtime/spec/host_devices.h"
#include "tests/fakes/pod_box.h"

#include <array>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <functional>
#include <optional>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/statvfs.h>

namespace shoal::runtime {
namespace {

namespace fs = std::filesystem;
using shim::ContainerPhase;
using shim::ContainerRef;
using testing::PodBox;
using testing::wait_until;

class SandboxTest : public ::testing::Test {
protected:
  void start(const std::string& uid = "pod-a", const PodLimits& limits = {}) {
    auto started = start_sandbox(box.env, {uid, "web-1", limits});
    ASSERT_TRUE(started) << started.error().message();
    sandbox = std::move(*started);
  }
  std::string log(const std::string& container, std::uint32_t attempt = 0,
                  const std::string& uid = "pod-a") {
    auto reader = LogReader::open(box.env.log_dir(uid, container), attempt, {});
    if (!reader)
      return "!" + reader.error().message();
    std::string text;
    while (reader->read(text).value_or(0) > 0) {
    }
    return text;
  }
  ExecOutput exec(const ContainerRef& ref, std::vector<std::string> argv,
                  std::uint32_t timeout_ms = 0, std::string_view input = {}) {
    const shim::EnterRequest request{ref, std::move(argv), timeout_ms};
    auto output =
        exec_and_collect(box.env.socket("pod-a"), request, std::chrono::seconds(20), input);
    EXPECT_TRUE(output) << output.error().message();
    return output.value_or(ExecOutput{-1, false, "", ""});
  }
  // As agents did it before they wrote exec plans.
  ExecOutput exec_by_runtime(const ContainerRef& ref, ContainerConfig config,
                             std::vector<std::string> argv, std::uint32_t timeout_ms = 0,
                             std::string_view input = {}) {
    config.args = std::move(argv);
    auto output = exec_and_collect(box.env.socket("pod-a"),
                                   shim::ExecRequest{ref, *oci_process(config), timeout_ms},
                                   std::chrono::seconds(20), input);
    EXPECT_TRUE(output) << output.error().message();
    return output.value_or(ExecOutput{-1, false, "", ""});
  }
  void expect_swept(const SandboxEnv& env, const std::string& uid, Sweep what = Sweep::kAll) {
    const auto swept = sweep_sandbox(env, uid, what);
    EXPECT_TRUE(swept) << swept.error().message();
  }
  void expect_running(const Result<shim::ContainerState>& state) {
    ASSERT_TRUE(state) << state.error().message();
    EXPECT_EQ(state->phase, ContainerPhase::kRunning);
    EXPECT_GT(state->pid, 1);
  }

  PodBox box;
  Sandbox sandbox;
  const ContainerRef main{"main", 0};
};

TEST_F(SandboxTest, RunsAContainerAndKeepsItsOutputAndExitCode) {
  start();
  expect_running(
      box.run("pod-a", main,
              box.config("pod-a", main, "echo out $GREETING; echo err >&2; printf last; exit 7")));
  ASSERT_TRUE(box.wait_exit("pod-a", main));
  const auto state = box.state("pod-a", main);
  EXPECT_EQ(state->exit_code, 7);
  EXPECT_EQ(state->signal, 0);
  EXPECT_FALSE(state->oom_killed);
  EXPECT_GT(state->started_at_ns, 0);
  EXPECT_GE(state->finished_at_ns, state->started_at_ns);
  const std::string text = log("main");
  EXPECT_NE(text.find("out hello\n"), std::string::npos) << text;
  EXPECT_NE(text.find("err\n"), std::string::npos) << text;
  EXPECT_NE(text.find("last\n"), std::string::npos) << text;
  // A restart is a new attempt beside the old one's log.
  ASSERT_TRUE(ShimClient(box.env.socket("pod-a")).remove(main));
  const ContainerRef again{"main", 1};
  expect_running(box.run("pod-a", again, box.config("pod-a", again, "echo second")));
  ASSERT_TRUE(box.wait_exit("pod-a", again));
  EXPECT_EQ(log("main", 1), "second\n");
  EXPECT_EQ(*list_log_attempts(box.env.log_dir("pod-a", "main")),
            (std::vector<std::uint32_t>{0, 1}));
}

TEST_F(SandboxTest, ContainersShareThePodsNamespacesAndNoOthers) {
  start();
  const ContainerRef side{"side", 0};
  expect_running(box.run("pod-a", main, box.config("pod-a", main, "sleep 1000")));
  expect_running(box.run("pod-a", side, box.config("pod-a", side, "sleep 1000")));
  const auto ns = [&](const ContainerRef& ref, const char* name) {
    return fs::read_symlink(fmt::format("/proc/{}/ns/{}", box.state("pod-a", ref)->pid, name))
        .string();
  };
  const auto own = [](const char* name) {
    return fs::read_symlink(fmt::format("/proc/self/ns/{}", name)).string();
  };
  for (const char* shared : {"net", "ipc", "uts"}) {
    EXPECT_EQ(ns(main, shared), ns(side, shared)) << shared;
    EXPECT_NE(ns(main, shared), own(shared)) << shared;
  }
  for (const char* separate : {"pid", "mnt"}) {
    EXPECT_NE(ns(main, separate), ns(side, separate)) << separate;
    EXPECT_NE(ns(main, separate), own(separate)) << separate;
  }
  EXPECT_EQ(fs::read_symlink(fmt::format("/proc/self/fd/{}", sandbox.netns.get())).string(),
            ns(main, "net"));
  EXPECT_EQ(exec(main, {"hostname"}).out, "web-1\n");
  // In the pod's own cgroup2 leaf: socket hooks and cgroup.kill find it there.
  if (!box.env.cgroups.v2.empty()) {
    // The command is waited for before the kernel has taken it out of there.
    const fs::path procs =
        box.env.cgroups.v2 / pod_cgroup(box.env.slice, "pod-a") / "main-0" / "cgroup.procs";
    const std::string first = std::to_string(box.state("pod-a", main)->pid);
    EXPECT_TRUE(wait_until([&] { return trim(read_file(procs, 4096).value_or("")) == first; }))
        << read_file(procs, 4096).value_or("?") << ", not " << first;
  }
}

TEST_F(SandboxTest, DefaultsAreTight) {
  start();
  auto config = box.config("pod-a", main, "sleep 1000");
  config.rootfs_read_only = true;
  config.user = {101, 102, {200}};
  expect_running(box.run("pod-a", main, config));
  EXPECT_EQ(exec(main, {"id"}).out, "uid=101(web) gid=102(web) groups=200(extra)\n");
  const std::string status = exec(main, {"cat", "/proc/1/status"}).out;
  EXPECT_NE(status.find("NoNewPrivs:\t1"), std::string::npos) << status;
  EXPECT_NE(status.find("Seccomp:\t2"), std::string::npos) << status;
  EXPECT_NE(status.find("CapEff:\t0000000000000000"), std::string::npos) << status;
  EXPECT_NE(exec(main, {"touch", "/x"}).exit_code, 0);
  EXPECT_NE(exec(main, {"mount", "-t", "tmpfs", "x", "/tmp"}).exit_code, 0);
  EXPECT_NE(exec(main, {"sh", "-c", "echo 1 > /proc/sys/kernel/panic"}).exit_code, 0);
  EXPECT_EQ(exec(main, {"cat", "/proc/kcore"}).out, "");
}

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

// Also root in a container, which gets at it while it becomes a command's program, must not. That a
// program runs is no protection: it ends with the last one that does.
TEST_F(SandboxTest, NobodyWritesToAShimByOneThatRuns) {
  start();
  const std::string program = fmt::format("/proc/{}/exe", sandbox.state.shim_pid);
  const UniqueFd reader(::open(program.c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(reader) << std::strerror(errno);
  struct statvfs place{};
  ASSERT_EQ(::fstatvfs(reader.get(), &place), 0);
  EXPECT_NE(place.f_flag & ST_RDONLY, 0U);
  EXPECT_FALSE(UniqueFd(::open(program.c_str(), O_WRONLY | O_CLOEXEC)));
  EXPECT_FALSE(UniqueFd(
      ::open(fmt::format("/proc/self/fd/{}", reader.get()).c_str(), O_WRONLY | O_CLOEXEC)));
  EXPECT_EQ(trim(read_file(fmt::format("/proc/{}/comm", sandbox.state.shim_pid), 64).value_or("")),
            "shoal-shim");
}

TEST_F(SandboxTest, StopGivesGraceThenKills) {
  start();
  const ShimClient shim(box.env.socket("pod-a"));
  expect_running(box.run(
      "pod-a", main,
      box.config("pod-a", main, "trap 'echo bye; exit 0' TERM; while :; do sleep 0.05; done")));
  ASSERT_TRUE(wait_until([&] { return exec(main, {"true"}).exit_code == 0; }));
  ASSERT_TRUE(shim.stop(main, SIGTERM, std::chrono::seconds(30)));
  ASSERT_TRUE(box.wait_exit("pod-a", main));
  EXPECT_EQ(box.state("pod-a", main)->exit_code, 0);
  EXPECT_EQ(log("main"), "bye\n");
  // Process 1 of a pid namespace ignores SIGTERM without a handler: only the grace ends it.
  const ContainerRef deaf{"deaf", 0};
  expect_running(box.run("pod-a", deaf, box.config("pod-a", deaf, "sleep 1000")));
  EXPECT_EQ(shim.remove(deaf).error().code(), Errc::kConflict);
  ASSERT_TRUE(shim.stop(deaf, SIGTERM, std::chrono::seconds(1000)));
  ASSERT_TRUE(shim.stop(deaf, SIGTERM,
                        std::chrono::milliseconds(50)));  // a second stop may shorten the grace
  ASSERT_TRUE(box.wait_exit("pod-a", deaf));
  EXPECT_EQ(box.state("pod-a", deaf)->exit_code, 137);
  EXPECT_EQ(box.state("pod-a", deaf)->signal, SIGKILL);
  ASSERT_TRUE(shim.remove(deaf));
  EXPECT_EQ(shim.remove(deaf).error().code(), Errc::kNotFound);
}

TEST_F(SandboxTest, ABadCommandIsReportedInTheRuntimesWords) {
  start();
  auto config = box.config("pod-a", main, "");
  config.args = {"/no/such/program"};
  const auto failed = box.run("pod-a", main, config);
  ASSERT_FALSE(failed);
  EXPECT_NE(failed.error().message().find("/no/such/program"), std::string::npos)
      << failed.error().message();
  // Nothing of it stays: the same name is free.
  expect_running(box.run("pod-a", main, box.config("pod-a", main, "sleep 1000")));
  EXPECT_EQ(box.run("pod-a", main, box.config("pod-a", main, "true")).error().code(),
            Errc::kExists);
}

TEST_F(SandboxTest, MemoryLimitKillsAndSaysSo) {
  if (box.env.cgroups.layout != CgroupLayout::kV2 && box.env.cgroups.memory_v1.empty())
    GTEST_SKIP() << "no memory controller here";
  start();
  auto config = box.config("pod-a", main, "exec dd if=/dev/zero of=/dev/null bs=200M count=4");
  config.resources.memory_bytes = 32 << 20;
  config.resources.pids = 50;
  config.resources.cpu_milli = 500;
  expect_running(box.run("pod-a", main, config));
  ASSERT_TRUE(box.wait_exit("pod-a", main));
  const auto state = box.state("pod-a", main);
  EXPECT_EQ(state->exit_code, 137);
  EXPECT_TRUE(state->oom_killed);
}

TEST_F(SandboxTest, ThePodAsAWholeIsLimited) {
  if (box.env.cgroups.layout != CgroupLayout::kV2 && box.env.cgroups.pids_v1.empty())
    GTEST_SKIP() << "no pids controller here";
  PodLimits limits{64 << 20, 1500, 250, 20};
  start("pod-a", limits);
  const ContainerRef other{"other", 0};
  expect_running(box.run("pod-a", main, box.config("pod-a", main, "sleep 1000")));
  // More than the pod may have, in a container that has no limit of its own.
  expect_running(
      box.run("pod-a", other,
              box.config("pod-a", other,
                         "i=0; while [ $i -lt 40 ]; do sleep 1000 & i=$((i+1)); done; wait")));
  EXPECT_TRUE(wait_until([&] {
    return log("other").find("Resource temporarily unavailable") != std::string::npos;
  })) << log("other");
  const CgroupTree& tree = box.env.cgroups;
  const bool v2 = tree.layout == CgroupLayout::kV2;
  const auto value = [&](const fs::path& v1, const char* v1_file, const char* v2_file) {
    const auto text = read_file(
        (v2 ? tree.v2 : v1) / pod_cgroup(box.env.slice, "pod-a") / (v2 ? v2_file : v1_file), 4096);
    return text ? std::string(trim(*text)) : text.error().message();
  };
  EXPECT_EQ(value(tree.pids_v1, "pids.max", "pids.max"), "20");
  EXPECT_EQ(value(tree.memory_v1, "memory.limit_in_bytes", "memory.max"), "67108864");
  EXPECT_EQ(value(tree.cpu_v1, "cpu.shares", "cpu.weight"), v2 ? "10" : "256");
  EXPECT_EQ(value(tree.cpu_v1, "cpu.cfs_quota_us", "cpu.max"), v2 ? "150000 100000" : "150000");
  expect_swept(box.env, "pod-a");
  EXPECT_TRUE(list_pod_cgroups(tree, box.env.slice).empty());
}

TEST_F(SandboxTest, APrivilegedContainerIsHeldBackByNothing) {
  start();
  auto config = box.config("pod-a", main, "sleep 1000");
  config.privileged = true;
  config.capability_bound = *capability_bound();
  config.devices = host_devices();
  expect_running(box.run("pod-a", main, config));
  const auto inside = [&](const std::string& script) {
    config.args = {"/bin/sh", "-c", script};
    const auto output = exec_and_collect(box.env.socket("pod-a"), {main, *oci_process(config), 0},
                                         std::chrono::seconds(20), {});
    return output ? output->out + output->err : output.error().message();
  };
  EXPECT_EQ(inside("mount -t tmpfs x /tmp && echo mounted"), "mounted\n");
  const std::string status = inside("cat /proc/1/status");
  EXPECT_NE(status.find("NoNewPrivs:\t0"), std::string::npos) << status;
  EXPECT_NE(status.find("Seccomp:\t0"), std::string::npos) << status;
  EXPECT_NE(status.find(fmt::format("CapEff:\t{:016x}", config.capability_bound)),
            std::string::npos)
      << status;
}

TEST_F(SandboxTest, EventsTellOfStartAndEnd) {
  start();
  auto events = ShimEvents::subscribe(box.env.socket("pod-a"));
  ASSERT_TRUE(events) << events.error().message();
  EXPECT_TRUE(events->initial().containers.empty());
  expect_running(box.run("pod-a", main, box.config("pod-a", main, "exit 4")));
  std::vector<shim::ContainerState> seen;
  ASSERT_TRUE(wait_until([&] {
    for (auto& state : events->take().value_or(std::vector<shim::ContainerState>{}))
      seen.push_back(std::move(state));
    return seen.size() >= 2;
  }));
  EXPECT_EQ(seen[0].phase, ContainerPhase::kRunning);
  EXPECT_EQ(seen[1].phase, ContainerPhase::kExited);
  EXPECT_EQ(seen[1].exit_code, 4);
}

// What is on disk when nobody is left to be asked: that it ran, then how it ended.
TEST_F(SandboxTest, WhatBecameOfAContainerOutlivesItsShim) {
  start();
  const auto records = [&] { return *read_container_records(box.env.log_dir("pod-a", "main")); };
  auto config = box.config("pod-a", main, "");
  config.args = {"/no/such/program"};
  ASSERT_FALSE(box.run("pod-a", main, config));
  EXPECT_TRUE(records().empty());  // it never ran
  const auto first = box.run("pod-a", main, box.config("pod-a", main, "exit 7"));
  expect_running(first);
  ASSERT_TRUE(box.wait_exit("pod-a", main));
  const auto ended = *box.state("pod-a", main);
  ASSERT_EQ(records().size(), 1U);
  EXPECT_EQ(records()[0], ended);
  EXPECT_EQ(records()[0].exit_code, 7);
  const ContainerRef again{"main", 1};
  const auto second = box.run("pod-a", again, box.config("pod-a", again, "sleep 1000"));
  expect_running(second);
  ASSERT_EQ(::kill(sandbox.state.shim_pid, SIGKILL), 0);
  expect_swept(box.env, "pod-a", Sweep::kKeepLogs);
  ASSERT_EQ(records().size(), 2U);
  EXPECT_EQ(records()[0], ended);
  EXPECT_EQ(records()[1], *second);
  ASSERT_TRUE(drop_old_logs(box.env.log_dir("pod-a", "main"), 1));
  ASSERT_EQ(records().size(), 1U);
  EXPECT_EQ(records()[0].ref, again);
}

// The agent is nothing to the shim: whoever connects next finds the pod as it is.
TEST_F(SandboxTest, IsFoundAgain) {
  start();
  expect_running(box.run("pod-a", main, box.config("pod-a", main, "sleep 1000")));
  sandbox = {};
  auto again = find_sandbox(box.env, "pod-a");
  ASSERT_TRUE(again) << again.error().message();
  ASSERT_EQ(again->state.containers.size(), 1U);
  EXPECT_EQ(again->state.containers[0].phase, ContainerPhase::kRunning);
  EXPECT_EQ(start_sandbox(box.env, {"pod-a", "x"}).error().code(), Errc::kExists);
  ASSERT_TRUE(ShimClient(box.env.socket("pod-a")).shutdown());
  EXPECT_EQ(find_sandbox(box.env, "pod-a").error().code(), Errc::kNotFound);
  expect_swept(box.env, "pod-a");
  EXPECT_EQ(box.leaks(), std::vector<std::string>{});
}

TEST_F(SandboxTest, AKilledShimIsSwept) {
  start();
  expect_running(box.run("pod-a", main, box.config("pod-a", main, "sleep 1000 & sleep 1000")));
  const auto pid = sandbox.state.shim_pid;
  ASSERT_EQ(::kill(pid, SIGKILL), 0);
  pollfd dead{sandbox.pidfd.get(), POLLIN, 0};
  ASSERT_EQ(::poll(&dead, 1, 5000), 1);
  EXPECT_EQ(find_sandbox(box.env, "pod-a").error().code(), Errc::kNotFound);
  EXPECT_EQ(*list_sandboxes(box.env), std::vector<std::string>{"pod-a"});
  expect_swept(box.env, "pod-a", Sweep::kKeepLogs);
  EXPECT_TRUE(fs::exists(box.env.log_dir("pod-a", "main") / "0.log"));
  ASSERT_TRUE(write_file_atomic(box.env.status_file("pod-a"), "{}"));
  expect_swept(box.env, "pod-a", Sweep::kKeepLogs);
  EXPECT_TRUE(fs::exists(box.env.status_file("pod-a")));
  expect_swept(box.env, "pod-a");
  expect_swept(box.env, "pod-a");  // idempotent
  EXPECT_EQ(box.leaks(), std::vector<std::string>{});
}

TEST_F(SandboxTest, TheAgentsEnvironmentStaysTheAgents) {
  ::setenv("NOTIFY_SOCKET", "/run/systemd/notify", 1);
  start();
  ::unsetenv("NOTIFY_SOCKET");
  const auto environment =
      read_file(fmt::format("/proc/{}/environ", sandbox.state.shim_pid), 64 * 1024);
  ASSERT_TRUE(environment);
  EXPECT_TRUE(environment->starts_with("PATH=")) << *environment;
  EXPECT_EQ(std::ranges::count(*environment, '\0'), 1) << *environment;
}

// What a host that goes down sends to everybody.
TEST_F(SandboxTest, SigtermLetsContainersEndAndThenTheShim) {
  start();
  const ContainerRef side{"side", 0};
  const auto script = "trap 'echo bye; exit 5' TERM; while :; do sleep 0.05; done";
  for (const ContainerRef& ref : {main, side})
    expect_running(box.run("pod-a", ref, box.config("pod-a", ref, script)));
  for (const ContainerRef& ref : {main, side})
    ASSERT_TRUE(wait_until([&] { return exec(ref, {"true"}).exit_code == 0; }));
  ASSERT_EQ(::kill(sandbox.state.shim_pid, SIGTERM), 0);
  pollfd dead{sandbox.pidfd.get(), POLLIN, 0};
  ASSERT_EQ(::poll(&dead, 1, 20'000), 1);
  for (const ContainerRef& ref : {main, side}) {
    EXPECT_EQ(log(ref.name), "bye\n");
    EXPECT_EQ(read_container_records(box.env.log_dir("pod-a", ref.name))->back().exit_code, 5);
  }
  expect_swept(box.env, "pod-a");
  EXPECT_EQ(box.leaks(), std::vector<std::string>{});
}

TEST_F(SandboxTest, ALivingOneIsSweptToo) {
  start();
  expect_running(box.run("pod-a", main, box.config("pod-a", main, "sleep 1000")));
  expect_swept(box.env, "pod-a");
  EXPECT_EQ(box.leaks(), std::vector<std::string>{});
}

TEST_F(SandboxTest, AFailedStartLeavesNothing) {
  box.env.oci_runtime = "";
  EXPECT_FALSE(start_sandbox(box.env, {"pod-a", "web-1"}));
  EXPECT_EQ(box.leaks(), std::vector<std::string>{});
}

// Costs: the shim's memory, and how long a container takes from request to running. Bounds are
// wide; the figures are printed for the record.
TEST_F(SandboxTest, IsSmallAndQuick) {
  start();
  std::vector<double> took_ms;
  for (std::uint32_t attempt = 0; attempt < 9; ++attempt) {
    const ContainerRef ref{"main", attempt};
    const auto config = box.config("pod-a", ref, "sleep 1000");
    const auto begun = std::chrono::steady_clock::now();
    expect_running(box.run("pod-a", ref, config));
    took_ms.push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begun)
            .count());
    ASSERT_TRUE(ShimClient(box.env.socket("pod-a")).stop(ref, SIGKILL, std::chrono::seconds(0)));
    ASSERT_TRUE(box.wait_exit("pod-a", ref));
    ASSERT_TRUE(ShimClient(box.env.socket("pod-a")).remove(ref));
  }
  std::ranges::sort(took_ms);
  const auto rollup = read_file(fmt::format("/proc/{}/smaps_rollup", sandbox.state.shim_pid), 8192);
  ASSERT_TRUE(rollup) << rollup.error().message();
  const std::size_t at = rollup->find("Pss:");
  fmt::print("container start: median {:.1f} ms, max {:.1f} ms; shim {}\n", took_ms[4],
             took_ms.back(),
             trim(std::string_view(*rollup).substr(at, rollup->find('\n', at) - at)));
  EXPECT_LT(took_ms[4], 1000);
}

}  // namespace
}  // namespace shoal::runtime

int main(int argc, char** argv) { return shoal::runtime::testing::main_with_reaper(argc, argv); }
