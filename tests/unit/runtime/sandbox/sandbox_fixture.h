// SPDX-License-Identifier: Apache-2.0
// SandboxTest: a pod's shim with real containers: crun, busybox, cgroups. As root, in pid, mount
// and net namespaces of the test's own.
#pragma once

#include "runtime/log/log_reader.h"
#include "runtime/sandbox/sandbox.h"
#include "tests/fakes/pod_box.h"

#include <string>
#include <string_view>
#include <vector>

namespace shoal::runtime {

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

}  // namespace shoal::runtime
