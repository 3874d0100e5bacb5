// SPDX-License-Identifier: Apache-2.0
// The ports that a member listens on: tried before a host becomes a member, and what to do about
// one that cannot be had.
#pragma once

#include "agent/daemon/options.h"
#include "netplane/base/result.h"

namespace shoal::daemon {

// Adds to a failed bind what mends it. section: of the config, "api", "gossip" or "metrics". Any
// other error is passed on as it is.
Result<> explain_listen(Result<> listened, std::string_view section);

// Binds and lets go of each port of api, gossip and metrics: the first that cannot be had, with its
// mend. Another program may take one the moment after; this is for telling the user in time.
Result<> check_ports(const Options& options);

}  // namespace shoal::daemon
