// SPDX-License-Identifier: Apache-2.0
// The status that a host reports of itself: Node.status in Kubernetes' spelling. Read from the host
// when it is made.
#pragma once

#include "netplane/base/clock.h"
#include "netplane/base/ip.h"

#include <boost/json/object.hpp>
#include <string>
#include <vector>

namespace shoal::daemon {

struct NodeFacts {
  std::string name;
  std::vector<IpAddress> addresses;  // IPv4 first
  bool ready = false;
  std::string message;  // why not, or what is limited
  WallTime ready_since;
  std::string runtime;  // "crun"
};

boost::json::object node_status(const NodeFacts& facts);

}  // namespace shoal::daemon
