// SPDX-License-Identifier: Apache-2.0
// Which member host an address belongs to: one of its own, or one in its pod CIDR.
#pragma once

#include "agent/view/view.h"
#include "netplane/base/ip.h"

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::desired {

class HostIndex {
public:
  void add(const store::Object& node);
  // The host's name, by which the data plane finds the way there; empty: it lies outside of the
  // cluster, and the host's own routes lead there.
  std::string_view host_of(const IpAddress& ip) const;

private:
  std::map<IpAddress, std::string> own_;
  std::map<IpPrefix, std::string> pod_cidrs_;
  std::vector<unsigned> lengths_;  // of the CIDRs, each once, in their own family
};

}  // namespace shoal::desired
