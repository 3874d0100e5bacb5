// SPDX-License-Identifier: Apache-2.0
// Contest: one address and port is one owner's. ClusterIPs, VIPs and node ports are unique by
// allocation; externalIPs, hostPorts and addresses that other controllers give are not. What an
// allocation gave stands before what somebody wrote, a Service before a pod, and the older before
// the younger: the same on every host, and nobody can take what another one has. Pure. Internal to
// agent/desired.
#pragma once

#include "agent/desired/desired.h"

namespace shoal::desired {

// Takes lost frontends out of `services`, with a finding about the loser. `owners` are the parts'
// objects in the order in which their ports stand there.
void settle_contests(const std::set<model::FrontendKey>& contested,
                     const std::vector<OwnedPorts>& owners,
                     std::vector<model::ServicePort>& services, std::set<Finding>& findings);

}  // namespace shoal::desired
