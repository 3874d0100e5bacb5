// SPDX-License-Identifier: Apache-2.0
// `shoald --cleanup`: takes out of this host's kernel everything that Shoal put there: the network
// (netplane/apply/cleanup.h), and the pods' processes, mounts, namespaces and cgroups. What is on
// disk stays: membership, objects, images, logs. A shoald that is started again makes it all anew.
//
// Refused while shoald runs, since it would mend at once what goes. Refused while pods run, since
// they would be cut off, unless `force`, which ends them. A dry run only lists, and is never
// refused.
#pragma once

#include "netplane/base/result.h"

#include <filesystem>
#include <functional>
#include <string_view>

namespace shoal::daemon {

struct CleanupOptions {
  std::filesystem::path state_dir;
  std::filesystem::path run_dir;
  std::filesystem::path bpffs;
  bool dry_run = false;
  bool force = false;
};

// `say` gets a line for each thing, and for what is left as it is. Goes on past errors and returns
// the first.
Result<> run_cleanup(const CleanupOptions& options,
                     const std::function<void(std::string_view)>& say);

}  // namespace shoal::daemon
