// SPDX-License-Identifier: Apache-2.0
// Which programs see what comes to the uplink: tc's always; XDP's before them, where it is wanted
// and would do no harm.
#pragma once

#include "netplane/apply/config.h"
#include "netplane/base/result.h"
#include "netplane/kernel/rtnl/rtnl.h"

#include <string>

namespace shoal::apply {

struct XdpChoice {
  bool attach = false;
  std::string limitation;  // when not: why, and what that costs; empty: it costs nothing
};

// Pure. Of a kernel that has XDP; whether the device's driver does shows when it is attached.
XdpChoice choose_xdp(const Config& config, const kernel::Uplink& uplink);

// The same for a device that has refused it.
std::string xdp_refused(const kernel::Uplink& uplink, const Error& why);

}  // namespace shoal::apply
