// SPDX-License-Identifier: Apache-2.0
// hostPath volumes: what has to be at a path of the host, and is made where the type says so.
// Messages are the kubelet's. Blocking.
#pragma once

#include "netplane/base/result.h"

#include <filesystem>
#include <string_view>

namespace shoal::runtime {

// type: Kubernetes' name of it. "": whatever is there, and a folder where nothing is, as containerd
// has it.
Result<> check_host_path(const std::filesystem::path& path, std::string_view type);

}  // namespace shoal::runtime
