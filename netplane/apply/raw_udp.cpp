// SPDX-License-Identifier: Apache-2.0
#include "netplane/apply/raw_udp.h"

namespace shoal::apply {

Result<kernel::RawUdp> open_raw_udp() { return kernel::RawUdp::open(); }

}  // namespace shoal::apply
