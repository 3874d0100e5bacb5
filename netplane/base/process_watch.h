// SPDX-License-Identifier: Apache-2.0
// Child processes whose time cannot be told in advance: looked after while they run.
#pragma once

#include "netplane/base/process.h"

namespace shoal {

// As run_process; `watch` is called about once in `every`, and its error ends the child (SIGKILL to
// its process group) and is returned.
Result<RunOutput> run_watched(const std::vector<std::string>& argv, const RunOptions& options,
                              const std::function<Result<>()>& watch,
                              std::chrono::milliseconds every);

}  // namespace shoal
