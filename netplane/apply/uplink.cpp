// SPDX-License-Identifier: Apache-2.0
#include "netplane/apply/uplink.h"

#include "netplane/kernel/rtnl/rtnl.h"

namespace shoal::apply {

Result<HostUplink> find_host_uplink(std::string_view device, std::optional<IpAddress> address) {
  const auto rtnl = SHOAL_TRY_WRAP(kernel::open_rtnl(), "open rtnetlink");
  const kernel::Uplink uplink = SHOAL_TRY(kernel::find_uplink(*rtnl, device, address));
  return HostUplink{uplink.name, uplink.address};
}

}  // namespace shoal::apply
