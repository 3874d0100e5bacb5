// SPDX-License-Identifier: Apache-2.0
#include "netplane/apply/bpf_data_plane.h"
#include "netplane/apply/data_plane.h"
#include "netplane/apply/nft_data_plane.h"

namespace shoal::apply {

Result<std::unique_ptr<DataPlane>> open_data_plane(const Config& config, const Clock& clock) {
  if (config.proxy == ProxyMode::kNftables)
    return SHOAL_TRY(NftDataPlane::open(config, clock));
  return SHOAL_TRY(BpfDataPlane::open(config, clock));
}

}  // namespace shoal::apply
