// SPDX-License-Identifier: Apache-2.0
// The cgroup layout of a host, and the cgroups of a pod: `<slice>/pod-<uid>` with the leaf `shim`
// and a leaf a container (container_id in runtime/shim/protocol.h), the same in every hierarchy.
//
// Three layouts: v2 (one cgroup2 tree at /sys/fs/cgroup), hybrid (v1 controllers, and a cgroup2
// tree elsewhere that holds no controllers but tells pods apart, kills them and carries BPF hooks),
// v1 (no cgroup2 at all). Errors: kUnsupported when no cgroup tree is mounted.
#pragma once

#include "netplane/base/result.h"
#include "runtime/shim/protocol.h"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::runtime {

enum class CgroupLayout : unsigned char { kV2, kHybrid, kV1 };
std::string_view to_string(CgroupLayout layout);  // "v2", "hybrid", "v1"

struct CgroupTree {
  CgroupLayout layout = CgroupLayout::kV2;
  std::filesystem::path v2;               // mount point; empty for v1
  std::vector<std::filesystem::path> v1;  // mount points of v1 hierarchies; empty for v2
  std::filesystem::path memory_v1;        // the one with the memory controller
  std::filesystem::path cpu_v1;
  std::filesystem::path cpuacct_v1;
  std::filesystem::path pids_v1;
  std::filesystem::path blkio_v1;
  std::filesystem::path freezer_v1;
  std::filesystem::path
      systemd_v1;  // name=systemd, by which systemd tells units apart where there is no v2
};

// From the text of /proc/self/mountinfo; pure.
Result<CgroupTree> parse_cgroup_mounts(std::string_view mountinfo);
Result<CgroupTree> detect_cgroups();

std::string pod_cgroup(std::string_view slice, std::string_view pod_uid);  // "shoal.slice/pod-UID"

// Makes the pod's cgroup with the leaf `shim` in cgroup2 and in systemd's v1 hierarchy, and returns
// these leaves. On v2 the controllers that exist are enabled on the way, for the containers'
// limits.
Result<std::vector<std::filesystem::path>> make_pod_cgroup(const CgroupTree& tree,
                                                           const std::string& pod_cgroup);
// What a pod as a whole may use. Its containers' own limits are theirs (runtime/spec).
struct PodLimits {
  std::optional<std::int64_t> memory_bytes;
  std::optional<std::int64_t> cpu_milli;
  std::int64_t cpu_request_milli = 0;  // its weight among the pods of the host; 0: the least
  std::optional<std::int64_t> pids;
  bool operator==(const PodLimits&) const = default;
};
// Sets them on the pod's cgroup, which exists (make_pod_cgroup); in v1 hierarchies it is made.
// A limit for which there is no controller is kUnsupported; weight and pids, which nobody asked for
// by name, then go without.
Result<> limit_pod_cgroup(const CgroupTree& tree, const std::string& pod_cgroup,
                          const PodLimits& limits);
// The same for all pods together.
Result<> limit_slice(const CgroupTree& tree, const std::string& slice, const PodLimits& limits);
// Kubernetes' formulas: cpu.shares of cgroup v1, and cpu.weight of v2.
std::int64_t cpu_shares(std::int64_t request_milli);
std::int64_t cpu_weight(std::int64_t request_milli);

// Where a further process of a container belongs: the cgroup that the OCI runtime made for it in
// each hierarchy, named as cgroupsPath was in its spec ("/shoal.slice/pod-UID/NAME-ATTEMPT").
void name_cgroups(const CgroupTree& tree, const std::string& cgroups_path, shim::ExecPlan& plan);

// SIGKILL to whatever is in the pod's cgroup2 (where there is none, that of the v1 freezer), and
// waits until it is empty, at most 2 s. No cgroup: fine.
Result<> kill_pod_cgroup(const CgroupTree& tree, const std::string& pod_cgroup);
// Removes the pod's cgroups from every hierarchy. kUnavailable while a process is left in one.
Result<> remove_pod_cgroup(const CgroupTree& tree, const std::string& pod_cgroup);
// Pods that have a cgroup in any hierarchy, by uid, sorted.
std::vector<std::string> list_pod_cgroups(const CgroupTree& tree, std::string_view slice);
// The slice's own cgroup in each hierarchy that has one, and its removal once no pod is left in it.
std::vector<std::filesystem::path> slice_cgroups(const CgroupTree& tree, std::string_view slice);
Result<> remove_slice(const std::filesystem::path& cgroup);

}  // namespace shoal::runtime
