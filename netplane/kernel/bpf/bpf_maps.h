// SPDX-License-Identifier: Apache-2.0
// DataMaps on the pinned BPF maps: the one place where their layouts and byte order meet host
// types. Made by Loader::maps(); owns its descriptors, so it may outlive the loader.
#pragma once

#include "netplane/base/unique_fd.h"
#include "netplane/kernel/bpf/data_maps.h"

#include <filesystem>
#include <memory>

namespace shoal::kernel {

// Opens the maps pinned in `folder` (Loader's maps_folder()). Also for processes that only look:
// the agent's inspection endpoints and tests.
Result<std::unique_ptr<DataMaps>> open_bpf_maps(const std::filesystem::path& folder);

}  // namespace shoal::kernel
