// SPDX-License-Identifier: Apache-2.0
#include "agent/desired/host_index.h"

#include "agent/view/facts.h"

#include <algorithm>

namespace shoal::desired {

void HostIndex::add(const store::Object& node) {
  for (const auto& address : {view::node_underlay(node), view::node_lan_v6(node)})
    if (address)
      own_.emplace(*address, node.name);
  for (const IpPrefix& cidr : view::node_pod_cidrs(node)) {
    pod_cidrs_.emplace(cidr, node.name);
    if (std::ranges::find(lengths_, cidr.length()) == lengths_.end())
      lengths_.push_back(cidr.length());
  }
}

std::string_view HostIndex::host_of(const IpAddress& ip) const {
  if (const auto at = own_.find(ip); at != own_.end())
    return at->second;
  for (const unsigned length : lengths_) {
    if (length > (ip.is_v4() ? 32U : 128U))
      continue;
    if (const auto at = pod_cidrs_.find(IpPrefix::containing(ip, length)); at != pod_cidrs_.end())
      return at->second;
  }
  return {};
}

}  // namespace shoal::desired
