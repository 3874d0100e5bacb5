// SPDX-License-Identifier: Apache-2.0
#include "runtime/shim/options.h"

#include <string_view>

namespace shoal::runtime::shim {

namespace {

bool* switch_of(Options& options, std::string_view flag) {
  if (flag == "--hybrid")
    return &options.hybrid;
  if (flag == "--share-pids")
    return &options.share_pids;
  if (flag == "--host-ipc")
    return &options.host_ipc;
  return flag == "--host-network" ? &options.host_network : nullptr;
}

}  // namespace

Result<Options> parse_options(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (bool* known = switch_of(options, flag)) {
      *known = true;
      continue;
    }
    if (i + 1 == argc)
      return fail(Errc::kInvalid, std::string(flag) + " needs a value");
    std::string value = argv[++i];
    if (flag == "--dir")
      options.pod_dir = std::move(value);
    else if (flag == "--hostname")
      options.hostname = std::move(value);
    else if (flag == "--runtime")
      options.oci_runtime = std::move(value);
    else if (flag == "--cgroup")
      options.pod_cgroup = std::move(value);
    else if (flag == "--cgroup2")
      options.cgroup2 = std::move(value);
    else if (flag == "--memory-v1")
      options.memory_v1 = std::move(value);
    else if (flag == "--freezer-v1")
      options.freezer_v1 = std::move(value);
    else if (flag == "--join")
      options.join.push_back(std::move(value));
    else
      return fail(Errc::kInvalid, "unknown option " + std::string(flag));
  }
  if (options.pod_dir.empty() || options.hostname.empty() || options.oci_runtime.empty() ||
      options.pod_cgroup.empty())
    return fail(Errc::kInvalid,
                "--dir, --hostname, --runtime and --cgroup are needed; shoald gives them");
  return options;
}

}  // namespace shoal::runtime::shim
