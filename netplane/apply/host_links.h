// SPDX-License-Identifier: Apache-2.0
// What every data plane stands on: the uplink, the overlay's device with the neighbour that stands
// for all other hosts, and a host that forwards.
#pragma once

#include "netplane/apply/config.h"
#include "netplane/apply/data_plane.h"
#include "netplane/kernel/rtnl/pod_net.h"
#include "netplane/kernel/rtnl/rtnl.h"

#include <cstdint>

namespace shoal::apply {

struct HostLinks {
  kernel::Uplink uplink;
  kernel::Link overlay;
  std::uint32_t pod_mtu = 0;
};

// Makes what is missing and mends what is not as it should be; repeating it is cheap. kInvalid: the
// MTUs do not fit together.
Result<HostLinks> ensure_host_links(kernel::Rtnl& rtnl, const Config& config);

// The pod that `attachment` asked for, as it was wired.
model::LocalPod wired_pod(const PodAttachment& attachment, const kernel::AttachedPod& link);

}  // namespace shoal::apply
