// SPDX-License-Identifier: Apache-2.0
// PodRuntime: the blocking work of running pods, one call a step. The real one drives the image
// store, overlay mounts and the shims; tests may put a fake in its place. Every call blocks: worker
// threads only. Calls for different pods may run at once, for one pod they come one by one.
#pragma once

#include "agent/node/pod_plan.h"
#include "agent/node/pod_spec.h"
#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"
#include "runtime/image/store.h"
#include "runtime/sandbox/sandbox.h"

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace shoal::node {

// A sandbox that lives, with the connection that tells what happens in it.
struct LiveSandbox {
  UniqueFd netns;
  runtime::ShimEvents events;
};

// What a container's start needs beside its spec.
struct StartContext {
  PodAddress address;
  std::uint32_t attempt = 0;
};

// Why a container could not be started, in Kubernetes' words.
struct StartFailure {
  Waiting why;
};
struct Started {
  runtime::shim::ContainerState state;
  std::string image_id;
};
using StartResult = std::expected<Started, StartFailure>;

class PodRuntime {
public:
  virtual ~PodRuntime() = default;
  virtual Result<std::vector<std::string>> list() = 0;           // uids that left anything here
  virtual Result<LiveSandbox> find(const std::string& uid) = 0;  // kNotFound: none, or a dead one
  virtual bool left_anything(const std::string& uid) = 0;
  virtual Result<LiveSandbox> start_sandbox(const PodSpec& spec) = 0;
  virtual StartResult start_container(const PodSpec& spec, std::size_t container,
                                      const StartContext& context) = 0;
  virtual Result<> stop_container(const std::string& uid, const runtime::shim::ContainerRef& ref,
                                  std::chrono::milliseconds grace) = 0;
  // An attempt that has ended and whose state is not needed any more: its files and its image
  // lease.
  virtual Result<> remove_container(const std::string& uid,
                                    const runtime::shim::ContainerRef& ref) = 0;
  // Everything of the pod but its network.
  virtual Result<> teardown(const std::string& uid, runtime::Sweep what) = 0;
};

// images must outlive it.
std::unique_ptr<PodRuntime> make_pod_runtime(runtime::SandboxEnv env, runtime::ImageStore& images);

}  // namespace shoal::node
