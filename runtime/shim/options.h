// SPDX-License-Identifier: Apache-2.0
// What the agent tells a shim on its command line. Part of the static shim.
#pragma once

#include "netplane/base/result.h"

#include <string>
#include <vector>

namespace shoal::runtime::shim {

struct Options {
  std::string pod_dir;        // --dir: exists, root's alone; shim.sock and shim.state go there
  std::string hostname;       // --hostname
  std::string oci_runtime;    // --runtime: absolute path of crun or runc
  std::string pod_cgroup;     // --cgroup: "shoal.slice/pod-UID", below every hierarchy's root
  std::string cgroup2;        // --cgroup2: mount point; empty on v1
  bool hybrid = false;        // --hybrid: v1 controllers beside that cgroup2 tree
  std::string memory_v1;      // --memory-v1: mount point of the v1 memory controller; empty on v2
  std::string freezer_v1;     // --freezer-v1: that of the v1 freezer, where there is no cgroup2
  bool share_pids = false;    // --share-pids: all containers are in one pid namespace
  bool host_ipc = false;      // --host-ipc: the pod has no IPC namespace of its own
  bool host_network = false;  // --host-network: nor network and UTS namespaces
  std::vector<std::string> join;  // --join: cgroup folders the shim moves itself into

  std::string cgroup2_leaf(const std::string& id) const {
    return cgroup2.empty() ? std::string() : cgroup2 + "/" + pod_cgroup + "/" + id;
  }
};

Result<Options> parse_options(int argc, char** argv);

}  // namespace shoal::runtime::shim
