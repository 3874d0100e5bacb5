// SPDX-License-Identifier: Apache-2.0
// Sends datagrams from any source address, for the agent.
#pragma once

#include "netplane/base/result.h"
#include "netplane/kernel/rtnl/raw_udp.h"

namespace shoal::apply {

Result<kernel::RawUdp> open_raw_udp();

}  // namespace shoal::apply
