// SPDX-License-Identifier: Apache-2.0
#include "netplane/apply/uplink.h"

#include "netplane/kernel/rtnl/rtnl.h"

namespace shoal::apply {

Result<HostUplink> find_host_uplink(std::string_view device, std::optional<IpAddress> address,
                                    const std::vector<std::string>& names) {
  const auto rtnl = SHOAL_TRY_WRAP(kernel::open_rtnl(), "open rtnetlink");
  const auto uplinks =
      SHOAL_TRY(kernel::find_uplinks(*rtnl, {std::string(device), address, names}));
  return HostUplink{uplinks.front().name, uplinks.front().address};
}

}  // namespace shoal::apply
