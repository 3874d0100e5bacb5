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
    if (node.name != desired.self)
      continue;
    policy.pods = node.pod_cidrs;
    if (node.underlay.is_v4())
      policy.self_v4 = node.underlay;
    policy.self_v6 = node.lan_v6.value_or(IpAddress());
  }
  policy.cluster = desired.cluster_cidrs;
  if (std::ranges::any_of(policy.pods, [](const IpPrefix& cidr) { return !cidr.is_v4(); }))
    for (const model::Node& node : desired.nodes)
      if (node.lan_v6)
        policy.nodes.push_back(*node.lan_v6);
  sort_unique(policy.pods);
  sort_unique(policy.cluster);
  sort_unique(policy.nodes);
  return policy;
}

}  // namespace shoal::plan
