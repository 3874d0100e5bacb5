// SPDX-License-Identifier: Apache-2.0
// Containers of a pod in one pid namespace, and the process that holds it.
#include "netplane/base/fs.h"
#include "netplane/base/strings.h"
#include "runtime/sandbox/container_record.h"
#include "tests/unit/runtime/sandbox/sandbox_fixture.h"

#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

namespace shoal::runtime {
namespace {

namespace fs = std::filesystem;

class SharedPidsTest : public SandboxTest {
protected:
  void start_shared() {
    auto started = start_sandbox(box.env, {"pod-a", "web-1", {}, true});
    ASSERT_TRUE(started) << started.error().message();
    sandbox = std::move(*started);
    const std::string link = fs::read_symlink(box.env.pid_namespace("pod-a")).string();
    ASSERT_TRUE(link.starts_with("/proc/") && link.ends_with("/ns/pid")) << link;
    holder = static_cast<pid_t>(
        parse_uint(std::string_view(link).substr(6, link.size() - 6 - 7)).value_or(0));
    ASSERT_GT(holder, 1);
  }
  // Where its containers are.
  virtual ContainerConfig placed(ContainerConfig config) const {
    config.pid_namespace = box.env.pid_namespace("pod-a").string();
    return config;
  }
  void run_shared(const ContainerRef& ref, std::string script, const ResourceLimits& limits = {}) {
    auto config = placed(box.config("pod-a", ref, std::move(script)));
    config.resources = limits;
    shim::CreateRequest request;
    request.shares_pids = true;
    expect_running(box.run("pod-a", ref, config, request));
  }
  std::string ps(const ContainerRef& ref) { return exec(ref, {"ps"}).out; }
  bool sees(const ContainerRef& ref, std::string_view command) {
    return ps(ref).find(command) != std::string::npos;
  }
  std::string of_holder(const char* file) const {
    return read_file(fmt::format("/proc/{}/{}", holder, file), 64 * 1024).value_or("?");
  }
  bool holder_lives() const { return fs::exists(fmt::format("/proc/{}/ns/pid", holder)); }
  // Its first process ends, and others of it do not: a daemon, one that was entered, and one that
  // is another all the time, as it forks and ends.
  void expect_nothing_left(const ContainerRef& other) {
    run_shared(main,
               "sleep 4001 & (sleep 4002 &) ; sh -c 'f() { f & }; f; : sleep 4003' &"
               "exec 3<>/var/data/go; read x <&3; exit 3",
               {.pids = 200});
    auto entered =
        ExecSession::enter(box.env.socket("pod-a"), {main, {"sleep", "4004"}}, std::array{0, 1, 2});
    ASSERT_TRUE(entered);
    for (const char* command : {"sleep 4001", "sleep 4002", "sleep 4003", "sleep 4004"})
      ASSERT_TRUE(wait_until([&] { return sees(other, command); }))
          << command << ps(other) << log("main");
    go();
    ASSERT_TRUE(box.wait_exit("pod-a", main));
    EXPECT_EQ(box.state("pod-a", main)->exit_code, 3);
    EXPECT_FALSE(sees(other, "sleep 400")) << ps(other);
    EXPECT_TRUE(sees(other, "sleep 5000"));
    EXPECT_EQ(entered->wait(std::chrono::seconds(20))->exit_code, 137);
    ASSERT_TRUE(ShimClient(box.env.socket("pod-a")).remove(main));
  }
  void make_go() { ASSERT_EQ(::mkfifo((box.rootfs() / "var/data/go").c_str(), 0600), 0); }
  void go() {
    const UniqueFd fd(::open((box.rootfs() / "var/data/go").c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_EQ(::write(fd.get(), "\n", 1), 1);
    ASSERT_TRUE(wait_until([&] { return box.state("pod-a", main)->finished_at_ns != 0; }));
  }

  const ContainerRef side{"side", 0};
  pid_t holder = 0;
};

TEST_F(SharedPidsTest, ContainersSeeAndSignalEachOther) {
  start_shared();
  run_shared(main, "sleep 4001; exit 9");
  run_shared(side, "sleep 5000 & wait");
  const auto ns = [](pid_t pid, const char* name) {
    return fs::read_symlink(fmt::format("/proc/{}/ns/{}", pid, name)).string();
  };
  const pid_t first = box.state("pod-a", main)->pid;
  const pid_t second = box.state("pod-a", side)->pid;
  EXPECT_EQ(ns(first, "pid"), ns(holder, "pid"));
  EXPECT_EQ(ns(second, "pid"), ns(holder, "pid"));
  EXPECT_NE(ns(first, "pid"), ns(::getpid(), "pid"));
  EXPECT_NE(ns(first, "mnt"), ns(second, "mnt"));
  EXPECT_EQ(ns(first, "ipc"), ns(second, "ipc"));
  EXPECT_TRUE(wait_until([&] { return sees(side, "sleep 4001"); })) << ps(side);
  EXPECT_EQ(exec(side, {"cat", "/proc/1/comm"}).out, "shoal-pause\n");
  // Processes that are entered by the OCI runtime are there as well.
  auto config = box.config("pod-a", main, "");
  EXPECT_NE(exec_by_runtime(main, config, {"ps"}).out.find("sleep 5000"), std::string::npos);
  EXPECT_EQ(exec(side, {"sh", "-c", "kill $(ps | grep 'sleep [4]001$' | sed 's/^ *//;s/ .*//')"})
                .exit_code,
            0);
  ASSERT_TRUE(box.wait_exit("pod-a", main));
  EXPECT_EQ(box.state("pod-a", main)->exit_code, 9);
  EXPECT_TRUE(sees(side, "sleep 5000"));
}

TEST_F(SharedPidsTest, ItsFirstProcessIsOutOfReach) {
  start_shared();
  run_shared(main, "sleep 1000");
  const std::string status = of_holder("status");
  for (const char* line :
       {"Uid:\t65534\t65534\t65534\t65534\n", "Gid:\t65534\t65534\t65534\t65534\n", "Groups:\t \n",
        "CapPrm:\t0000000000000000\n", "CapEff:\t0000000000000000\n", "CapBnd:\t0000000000000000\n",
        "CapAmb:\t0000000000000000\n", "NoNewPrivs:\t1\n"})
    EXPECT_NE(status.find(line), std::string::npos) << line << status;
  const fs::path self = fmt::format("/proc/{}", holder);
  EXPECT_TRUE(fs::is_empty(self / "fd"));
  EXPECT_TRUE(fs::is_empty(self / "root"));
  EXPECT_EQ(fs::read_symlink(self / "cwd"), "/");
  EXPECT_NE(fs::read_symlink(self / "ns/mnt"), fs::read_symlink("/proc/self/ns/mnt"));
  EXPECT_EQ(of_holder("mountinfo").find("/proc"), std::string::npos) << of_holder("mountinfo");
  // Neither root in a container, nor who has its user, can trace it: to open mem takes as much.
  auto nobody = box.config("pod-a", side, "sleep 1000");
  nobody.pid_namespace = box.env.pid_namespace("pod-a").string();
  nobody.user = {65534, 65534, {}};
  shim::CreateRequest request;
  request.shares_pids = true;
  expect_running(box.run("pod-a", side, nobody, request));
  for (const ContainerRef& ref : {main, side}) {
    for (const char* file : {"mem", "environ", "maps", "auxv"})
      EXPECT_NE(exec(ref, {"cat", fmt::format("/proc/1/{}", file)}).err.find("Permission denied"),
                std::string::npos)
          << ref.name << " " << file;
    for (const char* link : {"root/", "cwd/", "exe"})
      EXPECT_NE(
          exec(ref, {"ls", "-l", fmt::format("/proc/1/{}", link)}).err.find("Permission denied"),
          std::string::npos)
          << ref.name << " " << link;
    EXPECT_EQ(exec(ref, {"sh", "-c", "cat /proc/1/cmdline | head -c 11"}).out, "shoal-pause");
    EXPECT_EQ(exec(ref, {"sh", "-c", "cat /proc/1/cmdline | grep -c shim"}).out, "0\n");
    (void)exec(ref, {"sh", "-c", "for s in 1 2 3 9 15 19; do kill -$s 1; done"});
  }
  EXPECT_NE(of_holder("status").find("State:\tS"), std::string::npos) << of_holder("status");
}

TEST_F(SharedPidsTest, OrphansAreReaped) {
  start_shared();
  run_shared(main, "sleep 1000");
  const std::string orphan(
      trim(exec(main, {"sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!"}).out));
  ASSERT_FALSE(orphan.empty());
  EXPECT_EQ(exec(main, {"grep", "PPid", fmt::format("/proc/{}/status", orphan)}).out, "PPid:\t1\n");
  EXPECT_EQ(exec(main, {"kill", orphan}).exit_code, 0);
  EXPECT_TRUE(wait_until(
      [&] { return exec(main, {"ls", fmt::format("/proc/{}", orphan)}).exit_code != 0; }));
}

TEST_F(SharedPidsTest, WhatAContainerLeavesEndsWithIt) {
  make_go();
  start_shared();
  run_shared(side, "sleep 5000 & wait");
  expect_nothing_left(side);
  // Killed, it is the same.
  const ContainerRef again{"main", 1};
  run_shared(again, "sleep 4001 & sleep 4001");
  ASSERT_TRUE(wait_until([&] { return sees(side, "sleep 4001"); }));
  ASSERT_TRUE(ShimClient(box.env.socket("pod-a")).stop(again, SIGKILL, {}));
  ASSERT_TRUE(box.wait_exit("pod-a", again));
  EXPECT_FALSE(sees(side, "sleep 4001"));
  EXPECT_TRUE(holder_lives());
}

// A signal that it has no handler for ends a container's first process: it is not process 1.
TEST_F(SharedPidsTest, StopNeedsNoHandler) {
  start_shared();
  run_shared(main, "exec sleep 1000");
  ASSERT_TRUE(ShimClient(box.env.socket("pod-a")).stop(main, SIGTERM, std::chrono::seconds(1000)));
  ASSERT_TRUE(box.wait_exit("pod-a", main));
  EXPECT_EQ(box.state("pod-a", main)->exit_code, 143);
}

TEST_F(SharedPidsTest, WithItsFirstProcessTheSandboxIsGone) {
  start_shared();
  run_shared(main, "trap '' TERM; sleep 1000 & wait");
  run_shared(side, "sleep 1000");
  ASSERT_EQ(::kill(holder, SIGTERM), 0);  // it has no ear for that, also from outside
  EXPECT_EQ(exec(main, {"true"}).exit_code, 0);
  ASSERT_EQ(::kill(holder, SIGKILL), 0);
  pollfd dead{sandbox.pidfd.get(), POLLIN, 0};
  ASSERT_EQ(::poll(&dead, 1, 20'000), 1);
  for (const ContainerRef& ref : {main, side}) {
    const auto records = *read_container_records(box.env.log_dir("pod-a", ref.name));
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].phase, ContainerPhase::kExited);
    EXPECT_EQ(records[0].exit_code, 137);
  }
  EXPECT_EQ(find_sandbox(box.env, "pod-a").error().code(), Errc::kNotFound);
  expect_swept(box.env, "pod-a");
  EXPECT_EQ(box.leaks(), std::vector<std::string>{});
  start_shared();  // and begins anew
  run_shared(main, "sleep 1000");
}

TEST_F(SharedPidsTest, WithItsShimAllProcessesEnd) {
  start_shared();
  run_shared(main, "(sleep 1000 &); sleep 1000");
  ASSERT_EQ(::kill(sandbox.state.shim_pid, SIGKILL), 0);
  // By the kernel, before anybody sweeps.
  EXPECT_TRUE(wait_until([&] {
    const auto leaks = box.leaks();
    return std::ranges::none_of(
        leaks, [](const std::string& leak) { return leak.starts_with("process"); });
  }));
  expect_swept(box.env, "pod-a");
  EXPECT_EQ(box.leaks(), std::vector<std::string>{});
}

TEST_F(SharedPidsTest, NothingIsLeftAfterTheEnd) {
  start_shared();
  run_shared(main, "(sleep 1000 &); sleep 1000");
  ASSERT_TRUE(ShimClient(box.env.socket("pod-a")).shutdown());
  EXPECT_FALSE(holder_lives());
  expect_swept(box.env, "pod-a");
  EXPECT_EQ(box.leaks(), std::vector<std::string>{});
  start_shared();
  run_shared(main, "(sleep 1000 &); sleep 1000");
  expect_swept(box.env, "pod-a");  // a living one
  EXPECT_EQ(box.leaks(), std::vector<std::string>{});
}

class HostPidsTest : public SharedPidsTest {
protected:
  ContainerConfig placed(ContainerConfig config) const override {
    config.host_pids = true;
    config.host_ipc = true;
    return config;
  }
};

TEST_F(HostPidsTest, TheHostIsSeenAndNothingIsLeftInIt) {
  make_go();
  auto started = start_sandbox(box.env, {.uid = "pod-a", .hostname = "h", .host_ipc = true});
  ASSERT_TRUE(started) << started.error().message();
  sandbox = std::move(*started);
  EXPECT_FALSE(fs::exists(fs::symlink_status(box.env.pid_namespace("pod-a"))));
  run_shared(side, "sleep 5000 & wait");
  const std::string own = fmt::format("/proc/{}/ns/", ::getpid());
  const std::string theirs = fmt::format("/proc/{}/ns/", box.state("pod-a", side)->pid);
  for (const char* name : {"pid", "ipc"})
    EXPECT_EQ(fs::read_symlink(own + name), fs::read_symlink(theirs + name)) << name;
  for (const char* name : {"net", "uts", "mnt"})
    EXPECT_NE(fs::read_symlink(own + name), fs::read_symlink(theirs + name)) << name;
  EXPECT_EQ(trim(exec(side, {"cat", fmt::format("/proc/{}/comm", sandbox.state.shim_pid)}).out),
            "shoal-shim");
  expect_nothing_left(side);
  ASSERT_TRUE(ShimClient(box.env.socket("pod-a")).shutdown());
  expect_swept(box.env, "pod-a");
  EXPECT_EQ(box.leaks(), std::vector<std::string>{});
}

// A host whose cgroup2 tree is not mounted, where there is one beside those of v1.
class NoCgroup2 {
protected:
  NoCgroup2() : before_(::open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC)) {
    const auto tree = detect_cgroups();
    if (!tree || tree->layout == CgroupLayout::kV2)
      return;
    EXPECT_EQ(::unshare(CLONE_NEWNS), 0);
    EXPECT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    while (!tree->v2.empty() && ::umount2(tree->v2.c_str(), MNT_DETACH) == 0) {
    }
  }
  ~NoCgroup2() { EXPECT_EQ(::setns(before_.get(), CLONE_NEWNS), 0); }

private:
  UniqueFd before_;
};

class SharedPidsV1Test : private NoCgroup2, public SharedPidsTest {};

TEST_F(SharedPidsV1Test, WhatAContainerLeavesEndsWithIt) {
  if (box.env.cgroups.layout != CgroupLayout::kV1 || box.env.cgroups.freezer_v1.empty())
    GTEST_SKIP() << "no cgroup v1 with a freezer here";
  make_go();
  start_shared();
  run_shared(side, "sleep 5000 & wait");
  expect_nothing_left(side);
  ASSERT_EQ(::kill(sandbox.state.shim_pid, SIGKILL), 0);
  expect_swept(box.env, "pod-a");
  EXPECT_EQ(box.leaks(), std::vector<std::string>{});
}

TEST_F(SharedPidsV1Test, WithoutAFreezerNothingIsStarted) {
  if (box.env.cgroups.layout != CgroupLayout::kV1)
    GTEST_SKIP() << "no cgroup v1 here";
  box.env.cgroups.freezer_v1.clear();
  start_shared();
  auto config = box.config("pod-a", main, "sleep 1000");
  config.pid_namespace = box.env.pid_namespace("pod-a").string();
  shim::CreateRequest request;
  request.shares_pids = true;
  const auto refused = box.run("pod-a", main, config, request);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("mount cgroup2, or the freezer of cgroup v1"),
            std::string::npos)
      << refused.error().message();
}

}  // namespace
}  // namespace shoal::runtime
