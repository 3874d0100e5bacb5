// SPDX-License-Identifier: Apache-2.0
#include "agent/desired/desired.h"

#include "agent/desired/assemble.h"
#include "agent/view/facts.h"
#include "netplane/base/hash.h"

#include <algorithm>

namespace shoal::desired {

using store::ObjectPtr;

std::vector<model::Node> compute_nodes(const view::View& view, const view::Members& members,
                                       const Inputs& inputs) {
  std::vector<model::Node> out;
  for (const ObjectPtr& object : view.list(view::kNodes)) {
    const auto underlay = view::node_underlay(*object);
    auto pod_cidrs = view::node_pod_cidrs(*object);
    // A host that has not reported its address yet has no pods that could be reached.
    if (!underlay || pod_cidrs.empty())
      continue;
    model::Node node;
    node.name = object->name;
    node.underlay = *underlay;
    node.lan_v6 = view::node_lan_v6(*object);
    node.pod_cidrs = std::move(pod_cidrs);
    node.alive = members.alive(object->name);
    node.snat = inputs.snat || inputs.snat_hosts.contains(object->name);
    node.answers = view::node_answers(*object);
    out.push_back(std::move(node));
  }
  return out;
}

Scene make_scene(const view::View& view, const view::Members& members, const Inputs& inputs) {
  Scene scene{view, members, inputs, {}, {}, {}, {}};
  for (const ObjectPtr& node : view.list(view::kNodes)) {
    scene.hosts.emplace(node->name,
                        Host{std::string(view::node_zone(*node)), members.alive(node->name)});
    for (const auto& address : {view::node_underlay(*node), view::node_lan_v6(*node)})
      if (address)
        scene.host_addresses.insert(*address);
    scene.by_address.add(*node);
    if (node->name == inputs.self)
      scene.zone = view::node_zone(*node);
  }
  scene.host_addresses.insert(inputs.node_addresses.begin(), inputs.node_addresses.end());
  return scene;
}

Announcers::Announcers(const view::View& view, const view::Members& members) {
  for (const ObjectPtr& node : view.list(view::kNodes)) {
    if (!members.alive(node->name))
      continue;
    tiers_[2].push_back(node->name);
    if (!view::node_reports_ready(*node))
      continue;
    tiers_[1].push_back(node->name);
    // A cordoned host is about to be emptied: it hands its addresses on before that.
    if (view::node_schedulable(*node))
      tiers_[0].push_back(node->name);
  }
}

std::string Announcers::of(const Vip& vip) const {
  const auto choose = [&](const std::set<std::string>* among) {
    for (const std::vector<std::string>& tier : tiers_) {
      std::vector<std::string> candidates;
      if (!among)
        candidates = tier;
      else
        std::copy_if(tier.begin(), tier.end(), std::back_inserter(candidates),
                     [&](const std::string& name) { return among->contains(name); });
      if (!candidates.empty())
        return rendezvous_owner(vip.ip.to_string(), candidates);
    }
    return std::string();
  };
  if (vip.local)
    for (const auto* among : {&vip.ready_hosts, &vip.serving_hosts})
      if (std::string name = choose(among); !name.empty())
        return name;
  return choose(nullptr);
}

std::string announcer_of(const Vip& vip, const view::View& view, const view::Members& members) {
  return Announcers(view, members).of(vip);
}

std::vector<OwnedPorts> assemble(const Builder::Parts& parts, const Announcers& announcers,
                                 const std::string& self, Computed& out,
                                 std::set<model::FrontendKey>& contested) {
  contested.clear();
  out.desired.services.clear();
  out.desired.announced_vips.clear();
  out.health_checks.clear();
  out.findings.clear();
  std::vector<OwnedPorts> owners;
  owners.reserve(parts.size());
  std::size_t ports = 0;
  for (const auto& [ref, part] : parts)
    ports += part.ports.size();
  out.desired.services.reserve(ports);
  for (const auto& [ref, part] : parts) {
    owners.push_back({&ref, part.created, out.desired.services.size(), part.ports.size()});
    out.desired.services.insert(out.desired.services.end(), part.ports.begin(), part.ports.end());
    out.findings.insert(part.findings.begin(), part.findings.end());
    contested.insert(part.contestable.begin(), part.contestable.end());
    if (part.health)
      out.health_checks.push_back(*part.health);
    for (const Vip& vip : part.vips)
      if (announcers.of(vip) == self)
        out.desired.announced_vips.push_back(vip.ip);
  }
  settle_contests(contested, owners, out.desired.services, out.findings);
  auto& vips = out.desired.announced_vips;
  std::sort(vips.begin(), vips.end());
  vips.erase(std::unique(vips.begin(), vips.end()), vips.end());
  std::sort(out.health_checks.begin(), out.health_checks.end());
  return owners;
}

Builder::Parts compute_parts(const Scene& scene) {
  Builder::Parts parts;
  // In the order of the map, pods first.
  for (const ObjectPtr& pod : scene.view.pods_on(scene.inputs.self))
    if (Part part = compute_host_ports(scene, *pod); !is_empty(part))
      parts.emplace_hint(parts.end(), view::ref_of(*pod), std::move(part));
  for (const ObjectPtr& service : scene.view.list(view::kServices))
    parts.emplace_hint(parts.end(), view::ref_of(*service), compute_service(scene, *service));
  return parts;
}

Computed compute_desired(const view::View& view, const view::Members& members,
                         const Inputs& inputs) {
  const Builder::Parts parts = compute_parts(make_scene(view, members, inputs));
  Computed out;
  out.desired.self = inputs.self;
  out.desired.cluster_cidrs = inputs.cluster_cidrs;
  out.desired.service_cidrs = inputs.service_cidrs;
  out.desired.nodes = compute_nodes(view, members, inputs);
  std::set<model::FrontendKey> contested;
  assemble(parts, Announcers(view, members), inputs.self, out, contested);
  return out;
}

}  // namespace shoal::desired
