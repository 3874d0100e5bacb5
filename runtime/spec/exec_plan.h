// SPDX-License-Identifier: Apache-2.0
// What a container's further processes are, for its shim (runtime/shim/protocol.h, ExecPlan): the
// same user, capabilities, limits and seccomp program that oci_spec() gives its first one. The
// cgroups are left to who knows the host's (name_cgroups in runtime/sandbox/cgroup.h).
#pragma once

#include "netplane/base/result.h"
#include "runtime/shim/protocol.h"
#include "runtime/spec/container_config.h"

#include <string_view>

namespace shoal::runtime {

// home is HOME where the environment has none: home_of() the user.
Result<shim::ExecPlan> exec_plan(const ContainerConfig& config, std::string_view home);

}  // namespace shoal::runtime
