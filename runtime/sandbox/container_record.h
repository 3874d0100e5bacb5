// SPDX-License-Identifier: Apache-2.0
// What became of containers, as their shims put it on disk beside their logs (the record of
// runtime/shim/protocol.h): it is read when the shim is no longer there to be asked.
//
// One writer at a time: the shim while it lives, whoever takes its pod up afterwards. Blocking.
#pragma once

#include "netplane/base/result.h"
#include "runtime/shim/protocol.h"

#include <filesystem>
#include <vector>

namespace shoal::runtime {

// Of one container's attempts, by attempt. A record that cannot be read is left out, as if that
// attempt had never run. No folder: none.
Result<std::vector<shim::ContainerState>> read_container_records(const std::filesystem::path& dir);
Result<> write_container_record(const std::filesystem::path& dir,
                                const shim::ContainerState& state);

}  // namespace shoal::runtime
