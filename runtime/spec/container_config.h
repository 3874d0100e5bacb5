// SPDX-License-Identifier: Apache-2.0
// ContainerConfig: all that decides how a container's process runs, as a value; oci_spec() turns it
// into the config.json of an OCI bundle (OCI runtime specification 1.0.2). Pure: the same value
// gives the same bytes.
//
// Defaults are tight: no new privileges, the small capability set, the default seccomp profile
// (runtime/spec/seccomp_default.json), masked and read-only paths. The container joins the net, ipc
// and uts namespaces of whoever runs the OCI runtime (the pod's shim) and gets a mount namespace of
// its own, and a pid namespace where none is named. Errors: kInvalid names the field.
#pragma once

#include "netplane/base/result.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::runtime {

// Whether mounts that are made below a bind mount later are seen on the other side.
enum class Propagation : std::uint8_t {
  kNone,
  kFromHost,  // of the host's in the container
  kBoth,
};

struct BindMount {
  std::string source;       // on the host
  std::string destination;  // in the container
  bool read_only = false;
  bool recursive_read_only = false;  // with read_only: what is mounted below it too
  Propagation propagation = Propagation::kNone;
  bool operator==(const BindMount&) const = default;
};

// Who the process is. Names are resolved by resolve_user (user.h) before.
struct ProcessUser {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::vector<std::uint32_t> additional_gids;
  bool operator==(const ProcessUser&) const = default;
};

struct ResourceLimits {
  std::optional<std::int64_t> memory_bytes;
  std::optional<std::int64_t> cpu_milli;          // limit: a quota of each 100 ms
  std::optional<std::int64_t> cpu_request_milli;  // weight
  std::optional<std::int64_t> pids;
  std::optional<std::int64_t> memory_request_bytes;  // what it is ranked by when memory runs out
  bool operator==(const ResourceLimits&) const = default;
};

// A device of the host, for privileged containers (host_devices.h).
struct DeviceNode {
  std::string path;
  char type = 'c';  // or 'b'
  std::uint32_t major = 0;
  std::uint32_t minor = 0;
  std::uint32_t mode = 0600;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  bool operator==(const DeviceNode&) const = default;
};

struct ContainerConfig {
  std::string rootfs;  // absolute path of the mounted root file system
  bool rootfs_read_only = false;
  std::vector<std::string> args;
  std::vector<std::string> env;  // "K=V"
  std::string cwd = "/";
  bool terminal = false;  // the OCI runtime makes it, and sends it over --console-socket
  ProcessUser user;
  // /etc/hosts, /etc/resolv.conf, /etc/hostname, volumes; in the order of mounting.
  std::vector<BindMount> mounts;
  std::vector<std::string> capabilities_add;  // "NET_ADMIN" or "CAP_NET_ADMIN"; "ALL"
  std::vector<std::string> capabilities_drop;
  std::uint64_t capability_bound = ~0ULL;  // those that "ALL" means; bit by number, CAP_CHOWN first
  bool no_new_privileges = true;
  bool seccomp = true;
  std::string seccomp_profile;  // JSON, an OCI seccomp object; empty: the default one
  // Nothing is held back: every capability, device and path, no seccomp, writable /sys.
  bool privileged = false;
  std::vector<DeviceNode> devices;        // of a privileged container
  std::uint64_t nofile = 1'048'576;       // clamped to nofile_hard
  std::uint64_t nofile_hard = 1'048'576;  // the host's hard limit
  std::string pid_namespace;              // a file that names the one to join; empty: its own
  bool host_pids = false;                 // the host's pid namespace
  bool host_ipc = false;                  // who runs the OCI runtime is in the host's
  std::string cgroups_path;               // "/shoal.slice/pod-UID/NAME-ATTEMPT"
  bool cgroup_v2 = true;                  // pure v2: a cgroup namespace and /sys/fs/cgroup inside
  ResourceLimits resources;
  std::optional<int> oom_score_adj;  // none: whatever the shim has
  bool operator==(const ContainerConfig&) const = default;
};

Result<std::string> oci_spec(const ContainerConfig& config);
// The `process` object alone, for a further process in the same container: what exec takes.
Result<std::string> oci_process(const ContainerConfig& config);

// The process' arguments as Kubernetes has it: `command` replaces the image's entrypoint and its
// cmd, `args` replaces cmd. kInvalid when nothing is left to run.
Result<std::vector<std::string>> process_args(const std::vector<std::string>& entrypoint,
                                              const std::vector<std::string>& cmd,
                                              const std::vector<std::string>& command,
                                              const std::vector<std::string>& args);
// The container's entries win by name; order of first appearance. PATH is given where there is
// none.
std::vector<std::string> merge_env(const std::vector<std::string>& image,
                                   const std::vector<std::string>& container);

}  // namespace shoal::runtime
