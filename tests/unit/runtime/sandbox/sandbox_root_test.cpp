// SPDX-License-Identifier: Apache-2.0
// The life of a sandbox and of its containers, and what holds them.
#include "netplane/base/fs.h"
#include "netplane/base/strings.h"
#include "runtime/sandbox/container_record.h"
#include "runtime/spec/host_devices.h"
#include "tests/unit/runtime/sandbox/sandbox_fixture.h"

#include <array>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <sys/statvfs.h>

namespace shoal::runtime {
namespace {

namespace fs = std::filesystem;

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

TEST_F(SandboxTest, InTheHostsNetworkNothingOfItIsTouched) {
  const auto ports = [] {
    return read_file("/proc/sys/net/ipv4/ip_unprivileged_port_start", 64).value_or("?");
  };
  const std::string before = ports();
  char name[65] = {};
  ASSERT_EQ(::gethostname(name, sizeof(name) - 1), 0);
  auto started =
      start_sandbox(box.env, {.uid = "pod-a", .hostname = "web-1", .host_network = true});
  ASSERT_TRUE(started) << started.error().message();
  sandbox = std::move(*started);
  expect_running(box.run("pod-a", main, box.config("pod-a", main, "sleep 1000")));
  const std::string theirs = fmt::format("/proc/{}/ns/", box.state("pod-a", main)->pid);
  for (const char* shared : {"net", "uts"})
    EXPECT_EQ(fs::read_symlink(theirs + shared),
              fs::read_symlink(fmt::format("/proc/self/ns/{}", shared)));
  for (const char* separate : {"ipc", "pid", "mnt"})
    EXPECT_NE(fs::read_symlink(theirs + separate),
              fs::read_symlink(fmt::format("/proc/self/ns/{}", separate)));
  EXPECT_EQ(exec(main, {"hostname"}).out, std::string(name) + "\n");
  EXPECT_EQ(ports(), before);
  ASSERT_TRUE(ShimClient(box.env.socket("pod-a")).shutdown());
  expect_swept(box.env, "pod-a");
  EXPECT_EQ(box.leaks(), std::vector<std::string>{});
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
