// SPDX-License-Identifier: Apache-2.0
// Spawning the OCI runtime from the shim: in the right cgroup2 leaf, and on a hybrid cgroup layout
// in a private mount namespace from which the cgroup2 tree is unmounted (crun 1.8 refuses to run
// beside one, and runc would move the container out of the host's subtree). Mounts still propagate
// into it, so it pins nothing that the host unmounts. One thread. Part of the static shim.
#pragma once

#include "netplane/base/result.h"

#include <string>
#include <sys/types.h>
#include <vector>

namespace shoal::runtime::shim {

struct Spawn {
  std::vector<std::string> argv;
  int stdin_fd = -1;  // -1: /dev/null
  int stdout_fd = -1;
  int stderr_fd = -1;
  int extra_fd = -1;         // kept open under its own number
  std::string cgroup2_leaf;  // joined before exec; empty: stay
  std::string hide_mount;    // the cgroup2 mount point of a hybrid layout; empty: nothing to hide
  std::string error_file;    // what went wrong before exec is appended here; empty: to stderr_fd
};

// The child leads a process group of its own. A failure after the fork ends the child with 126 or
// 127.
Result<pid_t> spawn(const Spawn& spawn);

// 128 + signal when a signal ended it; status as waitpid(2) gives it.
int exit_code_of(int status);

// SIGKILL to the direct children of `pid`. False when it has none.
bool kill_children_of(pid_t pid);

}  // namespace shoal::runtime::shim
