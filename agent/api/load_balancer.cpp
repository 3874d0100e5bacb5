// SPDX-License-Identifier: Apache-2.0
#include "agent/api/load_balancer.h"

#include "agent/api/allocator.h"
#include "agent/api/selector.h"
#include "agent/api/service_facts.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <fmt/format.h>

namespace shoal::api {
namespace json = boost::json;
namespace {

std::vector<IpPrefix> of_family(const std::vector<IpPrefix>& prefixes, IpFamily family) {
  std::vector<IpPrefix> out;
  std::ranges::copy_if(prefixes, std::back_inserter(out),
                       [&](const IpPrefix& prefix) { return prefix.family() == family; });
  return out;
}

}  // namespace

std::vector<std::string> own_load_balancer_ips(const json::object& service) {
  std::vector<std::string> ips;
  const json::array* ingress = find_array(service, "status.loadBalancer.ingress");
  if (!is_own_load_balancer(spec_of(service)) || !ingress)
    return ips;
  for (const json::value& entry : *ingress)
    if (entry.is_object())
      ips.emplace_back(find_string(entry.get_object(), "ip"));
  return ips;
}

std::vector<LoadBalancerLack> load_balancer_lacks(const json::object& service,
                                                  const std::vector<std::string>& has,
                                                  const std::vector<IpPrefix>& pools) {
  std::vector<LoadBalancerLack> lacks;
  const json::object& spec = spec_of(service);
  if (!is_own_load_balancer(spec))
    return lacks;
  const auto asked = IpAddress::parse(find_string(spec, "loadBalancerIP"));
  const auto families = ip_families(spec);
  const bool content =
      families.size() == 2 && find_string(spec, "ipFamilyPolicy") != kRequireDualStack;
  for (const IpFamily family : families) {
    const bool is_asked = asked && asked->family() == family;
    const bool has_it = std::ranges::any_of(has, [&](const std::string& text) {
      const auto ip = IpAddress::parse(text);
      return ip && ip->family() == family && (!is_asked || *ip == *asked);
    });
    if (has_it || (content && !is_asked && !pools.empty() && of_family(pools, family).empty()))
      continue;
    lacks.push_back({family, is_asked ? asked->to_string() : std::string()});
  }
  return lacks;
}

std::expected<std::string, std::string>
find_load_balancer_ip(const LoadBalancerLack& lack, const std::vector<IpPrefix>& pools,
                      const std::function<bool(const IpAddress&)>& is_free) {
  const std::vector<IpPrefix> prefixes = of_family(pools, lack.family);
  if (prefixes.empty())
    return std::unexpected(
        fmt::format("this cluster has no {} addresses for load balancers: network.lb_pool was not "
                    "set so when it began, and only `shoal init` reads it; use type ClusterIP or "
                    "NodePort, or begin the cluster anew with it",
                    to_string(lack.family)));
  const AddressPool pool(prefixes, is_free);
  if (!lack.asked.empty()) {
    const auto asked = IpAddress::parse(lack.asked);
    if (!asked || !pool.holds(*asked))
      return std::unexpected(
          fmt::format("spec.loadBalancerIP {} is not in {} (network.lb_pool when the cluster "
                      "began); ask for an address of it, or for none",
                      lack.asked, pool.text()));
    if (!is_free(*asked))
      return std::unexpected(fmt::format("spec.loadBalancerIP {} is another Service's; ask for "
                                         "another address, or for none",
                                         lack.asked));
    return asked->to_string();
  }
  if (const auto ip = pool.find())
    return ip->to_string();
  return std::unexpected(fmt::format(
      "no address is free in {}: delete a Service that has one, or change its type (the "
      "range is network.lb_pool's when the cluster began, and fixed for its life)",
      pool.text()));
}

}  // namespace shoal::api
