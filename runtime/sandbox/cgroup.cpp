// SPDX-License-Identifier: Apache-2.0
#include "runtime/sandbox/cgroup.h"

#include "netplane/base/fs.h"
#include "netplane/base/strings.h"
#include "netplane/base/unique_fd.h"
#include "runtime/rootfs/mountinfo.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <memory>
#include <poll.h>
#include <set>
#include <sys/stat.h>
#include <unistd.h>

namespace shoal::runtime {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::milliseconds kKillWait{2000};
constexpr std::chrono::milliseconds kRemoveWait{1000};
constexpr int kCgroupDepthMax = 16;
constexpr std::string_view kPodPrefix = "pod-";

std::vector<std::string> child_dirs(const fs::path& path) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(path.c_str()), ::closedir);
  while (dir) {
    const dirent* entry = ::readdir(dir.get());
    if (entry == nullptr)
      break;
    if (entry->d_type == DT_DIR && std::string_view(entry->d_name) != "." &&
        std::string_view(entry->d_name) != "..")
      names.emplace_back(entry->d_name);
  }
  return names;
}

Result<> write_control(const fs::path& path, std::string_view text) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd)
    return fail_errno(fmt::format("open {}", path.string()));
  if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return fail_errno(fmt::format("write {} to {}", text, path.string()));
  return {};
}

// Passes the controllers of `group` on to its children, as far as they are there.
void enable_controllers(const fs::path& group) {
  auto available = read_file(group / "cgroup.controllers", 4096);
  if (!available)
    return;
  for (const std::string_view controller : split(trim(*available), ' '))
    if (controller == "cpu" || controller == "cpuset" || controller == "io" ||
        controller == "memory" || controller == "pids")
      // One at a time: what one kernel or container refuses must not cost the others. A limit that
      // then cannot be set is refused by the OCI runtime, in its own words.
      (void)write_control(group / "cgroup.subtree_control", fmt::format("+{}", controller));
}

// SIGKILL to every process in the group and below; how many there were. For kernels without
// cgroup.kill (5.14).
std::size_t kill_each(const fs::path& group, int depth) {
  std::size_t found = 0;
  if (auto procs = read_file(group / "cgroup.procs", 1 << 20))
    for (const std::string_view line : split(trim(*procs), '\n'))
      if (const auto pid = parse_uint(line, INT32_MAX); pid && *pid > 1) {
        ::kill(static_cast<pid_t>(*pid), SIGKILL);
        ++found;
      }
  if (depth < kCgroupDepthMax)
    for (const std::string& name : child_dirs(group))
      found += kill_each(group / name, depth + 1);
  return found;
}

Result<> wait_until_empty(const fs::path& group) {
  const fs::path path = group / "cgroup.events";
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd)
    return errno == ENOENT ? Result<>() : fail_errno(fmt::format("open {}", path.string()));
  const auto deadline = std::chrono::steady_clock::now() + kKillWait;
  for (;;) {
    char text[256] = {};
    const ssize_t n = ::pread(fd.get(), text, sizeof(text) - 1, 0);
    if (n < 0)
      return errno == ENODEV ? Result<>() : fail_errno(fmt::format("read {}", path.string()));
    if (std::string_view(text).find("populated 0") != std::string_view::npos)
      return {};
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0)
      return fail(Errc::kTimeout, fmt::format("a process in {} does not die", group.string()));
    pollfd poll_fd{fd.get(), POLLPRI, 0};
    ::poll(&poll_fd, 1, static_cast<int>(left.count()));
  }
}

// What is frozen does not fork, and dies when it is let go.
Result<> kill_frozen(const CgroupTree& tree, const std::string& pod_cgroup) {
  const fs::path group = tree.freezer_v1 / pod_cgroup;
  if (tree.freezer_v1.empty() || ::access(group.c_str(), F_OK) != 0)
    return {};
  const auto deadline = std::chrono::steady_clock::now() + kKillWait;
  for (;;) {
    SHOAL_TRY(write_control(group / "freezer.state", "FROZEN"));
    const std::size_t found = kill_each(group, 0);
    SHOAL_TRY(write_control(group / "freezer.state", "THAWED"));
    if (found == 0)
      return {};
    if (std::chrono::steady_clock::now() >= deadline)
      return fail(Errc::kTimeout, fmt::format("a process in {} does not die", group.string()));
    ::poll(nullptr, 0, 2);
  }
}

// Depth first. A group whose last process has just been killed may stay busy for a moment.
Result<> remove_group_tree(const fs::path& group, int depth,
                           std::chrono::steady_clock::time_point deadline) {
  if (depth < kCgroupDepthMax)
    for (const std::string& name : child_dirs(group))
      SHOAL_TRY(remove_group_tree(group / name, depth + 1, deadline));
  while (::rmdir(group.c_str()) != 0 && errno != ENOENT) {
    if (errno != EBUSY || std::chrono::steady_clock::now() >= deadline)
      return fail_errno(fmt::format("remove cgroup {}", group.string()));
    ::poll(nullptr, 0, 5);  // nothing tells when it becomes idle
  }
  return {};
}

// With its controllers passed on from the root, where there are any.
Result<> make_v2_group(const CgroupTree& tree, const std::string& group) {
  fs::path sofar = tree.v2;
  for (const auto& part : fs::path(group)) {
    if (tree.layout == CgroupLayout::kV2)
      enable_controllers(sofar);
    sofar /= part;
    SHOAL_TRY(make_dirs(sofar));
  }
  if (tree.layout == CgroupLayout::kV2)
    enable_controllers(sofar);
  return {};
}

}  // namespace

std::string_view to_string(CgroupLayout layout) {
  switch (layout) {
  case CgroupLayout::kV2:
    return "v2";
  case CgroupLayout::kHybrid:
    return "hybrid";
  case CgroupLayout::kV1:
    return "v1";
  }
  return "?";
}

Result<CgroupTree> parse_cgroup_mounts(std::string_view mountinfo) {
  CgroupTree tree;
  std::set<fs::path> v1;
  for (const MountEntry& mount : parse_mountinfo(mountinfo)) {
    if (mount.type == "cgroup2") {
      // Where there are several, the ones that the OCI runtimes look for win.
      if (tree.v2.empty() || mount.mount_point == "/sys/fs/cgroup" ||
          (mount.mount_point == "/sys/fs/cgroup/unified" && tree.v2 != "/sys/fs/cgroup"))
        tree.v2 = mount.mount_point;
    } else if (mount.type == "cgroup" && mount.mount_point.starts_with("/sys/fs/cgroup/")) {
      v1.insert(mount.mount_point);
      for (const std::string_view option : split(mount.super_options, ',')) {
        if (option == "memory")
          tree.memory_v1 = mount.mount_point;
        else if (option == "cpu")
          tree.cpu_v1 = mount.mount_point;
        else if (option == "cpuacct")
          tree.cpuacct_v1 = mount.mount_point;
        else if (option == "pids")
          tree.pids_v1 = mount.mount_point;
        else if (option == "blkio")
          tree.blkio_v1 = mount.mount_point;
        else if (option == "freezer")
          tree.freezer_v1 = mount.mount_point;
        else if (option == "name=systemd")
          tree.systemd_v1 = mount.mount_point;
      }
    }
  }
  tree.v1.assign(v1.begin(), v1.end());
  if (tree.v2.empty() && tree.v1.empty())
    return fail(Errc::kUnsupported, "no cgroup tree is mounted at /sys/fs/cgroup; "
                                    "mount one: mount -t cgroup2 none /sys/fs/cgroup");
  tree.layout = tree.v2.empty()   ? CgroupLayout::kV1
                : tree.v1.empty() ? CgroupLayout::kV2
                                  : CgroupLayout::kHybrid;
  return tree;
}

Result<CgroupTree> detect_cgroups() {
  return parse_cgroup_mounts(SHOAL_TRY(read_file("/proc/self/mountinfo", kMountinfoBytesMax)));
}

std::string pod_cgroup(std::string_view slice, std::string_view pod_uid) {
  return fmt::format("{}/{}{}", slice, kPodPrefix, pod_uid);
}

Result<std::vector<fs::path>> make_pod_cgroup(const CgroupTree& tree,
                                              const std::string& pod_cgroup) {
  std::vector<fs::path> leaves;
  if (!tree.v2.empty()) {
    SHOAL_TRY(make_v2_group(tree, pod_cgroup));
    leaves.push_back(tree.v2 / pod_cgroup / "shim");
  }
  if (!tree.systemd_v1.empty())
    leaves.push_back(tree.systemd_v1 / pod_cgroup / "shim");
  for (const fs::path& leaf : leaves)
    SHOAL_TRY(make_dirs(leaf));
  return leaves;
}

std::int64_t cpu_shares(std::int64_t request_milli) {
  constexpr std::int64_t kRequestMax = 1'000'000'000;  // past every weight there is
  return std::clamp<std::int64_t>(std::min(request_milli, kRequestMax) * 1024 / 1000, 2, 262'144);
}

std::int64_t cpu_weight(std::int64_t request_milli) {
  return 1 + (cpu_shares(request_milli) - 2) * 9999 / 262'142;
}

Result<> limit_pod_cgroup(const CgroupTree& tree, const std::string& pod_cgroup,
                          const PodLimits& limits) {
  const bool v2 = tree.layout == CgroupLayout::kV2;
  // controller: the v1 hierarchy that has it. asked: somebody relies on it.
  const auto set = [&](const fs::path& controller, const char* v1_file, const std::string& v1_text,
                       const char* v2_file, const std::string& v2_text,
                       std::string_view asked) -> Result<> {
    const fs::path group = (v2 ? tree.v2 : controller) / pod_cgroup;
    const fs::path file = group / (v2 ? v2_file : v1_file);
    if (v2 || !controller.empty()) {
      if (!v2)
        SHOAL_TRY(make_dirs(group));
      if (::access(file.c_str(), F_OK) == 0)
        return write_control(file, v2 ? v2_text : v1_text);
    }
    if (asked.empty())
      return {};
    return fail(Errc::kUnsupported,
                fmt::format("this host has no {0} controller for {1}: boot it with that cgroup "
                            "controller, or leave resources.limits.{0} out",
                            asked, group.string()));
  };
  SHOAL_TRY(set(tree.cpu_v1, "cpu.shares", std::to_string(cpu_shares(limits.cpu_request_milli)),
                "cpu.weight", std::to_string(cpu_weight(limits.cpu_request_milli)), ""));
  if (limits.cpu_milli) {
    const std::int64_t quota =
        std::clamp<std::int64_t>(*limits.cpu_milli, 10, INT64_C(1'000'000'000)) * 100;
    SHOAL_TRY(set(tree.cpu_v1, "cpu.cfs_quota_us", std::to_string(quota), "cpu.max",
                  fmt::format("{} 100000", quota), "cpu"));
  }
  if (limits.memory_bytes) {
    const std::string bytes = std::to_string(*limits.memory_bytes);
    SHOAL_TRY(set(tree.memory_v1, "memory.limit_in_bytes", bytes, "memory.max", bytes, "memory"));
  }
  if (limits.pids) {
    const std::string most = std::to_string(*limits.pids);
    SHOAL_TRY(set(tree.pids_v1, "pids.max", most, "pids.max", most, ""));
  }
  return {};
}

Result<> limit_slice(const CgroupTree& tree, const std::string& slice, const PodLimits& limits) {
  if (!tree.v2.empty())
    SHOAL_TRY(make_v2_group(tree, slice));
  return limit_pod_cgroup(tree, slice, limits);
}

void name_cgroups(const CgroupTree& tree, const std::string& cgroups_path, shim::ExecPlan& plan) {
  for (const fs::path& root : tree.v1)
    plan.cgroups.push_back(root.string() + cgroups_path);
  if (!tree.v2.empty())
    plan.cgroup2 = tree.v2.string() + cgroups_path;
}

Result<> kill_pod_cgroup(const CgroupTree& tree, const std::string& pod_cgroup) {
  if (tree.v2.empty())
    return kill_frozen(tree, pod_cgroup);
  const fs::path group = tree.v2 / pod_cgroup;
  if (::access(group.c_str(), F_OK) != 0)
    return {};
  if (::access((group / "cgroup.kill").c_str(), F_OK) == 0) {
    SHOAL_TRY(write_control(group / "cgroup.kill", "1"));
  } else {
    // Whoever forks while we walk is met on a later round.
    for (int round = 0; round < 16 && kill_each(group, 0) > 0; ++round) {
    }
  }
  return wait_until_empty(group);
}

Result<> remove_pod_cgroup(const CgroupTree& tree, const std::string& pod_cgroup) {
  const auto deadline = std::chrono::steady_clock::now() + kRemoveWait;
  std::vector<fs::path> roots = tree.v1;
  if (!tree.v2.empty())
    roots.push_back(tree.v2);
  Result<> first;
  for (const fs::path& root : roots)
    if (auto removed = remove_group_tree(root / pod_cgroup, 0, deadline); !removed && first)
      first = std::move(removed);
  return first;
}

std::vector<std::string> list_pod_cgroups(const CgroupTree& tree, std::string_view slice) {
  std::vector<fs::path> roots = tree.v1;
  if (!tree.v2.empty())
    roots.push_back(tree.v2);
  std::set<std::string> uids;
  for (const fs::path& root : roots)
    for (const std::string& name : child_dirs(root / slice))
      if (name.starts_with(kPodPrefix))
        uids.insert(name.substr(kPodPrefix.size()));
  return {uids.begin(), uids.end()};
}

std::vector<fs::path> slice_cgroups(const CgroupTree& tree, std::string_view slice) {
  std::vector<fs::path> roots = tree.v1;
  if (!tree.v2.empty())
    roots.push_back(tree.v2);
  std::vector<fs::path> found;
  for (const fs::path& root : roots)
    if (::access((root / slice).c_str(), F_OK) == 0)
      found.push_back(root / slice);
  return found;
}

Result<> remove_slice(const fs::path& cgroup) {
  if (::rmdir(cgroup.c_str()) != 0 && errno != ENOENT)
    return fail_errno(fmt::format("remove cgroup {}", cgroup.string()));
  return {};
}

}  // namespace shoal::runtime
