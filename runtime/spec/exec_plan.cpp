// SPDX-License-Identifier: Apache-2.0
#include "runtime/spec/exec_plan.h"

#include "runtime/spec/capabilities.h"
#include "runtime/spec/seccomp.h"
#include "runtime/spec/seccomp_filter.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::runtime {
namespace {

// Most containers have the default profile, and it is the same for all of them.
Result<SeccompFilter> filter_of(const ContainerConfig& config) {
  if (!config.seccomp_profile.empty())
    return seccomp_filter(config.seccomp_profile);
  static const Result<SeccompFilter> kDefault = seccomp_filter(default_seccomp_profile());
  return kDefault;
}

}  // namespace

Result<shim::ExecPlan> exec_plan(const ContainerConfig& config, std::string_view home) {
  shim::ExecPlan plan;
  plan.uid = config.user.uid;
  plan.gid = config.user.gid;
  plan.groups = config.user.additional_gids;
  plan.cwd = config.cwd;
  bool has_home = false;
  for (const std::string& entry : config.env) {
    has_home = has_home || entry.starts_with("HOME=");
    plan.env.append(entry).push_back('\0');
  }
  if (!has_home)
    plan.env.append("HOME=").append(home).push_back('\0');
  plan.capabilities = SHOAL_TRY(effective_capabilities(config));
  plan.no_new_privileges = config.no_new_privileges && !config.privileged;
  plan.has_oom_score_adj = config.oom_score_adj.has_value();
  plan.oom_score_adj = config.oom_score_adj.value_or(0);
  plan.nofile = std::min(config.nofile, config.nofile_hard);
  if (config.seccomp && !config.privileged) {
    SeccompFilter filter = SHOAL_TRY(filter_of(config));
    plan.seccomp = std::move(filter.program);
    plan.seccomp_flags = filter.flags;
  }
  return plan;
}

}  // namespace shoal::runtime
