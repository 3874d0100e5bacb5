// SPDX-License-Identifier: Apache-2.0
// A further process in a container, without the OCI runtime: a helper joins the container's cgroups
// and namespaces and leaves behind it, as a child of the shim, the process that becomes the command
// (see setns(2), namespaces(7), capabilities(7), seccomp(2)).
//
// Nothing of the shim may be had from within the container: from before it enters, the process is
// not dumpable, so that a process of the container without CAP_SYS_PTRACE can neither trace it nor
// open its /proc/PID/exe and fds; none but its three standard streams are open by the time it is
// the container's user; and its folder is one of the container's. One thread. Part of the static
// shim.
#pragma once

#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"
#include "runtime/shim/protocol.h"

#include <string>
#include <sys/types.h>

namespace shoal::runtime::shim {

struct Entering {
  pid_t helper = -1;  // ends with 0 once report holds the command's pid (a pid_t)
  UniqueFd report;    // never blocks
};

// init is the container's first process, a child of the caller that has not been waited for.
// cgroup2_root is where that tree is mounted; empty: there is none. The command and what it starts
// are a session of their own. What fails in the helper or after it is written to the command's
// standard error (with a terminal, as long as there is none: to the caller's), and ends it with
// 126, or 127 where there is no such program.
Result<Entering> enter(const ExecPlan& plan, const EnterRequest& request, pid_t init,
                       const std::string& cgroup2_root, UniqueFd (&fds)[kExecFds]);

}  // namespace shoal::runtime::shim
