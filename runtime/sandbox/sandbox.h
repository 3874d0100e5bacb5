// SPDX-License-Identifier: Apache-2.0
// Sandboxes: the pods' shims of a host: start one, find those that live, sweep what dead ones left.
//
// Owns two folders a pod. `<run_dir>/<uid>/` is gone after a boot: shim.sock, shim.state (written
// by the shim: which processes are its own, see ShimRecord), a link to the pid namespace that its
// containers share, the OCI runtime's state, bundles.
// `<data_dir>/<uid>/` is on disk: root file systems with what containers wrote, and what is still
// shown of a pod that has no sandbox any more: `logs/`, and the agent's `status.json`; and
// `volumes/`, a folder each, which outlive the sandbox, those in memory as mounts.
// Everything of a pod that the host's kernel or disk holds is found from the uid alone, so that a
// sweep needs no memory of how it was made:
// - processes: its cgroup2 (cgroup.kill), or pid + start time in shim.state where there is none;
// - mounts: all below the pod's two folders;
// - cgroups: <slice>/pod-<uid> in every hierarchy.
// The pod's network is not here: it is the caller's, who gets the namespace as an fd.
// All calls block: worker threads only. One caller a pod at a time.
#pragma once

#include "netplane/base/process.h"
#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"
#include "runtime/sandbox/cgroup.h"
#include "runtime/sandbox/shim_client.h"

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::runtime {

struct SandboxEnv {
  std::filesystem::path run_dir = "/run/shoal/pods";
  std::filesystem::path data_dir = "/var/lib/shoal/pods";
  std::filesystem::path shim = "/usr/libexec/shoal/shoal-shim";
  std::filesystem::path oci_runtime = "/usr/bin/crun";
  std::string slice = "shoal.slice";
  CgroupTree cgroups;

  std::filesystem::path pod_run_dir(std::string_view uid) const { return run_dir / uid; }
  std::filesystem::path pod_data_dir(std::string_view uid) const { return data_dir / uid; }
  std::filesystem::path socket(std::string_view uid) const { return run_dir / uid / "shim.sock"; }
  std::filesystem::path pid_namespace(std::string_view uid) const {
    return run_dir / uid / shim::kPidNamespaceName;
  }
  // <data>/logs/<container>/<attempt>.log
  std::filesystem::path log_dir(std::string_view uid, std::string_view container) const {
    return data_dir / uid / "logs" / container;
  }
  // <data>/volumes/<volume>, of a claim a link to its folder
  std::filesystem::path volumes_dir(std::string_view uid) const {
    return data_dir / uid / "volumes";
  }
  // PersistentVolumeClaims: runtime/volume/claim_folders.h.
  std::filesystem::path claims_dir() const { return data_dir.parent_path() / "volumes"; }
  // Seccomp profiles that pods name (securityContext.seccompProfile.localhostProfile).
  std::filesystem::path seccomp_dir() const { return data_dir.parent_path() / "seccomp"; }
  std::filesystem::path status_file(std::string_view uid) const {
    return data_dir / uid / "status.json";
  }
};

struct SandboxSpec {
  std::string uid;
  std::string hostname;
  PodLimits limits;
  bool share_pids = false;    // all containers in one pid namespace: pid_namespace() of the pod
  bool host_ipc = false;      // no IPC namespace of its own: the host's
  bool host_network = false;  // nor a network and a UTS namespace: hostname is not used
};

struct Sandbox {
  std::string uid;
  UniqueFd pidfd;        // of the shim: readable when it has died
  UniqueFd netns;        // the pod's network namespace, which may be the host's
  shim::PodState state;  // as of now
};

// What shim.state says: lines "boot ID", "shim PID TICKS", "container ID PID TICKS". Pure.
struct ShimRecord {
  std::string boot_id;
  ProcessId shim;
  std::vector<ProcessId> containers;
};
Result<ShimRecord> parse_shim_record(std::string_view text);

// Starts a shim and returns once it answers. kExists when the pod has one, living or dead:
// find_sandbox or sweep_sandbox first. After an error nothing is left.
Result<Sandbox> start_sandbox(const SandboxEnv& env, const SandboxSpec& spec);
// The living sandbox of a pod: kNotFound when there is none, or its shim died (then sweep_sandbox).
Result<Sandbox> find_sandbox(const SandboxEnv& env, const std::string& uid);
// Pods that left anything on this host, a folder or a cgroup; living and dead ones, by uid, sorted.
Result<std::vector<std::string>> list_sandboxes(const SandboxEnv& env);

// kKeepLogs: what is shown of a pod that has no sandbox stays. kKeepVolumes: so do its volumes, for
// the next one.
enum class Sweep : unsigned char { kAll, kKeepLogs, kKeepVolumes };
// Kills and removes everything of a pod: processes, mounts, cgroups, folders. Idempotent. Goes on
// past errors and returns the first one; calling again finishes the job.
Result<> sweep_sandbox(const SandboxEnv& env, const std::string& uid, Sweep what = Sweep::kAll);

}  // namespace shoal::runtime
