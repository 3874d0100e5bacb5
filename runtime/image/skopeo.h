// SPDX-License-Identifier: Apache-2.0
// Runs skopeo as a child: with the credentials, registries and certificates that it is given and no
// others, watched while it runs, and never for longer than this process.
#pragma once

#include "runtime/image/pull.h"

#include <functional>
#include <string>
#include <vector>

namespace shoal::runtime {

struct SkopeoRun {
  std::vector<std::string> arguments;  // from the command on
  std::filesystem::path work_dir;      // for its temporary files; its home
  std::size_t output_bytes_max = 4 << 20;
  // Called a few times a second; its error ends skopeo. Empty: it has PullOptions::stall in all.
  std::function<Result<>()> watch;
};

// Its standard output. Its own message otherwise, with a code that says whose fault it is.
Result<std::string> run_skopeo(const PullOptions& options, const SkopeoRun& run,
                               const std::atomic<bool>* cancelled);

Result<> not_cancelled(const std::atomic<bool>* cancelled);

inline constexpr std::chrono::milliseconds kSkopeoLook{200};

}  // namespace shoal::runtime
