// SPDX-License-Identifier: Apache-2.0
// From an image and a ContainerSpec to a running container, and back to nothing. Blocking: worker
// threads only.
//
//   <data>/<uid>/containers/<name>-<attempt>/   root file system (runtime/rootfs)
//   <run>/<uid>/bundles/<name>-<attempt>/       config.json
//   <run>/<uid>/etc/                            hosts, hostname, resolv.conf: one of each a pod
#pragma once

#include "agent/node/pod_plan.h"
#include "runtime/image/store.h"
#include "runtime/sandbox/sandbox.h"

#include <string>
#include <string_view>

namespace shoal::node {

struct StartFailure {
  Waiting waiting;  // the reason as Kubernetes users know it
  Errc code = Errc::kInternal;
};

struct Started {
  runtime::shim::ContainerState state;
  std::string image_id;
};

struct StartRequest {
  PodSpec pod;
  std::size_t container = 0;
  std::uint32_t attempt = 0;
  std::vector<std::string> env;  // container_env()
  std::vector<model::PodAddress> pod_addresses;
  std::uint64_t nofile_hard = 0;
  int oom_score_adj = 0;
};

// After a failure nothing of this attempt is left.
std::expected<Started, StartFailure> start_container(const runtime::SandboxEnv& env,
                                                     runtime::ImageStore& images,
                                                     const StartRequest& request);
// Of an attempt that has ended; what is gone already is fine.
Result<> clean_container(const runtime::SandboxEnv& env, runtime::ImageStore& images,
                         const std::string& uid, const runtime::shim::ContainerRef& ref);
// Everything of a pod: processes, mounts, cgroups, folders, image leases. May be repeated, and then
// finishes the job.
Result<> teardown_pod(const runtime::SandboxEnv& env, runtime::ImageStore& images,
                      const std::string& uid, runtime::Sweep what = runtime::Sweep::kAll);
std::filesystem::path bundle_dir(const runtime::SandboxEnv& env, const std::string& uid,
                                 const runtime::shim::ContainerRef& ref);
// What the container has written to its root file system.
std::filesystem::path writable_dir(const runtime::SandboxEnv& env, const std::string& uid,
                                   const runtime::shim::ContainerRef& ref);
// What asks a container to end, as its image has it.
int stop_signal(const runtime::SandboxEnv& env, const std::string& uid,
                const runtime::shim::ContainerRef& ref);
// Who holds the image of a container in the image store.
std::string image_holder(const std::string& uid, const runtime::shim::ContainerRef& ref);

}  // namespace shoal::node
