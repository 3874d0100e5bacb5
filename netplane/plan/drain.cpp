// SPDX-License-Identifier: Apache-2.0
#include "netplane/plan/drain.h"

#include <algorithm>
#include <string_view>

namespace shoal::plan {

DrainTargets::DrainTargets(const model::Desired& desired, std::span<const model::DrainGroup> groups)
    : groups_(groups.size()) {
  std::map<std::pair<std::string_view, std::string_view>, Service> wanted;
  for (std::size_t i = 0; i < groups.size(); ++i)
    wanted.try_emplace({groups[i].ns, groups[i].name}, i);
  for (const model::ServicePort& service : desired.services)
    if (const auto at = wanted.find({service.ns, service.name}); at != wanted.end())
      add(service, groups, at->second);
  if (!node_ports_.empty())
    for (const model::ServicePort& service : desired.services)
      if (!wanted.contains({service.ns, service.name}))
        for (const model::Frontend& frontend : service.frontends)
          if (node_ports_.contains({frontend.proto, frontend.port}))
            others_.insert({frontend.ip, frontend.port, frontend.proto});
  for (const model::LocalPod& pod : desired.pods)
    for (const model::PodAddress& address : pod.addresses)
      pods_.insert(address.ip);
}

void DrainTargets::add(const model::ServicePort& service, std::span<const model::DrainGroup> groups,
                       Service owner) {
  for (const model::Backend& backend : service.backends) {
    const bool at_zero = std::ranges::any_of(service.groups, [&](const model::WeightGroup& group) {
      return group.name == backend.group && group.weight == 0;
    });
    const auto group = std::ranges::find_if(groups, [&](const model::DrainGroup& each) {
      return each.ns == service.ns && each.name == service.name && each.group == backend.group;
    });
    if (!at_zero || group == groups.end())
      continue;
    std::vector<Owner>& owners = backends_[{service.proto, {backend.ip, backend.port}}];
    // Several parts of one Service may name one backend.
    if (std::ranges::find(owners, owner, &Owner::service) == owners.end())
      owners.push_back({owner, static_cast<std::size_t>(group - groups.begin())});
  }
  for (const model::Frontend& frontend : service.frontends) {
    frontends_.try_emplace({frontend.ip, frontend.port, frontend.proto}, owner);
    if (frontend.kind == model::FrontendKind::kNodePort)
      node_ports_.try_emplace({frontend.proto, frontend.port}, owner);
  }
}

std::optional<std::size_t> DrainTargets::group_of(L4Proto proto, const SocketAddress& frontend,
                                                  const SocketAddress& backend) const {
  const auto owners = backends_.find({proto, backend});
  if (owners == backends_.end())
    return std::nullopt;
  const model::FrontendKey key{frontend.ip, frontend.port, proto};
  std::optional<Service> service;
  if (const auto exact = frontends_.find(key); exact != frontends_.end())
    service = exact->second;
  else if (const auto port = node_ports_.find({proto, frontend.port});
           port != node_ports_.end() && !others_.contains(key))
    service = port->second;
  for (const Owner& owner : owners->second)
    if (owner.service == service)
      return owner.group;
  return std::nullopt;
}

}  // namespace shoal::plan
