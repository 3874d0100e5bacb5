// SPDX-License-Identifier: Apache-2.0
// The capabilities of a container's processes: Shoal's small default set, and what its
// configuration adds and drops. A set is a number, bit by bit in the kernel's order
// (capabilities(7)): CAP_CHOWN is the lowest.
#pragma once

#include "netplane/base/result.h"
#include "runtime/spec/container_config.h"

#include <cstdint>
#include <string>
#include <vector>

namespace shoal::runtime {

// As Kubernetes has it: what is added by name stays, even when ALL is dropped. kInvalid names one
// that is not known.
Result<std::uint64_t> effective_capabilities(const ContainerConfig& config);
std::vector<std::string> capability_names(std::uint64_t set);  // "CAP_CHOWN", ...

}  // namespace shoal::runtime
