// SPDX-License-Identifier: Apache-2.0
#include "runtime/sandbox/sandbox.h"

#include "netplane/base/fs.h"
#include "netplane/base/strings.h"
#include "runtime/rootfs/remove_tree.h"
#include "runtime/sandbox/mounts.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <fmt/format.h>
#include <poll.h>
#include <set>
#include <unistd.h>

namespace shoal::runtime {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::milliseconds kShimStartTimeout{10'000};
constexpr int kKillWaitMs = 2000;
// All that a shim, and the OCI runtimes below it, get of the agent's environment: with a service
// manager's NOTIFY_SOCKET, say, `runc run` would wait for the container to report itself ready.
constexpr const char* kShimPath =
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// A uid becomes part of paths and cgroup names.
Result<> check_uid(std::string_view uid) {
  if (!is_dns_label(uid))
    return fail(Errc::kInvalid, fmt::format("pod uid '{}' is not a DNS label", printable(uid)));
  return {};
}

std::vector<std::string> shim_command(const SandboxEnv& env, const SandboxSpec& spec,
                                      const std::vector<fs::path>& leaves) {
  std::vector<std::string> argv{env.shim.string(),
                                "--dir",
                                env.pod_run_dir(spec.uid).string(),
                                "--hostname",
                                spec.hostname,
                                "--runtime",
                                env.oci_runtime.string(),
                                "--cgroup",
                                pod_cgroup(env.slice, spec.uid)};
  if (!env.cgroups.v2.empty())
    argv.insert(argv.end(), {"--cgroup2", env.cgroups.v2.string()});
  if (env.cgroups.layout == CgroupLayout::kHybrid)
    argv.push_back("--hybrid");
  if (!env.cgroups.memory_v1.empty())
    argv.insert(argv.end(), {"--memory-v1", env.cgroups.memory_v1.string()});
  if (env.cgroups.v2.empty() && !env.cgroups.freezer_v1.empty())
    argv.insert(argv.end(), {"--freezer-v1", env.cgroups.freezer_v1.string()});
  if (spec.share_pids)
    argv.push_back("--share-pids");
  if (spec.host_ipc)
    argv.push_back("--host-ipc");
  if (spec.host_network)
    argv.push_back("--host-network");
  for (const fs::path& leaf : leaves)
    argv.insert(argv.end(), {"--join", leaf.string()});
  return argv;
}

// SIGKILL to the processes that the shim noted and that are still the same ones.
Result<> kill_recorded(const fs::path& run_dir) {
  auto text = read_file(run_dir / "shim.state", 64 * 1024);
  if (!text)
    return text.error().code() == Errc::kNotFound ? Result<>() : fail(std::move(text).error());
  const ShimRecord record = SHOAL_TRY(parse_shim_record(*text));
  if (record.boot_id != SHOAL_TRY(boot_id()))
    return {};
  std::vector<ProcessId> processes{
      record.shim};  // the shim first: it must not start anything meanwhile
  processes.insert(processes.end(), record.containers.begin(), record.containers.end());
  for (const ProcessId& process : processes) {
    auto pidfd = open_pidfd(process);
    if (!pidfd)
      continue;
    // A container of a shim that just died often ends between the two calls.
    if (auto killed = signal_pidfd(pidfd->get(), SIGKILL);
        !killed && killed.error().code() != Errc::kNotFound)
      return killed;
    pollfd poll_fd{pidfd->get(), POLLIN, 0};
    if (::poll(&poll_fd, 1, kKillWaitMs) == 0)
      return fail(Errc::kTimeout, fmt::format("process {} does not die", process.pid));
  }
  return {};
}

Result<> remove_data(const fs::path& path, Sweep what) {
  if (what == Sweep::kAll)
    return remove_tree(path);
  std::error_code error;
  for (fs::directory_iterator at(path, error), end; !error && at != end; at.increment(error))
    if (const fs::path name = at->path().filename();
        name != "logs" && name != "status.json" &&
        (name != "volumes" || what != Sweep::kKeepVolumes))
      SHOAL_TRY(remove_tree(at->path()));
  return {};
}

}  // namespace

Result<ShimRecord> parse_shim_record(std::string_view text) {
  ShimRecord record;
  for (const std::string_view line : split(trim(text), '\n')) {
    const auto words = split(line, ' ');
    const auto process = [&](std::size_t at) -> std::optional<ProcessId> {
      const auto pid = words.size() == at + 2 ? parse_uint(words[at], INT32_MAX) : std::nullopt;
      const auto ticks = pid ? parse_uint(words[at + 1]) : std::nullopt;
      if (!ticks || *pid < 2)
        return std::nullopt;
      return ProcessId{static_cast<pid_t>(*pid), *ticks};
    };
    if (words[0] == "boot" && words.size() == 2) {
      record.boot_id = words[1];
    } else if (const auto shim = words[0] == "shim" ? process(1) : std::nullopt) {
      record.shim = *shim;
    } else if (const auto container = words[0] == "container" ? process(2) : std::nullopt) {
      record.containers.push_back(*container);
    } else {
      return fail(Errc::kCorrupt, fmt::format("shim.state: cannot read '{}'", printable(line)));
    }
  }
  if (record.boot_id.empty() || record.shim.pid == 0)
    return fail(Errc::kCorrupt, "shim.state: names no boot or no shim");
  return record;
}

Result<Sandbox> start_sandbox(const SandboxEnv& env, const SandboxSpec& spec) {
  SHOAL_TRY(check_uid(spec.uid));
  const fs::path run_dir = env.pod_run_dir(spec.uid);
  for (const char* name : {"shim.sock", "shim.state"})
    if (::access((run_dir / name).c_str(), F_OK) == 0)
      return fail(Errc::kExists,
                  fmt::format("{} exists: the pod has a sandbox", (run_dir / name).string()));
  SHOAL_TRY(make_dirs(env.run_dir));
  SHOAL_TRY(make_dirs(run_dir, 0700));
  const auto start = [&]() -> Result<Sandbox> {
    const std::string group = pod_cgroup(env.slice, spec.uid);
    const auto leaves = SHOAL_TRY(make_pod_cgroup(env.cgroups, group));
    SHOAL_TRY(limit_pod_cgroup(env.cgroups, group, spec.limits));
    RunOptions options;
    options.timeout = kShimStartTimeout;
    options.env = {kShimPath};
    SHOAL_TRY(run_checked(shim_command(env, spec, leaves), options));
    return find_sandbox(env, spec.uid);
  };
  auto sandbox = start();
  if (!sandbox) {
    (void)sweep_sandbox(env, spec.uid, Sweep::kKeepVolumes);  // the first error is the one to tell
    return fail(
        std::move(sandbox).error().wrap(fmt::format("start the sandbox of pod {}", spec.uid)));
  }
  return sandbox;
}

Result<Sandbox> find_sandbox(const SandboxEnv& env, const std::string& uid) {
  SHOAL_TRY(check_uid(uid));
  ShimFacts facts = SHOAL_TRY(ShimClient(env.socket(uid)).state());
  Sandbox sandbox;
  sandbox.uid = uid;
  sandbox.pidfd = SHOAL_TRY(open_pidfd({facts.state.shim_pid, facts.state.shim_start_ticks}));
  sandbox.netns = std::move(facts.netns);
  sandbox.state = std::move(facts.state);
  return sandbox;
}

Result<std::vector<std::string>> list_sandboxes(const SandboxEnv& env) {
  std::set<std::string> uids;
  for (std::string& uid : list_pod_cgroups(env.cgroups, env.slice))
    uids.insert(std::move(uid));
  for (const fs::path& dir : {env.run_dir, env.data_dir}) {
    std::error_code error;
    fs::directory_iterator at(dir, error);
    for (const fs::directory_iterator end; !error && at != end; at.increment(error))
      if (at->is_directory(error) && is_dns_label(at->path().filename().string()))
        uids.insert(at->path().filename().string());
    if (error && error != std::errc::no_such_file_or_directory)
      return fail_errno(error.value(), fmt::format("list {}", dir.string()));
  }
  return std::vector<std::string>(uids.begin(), uids.end());
}

Result<> sweep_sandbox(const SandboxEnv& env, const std::string& uid, Sweep what) {
  SHOAL_TRY(check_uid(uid));
  const std::string group = pod_cgroup(env.slice, uid);
  Result<> first;
  const auto note = [&first](Result<> result) {
    if (!result && first)
      first = std::move(result);
  };
  note(kill_pod_cgroup(env.cgroups, group));
  note(kill_recorded(env.pod_run_dir(uid)));
  note(leave_peers_below(env.pod_run_dir(uid) / "parts"));
  const std::array folders{env.pod_run_dir(uid), env.pod_data_dir(uid)};
  note(unmount_below(folders, what == Sweep::kKeepVolumes ? env.volumes_dir(uid) : fs::path()));
  note(remove_pod_cgroup(env.cgroups, group));
  // The record of processes goes last, and only when they are gone.
  note(remove_data(env.pod_data_dir(uid), what));
  if (first)
    note(remove_tree(env.pod_run_dir(uid)));
  if (!first)
    return fail(std::move(first).error().wrap(fmt::format("sweep pod {}", uid)));
  return {};
}

}  // namespace shoal::runtime
