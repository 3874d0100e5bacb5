// SPDX-License-Identifier: Apache-2.0
// The addresses that this cluster gives to Services of type LoadBalancer: which one lacks, and
// which it can have, or why none. A Service that lacks one is kept all the same, as in Kubernetes:
// it is pending until an address becomes free. Pure; the writer allots, a controller tells why and
// asks again.
#pragma once

#include "netplane/base/ip.h"

#include <boost/json/object.hpp>
#include <expected>
#include <functional>
#include <string>
#include <vector>

namespace shoal::api {

// Those that this cluster gave it, in the order of its families. None for services of other
// classes.
std::vector<std::string> own_load_balancer_ips(const boost::json::object& service);

struct LoadBalancerLack {
  IpFamily family = IpFamily::kV4;
  std::string asked;  // spec.loadBalancerIP; empty: any will do
};
// One for each family of the service that should have an address and has none, or not the one
// that is asked for. A service that prefers two families is content with the one that has a pool.
std::vector<LoadBalancerLack> load_balancer_lacks(const boost::json::object& service,
                                                  const std::vector<std::string>& has,
                                                  const std::vector<IpPrefix>& pools);

// The address that mends the lack, or why there is none and what can be done about it.
std::expected<std::string, std::string>
find_load_balancer_ip(const LoadBalancerLack& lack, const std::vector<IpPrefix>& pools,
                      const std::function<bool(const IpAddress&)>& is_free);

}  // namespace shoal::api
