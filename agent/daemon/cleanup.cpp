// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/cleanup.h"

#include "netplane/apply/cleanup.h"
#include "netplane/base/fs.h"
#include "runtime/sandbox/mounts.h"
#include "runtime/sandbox/sandbox.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace shoal::daemon {
namespace {

struct Pods {
  std::vector<std::string> running;  // their shims answer
  std::vector<std::string> left;     // no shim, but something in the kernel or in run_dir
};

// A folder on disk with logs alone is nothing of the kernel's.
Result<Pods> find_pods(const runtime::SandboxEnv& env) {
  Pods pods;
  const std::vector<std::string> grouped = runtime::list_pod_cgroups(env.cgroups, env.slice);
  for (const std::string& uid : SHOAL_TRY(runtime::list_sandboxes(env))) {
    const auto sandbox = runtime::find_sandbox(env, uid);
    if (sandbox || sandbox.error().code() != Errc::kNotFound) {
      pods.running.push_back(uid);
      continue;
    }
    std::error_code ignored;
    if (std::ranges::find(grouped, uid) != grouped.end() ||
        std::filesystem::exists(env.pod_run_dir(uid), ignored) ||
        !SHOAL_TRY(runtime::mounts_below(env.pod_data_dir(uid))).empty())
      pods.left.push_back(uid);
  }
  return pods;
}

apply::CleanupStep sweep_step(const runtime::SandboxEnv& env, const std::string& uid,
                              std::string_view state) {
  return {fmt::format("pod {} ({}): processes, mounts, cgroups", uid, state),
          [env, uid]() -> Result<> {
            SHOAL_TRY(runtime::sweep_sandbox(env, uid, runtime::Sweep::kKeepVolumes));
            return runtime::unmount_below(env.volumes_dir(uid));  // those in memory
          }};
}

Result<std::vector<apply::CleanupStep>> plan(const CleanupOptions& options,
                                             const runtime::SandboxEnv& env) {
  std::vector<apply::CleanupStep> steps;
  const Pods pods = SHOAL_TRY_WRAP(find_pods(env), "look for pods");
  if (!pods.running.empty() && !options.force && !options.dry_run)
    return fail(Errc::kConflict,
                fmt::format("{} pods run on this host and would be cut off: {}; move them away "
                            "first (shoal drain), or end them with --force",
                            pods.running.size(), fmt::join(pods.running, ", ")));
  for (const std::string& uid : pods.running)
    steps.push_back(sweep_step(env, uid, "running"));
  for (const std::string& uid : pods.left)
    steps.push_back(sweep_step(env, uid, "left over"));
  for (const std::filesystem::path& slice : runtime::slice_cgroups(env.cgroups, env.slice))
    steps.push_back({"cgroup " + slice.string(), [slice] { return runtime::remove_slice(slice); }});
  for (apply::CleanupStep& step : SHOAL_TRY(apply::plan_network_cleanup(options.bpffs)))
    steps.push_back(std::move(step));
  return steps;
}

}  // namespace

Result<> run_cleanup(const CleanupOptions& options,
                     const std::function<void(std::string_view)>& say) {
  std::error_code ignored;
  UniqueFd lock;
  if (!options.dry_run && std::filesystem::exists(options.state_dir, ignored))
    lock = SHOAL_TRY_WRAP(lock_file(options.state_dir / "lock"),
                          "shoald runs on this host (systemctl stop shoald)");
  runtime::SandboxEnv env;
  env.run_dir = options.run_dir / "pods";
  env.data_dir = options.state_dir / "pods";
  env.cgroups = SHOAL_TRY(runtime::detect_cgroups());
  const auto steps = SHOAL_TRY(plan(options, env));
  Result<> first;
  for (const apply::CleanupStep& step : steps) {
    Result<> done = options.dry_run ? Result<>() : step.remove();
    if (!done) {
      say(fmt::format("failed: {}: {}", step.what, done.error().message()));
      if (first)
        first = std::move(done);
      continue;
    }
    say(fmt::format("{} {}", options.dry_run ? "would remove" : "removed", step.what));
  }
  if (steps.empty())
    say("there is nothing of Shoal in this kernel");
  else
    say("left as they are: the sysctls net.ipv4.ip_forward and rp_filter of the uplink, and what "
        "is "
        "on disk");
  return first;
}

}  // namespace shoal::daemon
