// SPDX-License-Identifier: Apache-2.0
// What a privileged container gets of its host beyond what every container has.
#pragma once

#include "netplane/base/result.h"
#include "runtime/spec/container_config.h"

#include <filesystem>
#include <vector>

namespace shoal::runtime {

// The device nodes below `dev`, by path; not the terminals and the shared memory, of which each
// container has its own. At most kHostDevicesMax. What vanishes meanwhile is left out.
inline constexpr std::size_t kHostDevicesMax = 4096;
std::vector<DeviceNode> host_devices(const std::filesystem::path& dev = "/dev");

// The capabilities that this process could hand on (CapBnd of /proc/self/status; capabilities(7)).
Result<std::uint64_t> capability_bound();
// From the text of that file; pure.
Result<std::uint64_t> parse_capability_bound(std::string_view status);

}  // namespace shoal::runtime
