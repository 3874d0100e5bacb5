// SPDX-License-Identifier: Apache-2.0
#include "netplane/apply/nft_ports.h"

#include "netplane/apply/drain.h"
#include "netplane/kernel/bpf/loader.h"

namespace shoal::apply {

Result<NftPorts> open_nft_ports(const Config& config) {
  NftPorts ports;
  ports.rtnl = SHOAL_TRY_WRAP(kernel::open_rtnl(), "open rtnetlink");
  ports.nft = SHOAL_TRY_WRAP(kernel::open_nft(), "open nftables");
  ports.services =
      SHOAL_TRY_WRAP(kernel::open_nft_service_table(config.sizes.affinity), "open nftables");
  ports.conntrack = SHOAL_TRY(kernel::open_conntrack());
  ports.open_announcer = open_lan_announcer;
  ports.links_stirred = SHOAL_TRY(watch_links());
  ports.open_pod_rtnl = [](int netns_fd) { return kernel::open_rtnl(netns_fd); };
  ports.remove_bpf = [bpffs = config.bpffs]() -> Result<> {
    if (SHOAL_TRY_WRAP(kernel::list_data_plane(bpffs), "look for BPF pins").empty())
      return {};
    return kernel::remove_data_plane(bpffs);
  };
  if (std::string lacks = drain_limitation(); !lacks.empty())
    ports.limitations.push_back(std::move(lacks));
  return ports;
}

}  // namespace shoal::apply
