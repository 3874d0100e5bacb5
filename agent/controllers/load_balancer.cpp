// SPDX-License-Identifier: Apache-2.0
// Services of type LoadBalancer that have no address yet. Addresses are given by whoever writes a
// Service (agent/api): this controller says why one is pending, and writes it again as it is once
// an address that suits it is free.
#include "agent/api/load_balancer.h"
#include "agent/controllers/controllers.h"

#include <set>

namespace shoal::controllers {

namespace {

std::set<IpAddress> taken_ips(const View& view) {
  std::set<IpAddress> taken;
  for (const ObjectPtr& service : view.list(view::kServices))
    for (const std::string& text : api::own_load_balancer_ips(service->body))
      if (const auto ip = IpAddress::parse(text))
        taken.insert(*ip);
  return taken;
}

}  // namespace

Plan reconcile_load_balancer(const World& world, const Object& service) {
  Plan plan;
  if (view::is_terminating(service))
    return plan;
  const auto& pools = world.options.load_balancer_pools;
  const std::vector<api::LoadBalancerLack> lacks =
      api::load_balancer_lacks(service.body, api::own_load_balancer_ips(service.body), pools);
  if (lacks.empty())
    return plan;
  const std::set<IpAddress> taken = taken_ips(world.view);
  bool can_have = false;
  for (const api::LoadBalancerLack& lack : lacks) {
    const auto ip = api::find_load_balancer_ip(
        lack, pools, [&](const IpAddress& address) { return !taken.contains(address); });
    if (ip)
      can_have = true;
    else
      plan.notes.push_back({world.view.get(view::ref_of(service)), true, "AllocationFailed",
                            ip.error(), "service-lb-controller"});
  }
  if (can_have)
    plan.steps.push_back({Update{service.body}, std::nullopt});
  return plan;
}

}  // namespace shoal::controllers
