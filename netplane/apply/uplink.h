// SPDX-License-Identifier: Apache-2.0
// Which device and address of this host face the others: what the agent must know before it has a
// data plane.
#pragma once

#include "netplane/base/ip.h"
#include "netplane/base/result.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::apply {

struct HostUplink {
  std::string name;
  IpAddress address;
};

// The main uplink: the device named, or the one that has the address, or that of the default route,
// or the only one that is up. kNotFound says what was looked for.
// `names`: what the configuration says of all uplinks (kernel::UplinkWish).
Result<HostUplink> find_host_uplink(std::string_view device, std::optional<IpAddress> address,
                                    const std::vector<std::string>& names);

}  // namespace shoal::apply
