// SPDX-License-Identifier: Apache-2.0
// Taking out of a kernel what Shoal's network put into it: BPF attachments and maps, pods' links,
// the overlay device, routes, proxy entries, the tables `inet
// shoal`, `inet shoal-services` and `netdev shoal-overlay`. Found by looking, not from any record,
// so it works whatever agent was there and however it ended. Nothing of anybody else's is touched:
// pins lie in Shoal's own folder, links have its names and group, routes its protocol number.
//
// Left as they are, since what they were before is not known: net.ipv4.ip_forward and rp_filter of
// the uplink; and an empty clsact qdisc on kernels without TCX, which others may use.
#pragma once

#include "netplane/base/result.h"
#include "netplane/kernel/nft/nft.h"
#include "netplane/kernel/nft/nft_service_table.h"
#include "netplane/kernel/rtnl/rtnl.h"

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace shoal::apply {

struct CleanupStep {
  std::string what;                  // "link shl1a2b3c4d", "BPF links/cgroup-connect4"
  std::function<Result<>()> remove;  // what is gone meanwhile is fine
};

// In the order in which they are to be run. Empty: there is nothing.
Result<std::vector<CleanupStep>>
plan_network_cleanup(std::shared_ptr<kernel::Rtnl> rtnl, std::shared_ptr<kernel::Nft> nft,
                     std::shared_ptr<kernel::NftServiceTable> services,
                     const std::filesystem::path& bpffs);
// The same in the calling thread's namespaces.
Result<std::vector<CleanupStep>> plan_network_cleanup(const std::filesystem::path& bpffs);

}  // namespace shoal::apply
