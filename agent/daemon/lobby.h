// SPDX-License-Identifier: Apache-2.0
// A host that is in no cluster yet: shoald serves its unix socket and waits for `shoal init` or
// `shoal join`. Everything else is refused with what to do.
//
//   POST /shoal/v1/init  {}                                   -> {"node", "clusterId"}
//   POST /shoal/v1/join  {"address": "IP:PORT", "token": "..."} -> {"node", "clusterId"}
//   GET  /shoal/v1/status                                      -> {"phase": "NotMember", "node",
//   "version"}
//
// Both are done when cluster.json is on the disk; the agent then begins anew as a member.
#pragma once

#include "agent/daemon/options.h"
#include "netplane/base/random.h"

namespace shoal::daemon {

// Runs until this host is a member or SIGTERM / SIGINT comes.
Result<Ended> run_lobby(const Options& options, const IpAddress& underlay, const Clock& clock,
                        Random& random);

}  // namespace shoal::daemon
