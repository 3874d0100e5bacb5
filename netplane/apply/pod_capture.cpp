// SPDX-License-Identifier: Apache-2.0
#include "netplane/apply/pod_capture.h"

#include "netplane/kernel/rtnl/pod_net.h"

namespace shoal::apply {

Result<kernel::PacketCapture> open_pod_capture(int netns_fd, const kernel::CaptureFilter& filter) {
  return kernel::PacketCapture::open(netns_fd, kernel::kPodInterface, filter);
}

}  // namespace shoal::apply
