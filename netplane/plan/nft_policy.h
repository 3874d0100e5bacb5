// SPDX-License-Identifier: Apache-2.0
// The masquerade policy of one host: whose packets are rewritten to the host's address when they
// leave for the outside, and which destinations count as inside. A value; the whole table is
// replaced when it differs, in one transaction.
#pragma once

#include "netplane/model/model.h"

#include <compare>
#include <vector>

namespace shoal::plan {

struct NftPolicy {
  std::vector<IpPrefix> pods;     // this host's pod CIDRs, sorted
  std::vector<IpPrefix> cluster;  // pod and service ranges of the cluster, sorted
  std::vector<IpAddress> nodes;   // the member hosts' underlay addresses, sorted; where there are
                                  // IPv6 pods, also their own IPv6 addresses
  IpAddress self_v4, self_v6;     // this host's own addresses; unspecified: it has none
  auto operator<=>(const NftPolicy&) const = default;
};

NftPolicy desired_nft_policy(const model::Desired& desired);

}  // namespace shoal::plan
