// SPDX-License-Identifier: Apache-2.0
#include "netplane/plan/nft_policy.h"

#include <algorithm>

namespace shoal::plan {
namespace {

template <class T>
void sort_unique(std::vector<T>& values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
}

}  // namespace

NftPolicy desired_nft_policy(const model::Desired& desired) {
  NftPolicy policy;
  for (const model::Node& node : desired.nodes) {
    if (node.underlay.is_v4() && !node.underlay.is_unspecified())
      policy.nodes.push_back(node.underlay);
    if (node.name == desired.self)
      std::copy_if(node.pod_cidrs.begin(), node.pod_cidrs.end(), std::back_inserter(policy.pods),
                   [](const IpPrefix& cidr) { return cidr.is_v4(); });
  }
  std::copy_if(desired.cluster_cidrs.begin(), desired.cluster_cidrs.end(),
               std::back_inserter(policy.cluster),
               [](const IpPrefix& cidr) { return cidr.is_v4(); });
  sort_unique(policy.pods);
  sort_unique(policy.cluster);
  sort_unique(policy.nodes);
  return policy;
}

}  // namespace shoal::plan
