// SPDX-License-Identifier: Apache-2.0
// Where a pod's packets are to be seen: at its own end of its veth, which both data planes use.
#pragma once

#include "netplane/kernel/rtnl/packet_capture.h"

namespace shoal::apply {

// netns_fd: the pod's. Blocks for no longer than a system call; any thread. kNotFound: its network
// is not there, or no longer.
Result<kernel::PacketCapture> open_pod_capture(int netns_fd, const kernel::CaptureFilter& filter);

}  // namespace shoal::apply
