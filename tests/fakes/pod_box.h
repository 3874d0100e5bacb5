// SPDX-License-Identifier: Apache-2.0
// PodBox: what a root test needs to run real containers: a folder, a busybox root file system made
// by hand, a slice of its own in every cgroup hierarchy, and the check that nothing is left of it
// all.
#pragma once

#include "netplane/base/fs.h"
#include "netplane/base/process.h"
#include "netplane/base/strings.h"
#include "runtime/sandbox/mounts.h"
#include "runtime/sandbox/sandbox.h"
#include "runtime/spec/container_config.h"
#include "runtime/spec/exec_plan.h"

#include <chrono>
#include <filesystem>
#include <fmt/format.h>
#include <functional>
#include <gtest/gtest.h>
#include <poll.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace shoal::runtime::testing {

namespace fs = std::filesystem;

// Polls a condition; the bound is generous, as the machine may be busy.
inline bool wait_until(const std::function<bool()>& condition,
                       std::chrono::milliseconds bound = std::chrono::seconds(20)) {
  const auto deadline = std::chrono::steady_clock::now() + bound;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline)
      return false;
    ::poll(nullptr, 0, 2);
  }
  return true;
}

// The main of a test with pods. Such a test is process 1 of its pid namespace, and what a killed
// shim leaves behind becomes its children: without somebody who reaps them, a container's pid
// namespace never ends.
inline int main_with_reaper(int argc, char** argv) {
  const pid_t tests = ::fork();
  if (tests == 0) {
    ::testing::InitGoogleTest(&argc, argv);
    ::exit(RUN_ALL_TESTS());
  }
  for (;;) {
    int status = 0;
    const pid_t pid = ::waitpid(-1, &status, 0);
    if (pid == tests || (pid < 0 && errno == ECHILD))
      return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
  }
}

class PodBox {
public:
  PodBox() {
    std::string name = "/tmp/shoal-pod-box.XXXXXX";
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    dir = name;
    auto tree = detect_cgroups();
    EXPECT_TRUE(tree) << tree.error().message();
    env.run_dir = dir / "run";
    env.data_dir = dir / "data";
    env.shim = SHOAL_BINARY_DIR "/runtime/shim/shoal-shim";
    env.slice = fmt::format("shoal-test-{}.slice", to_lower(name.substr(name.size() - 6)));
    env.cgroups = *tree;
    make_rootfs();
  }
  ~PodBox() {
    for (const std::string& uid : list_sandboxes(env).value_or(std::vector<std::string>{}))
      (void)sweep_sandbox(env, uid);
    std::vector<fs::path> roots = env.cgroups.v1;
    roots.push_back(env.cgroups.v2);
    for (const fs::path& root : roots)
      if (!root.empty())
        ::rmdir((root / env.slice).c_str());
    std::error_code error;
    fs::remove_all(dir, error);
  }

  fs::path rootfs() const { return dir / "rootfs"; }

  ContainerConfig config(const std::string& uid, const shim::ContainerRef& ref,
                         std::string script) const {
    ContainerConfig config;
    config.rootfs = rootfs().string();
    config.args = {"/bin/sh", "-c", std::move(script)};
    config.env = merge_env({}, {"GREETING=hello"});
    config.nofile_hard = 4096;
    config.cgroups_path =
        fmt::format("/{}/{}", pod_cgroup(env.slice, uid), shim::container_id(ref));
    config.cgroup_v2 = env.cgroups.layout == CgroupLayout::kV2;
    return config;
  }

  // Writes the bundle and asks the shim.
  Result<shim::ContainerState> run(const std::string& uid, const shim::ContainerRef& ref,
                                   const ContainerConfig& config,
                                   shim::CreateRequest request = {}) const {
    request.ref = ref;
    request.terminal = config.terminal;
    request.bundle = (env.pod_run_dir(uid) / "bundles" / shim::container_id(ref)).string();
    request.log_dir = env.log_dir(uid, ref.name).string();
    SHOAL_TRY(make_dirs(request.bundle, 0700));
    const std::string spec = SHOAL_TRY(oci_spec(config));
    SHOAL_TRY(write_file_atomic(fs::path(request.bundle) / "config.json", spec));
    shim::ExecPlan plan = SHOAL_TRY(exec_plan(config, "/root"));
    name_cgroups(env.cgroups, config.cgroups_path, plan);
    SHOAL_TRY(write_file_atomic(fs::path(request.bundle) / shim::kExecPlanName, encode(plan)));
    return ShimClient(env.socket(uid)).create(request);
  }

  Result<shim::ContainerState> state(const std::string& uid, const shim::ContainerRef& ref) const {
    const ShimFacts facts = SHOAL_TRY(ShimClient(env.socket(uid)).state());
    for (const shim::ContainerState& container : facts.state.containers)
      if (container.ref == ref)
        return container;
    return fail(Errc::kNotFound, "no such container");
  }

  bool wait_exit(const std::string& uid, const shim::ContainerRef& ref) const {
    return wait_until([&] {
      const auto now = state(uid, ref);
      return now && now->phase == shim::ContainerPhase::kExited;
    });
  }

  // What is left on the host of any pod; empty is the goal.
  std::vector<std::string> leaks() const {
    std::vector<std::string> found;
    for (const std::string& point : mounts_below(dir).value_or(std::vector<std::string>{"?"}))
      found.push_back("mount " + point);
    for (const std::string& uid : list_pod_cgroups(env.cgroups, env.slice))
      found.push_back("cgroup " + uid);
    for (const std::string& uid : list_sandboxes(env).value_or(std::vector<std::string>{"?"}))
      found.push_back("sandbox " + uid);
    for (const auto& entry : fs::directory_iterator("/proc")) {
      const auto pid = parse_uint(entry.path().filename().string());
      if (!pid || *pid == 1 || *pid == static_cast<std::uint64_t>(::getpid()))
        continue;
      const std::string stat = read_file(entry.path() / "stat", 4096).value_or("");
      // A zombie is about to be reaped.
      if (!stat.empty() && stat.find(") Z ") == std::string::npos)
        found.push_back("process " + stat.substr(0, stat.find(')') + 1));
    }
    return found;
  }

  fs::path dir;
  SandboxEnv env;

private:
  void make_rootfs() const {
    for (const char* folder : {"bin", "etc", "proc", "sys", "dev", "tmp", "run", "var/data"})
      EXPECT_TRUE(make_dirs(rootfs() / folder));
    fs::copy_file("/bin/busybox", rootfs() / "bin/busybox");
    for (const char* applet :
         {"sh",    "echo", "sleep", "cat",    "kill",  "id",  "hostname", "ps",    "dd",
          "yes",   "head", "ls",    "true",   "false", "wc",  "mount",    "mkdir", "touch",
          "httpd", "nc",   "wget",  "printf", "grep",  "sed", "stty",     "tty"})
      fs::create_symlink("busybox", rootfs() / "bin" / applet);
    EXPECT_TRUE(write_file_atomic(rootfs() / "etc/passwd",
                                  "root:x:0:0:root:/root:/bin/sh\n"
                                  "web:x:101:102:web:/home/web:/bin/sh\n",
                                  0644));
    EXPECT_TRUE(write_file_atomic(rootfs() / "etc/group",
                                  "root:x:0:\nweb:x:102:\nextra:x:200:web\n", 0644));
  }
};

}  // namespace shoal::runtime::testing
