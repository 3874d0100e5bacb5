// SPDX-License-Identifier: Apache-2.0
// Everything through which an NftDataPlane touches the kernel. open_nft_ports() gives the real
// ones.
#pragma once

#include "netplane/apply/config.h"
#include "netplane/apply/kernel_ports.h"
#include "netplane/kernel/nft/conntrack.h"
#include "netplane/kernel/nft/nft.h"
#include "netplane/kernel/nft/nft_service_table.h"
#include "netplane/kernel/rtnl/rtnl.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace shoal::apply {

struct NftPorts {
  std::unique_ptr<kernel::Rtnl> rtnl;
  std::unique_ptr<kernel::Nft> nft;
  std::unique_ptr<kernel::NftServiceTable> services;
  std::unique_ptr<kernel::Conntrack> conntrack;
  OpenAnnouncer open_announcer;
  LinksStirred links_stirred;
  // The network of a pod's namespace.
  std::function<Result<std::unique_ptr<kernel::Rtnl>>(int netns_fd)> open_pod_rtnl;
  // Programs and maps that a data plane of BPF left; none is success.
  std::function<Result<>()> remove_bpf;
  std::vector<std::string> limitations;  // of this kernel, a sentence each
};

// In the calling thread's network and mount namespace. Loads no BPF.
Result<NftPorts> open_nft_ports(const Config& config);

}  // namespace shoal::apply
