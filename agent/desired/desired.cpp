// SPDX-License-Identifier: Apache-2.0
#include "agent/desired/desired.h"

#include "agent/view/facts.h"
#include "netplane/base/hash.h"

#include <algorithm>

namespace shoal::desired {

using store::ObjectPtr;

std::vector<model::Node> compute_nodes(const view::View& view, const view::Members& members) {
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
    node.pod_cidrs = std::move(pod_cidrs);
    node.alive = members.alive(object->name);
    out.push_back(std::move(node));
  }
  return out;
}

namespace {

std::vector<std::string> announcers(const view::View& view, const view::Members& members) {
  std::vector<std::string> ready;
  std::vector<std::string> alive;
  for (const ObjectPtr& node : view.list(view::kNodes)) {
    if (!members.alive(node->name))
      continue;
    alive.push_back(node->name);
    if (view::node_reports_ready(*node))
      ready.push_back(node->name);
  }
  return ready.empty() ? alive : ready;
}

// Puts the parts together in the order that makes equal inputs equal outputs.
template <class Services>
void assemble(const Services& services, const std::vector<std::string>& candidates,
              const std::string& self, Computed& out) {
  out.desired.services.clear();
  out.desired.announced_vips.clear();
  out.findings.clear();
  for (const auto& [key, service] : services) {
    out.desired.services.insert(out.desired.services.end(), service.ports.begin(),
                                service.ports.end());
    out.findings.insert(out.findings.end(), service.findings.begin(), service.findings.end());
    for (const IpAddress& vip : service.vips)
      if (rendezvous_owner(vip.to_string(), candidates) == self)
        out.desired.announced_vips.push_back(vip);
  }
  auto& vips = out.desired.announced_vips;
  std::sort(vips.begin(), vips.end());
  vips.erase(std::unique(vips.begin(), vips.end()), vips.end());
  std::sort(out.findings.begin(), out.findings.end());
}

}  // namespace

std::string announcer_of(const IpAddress& vip, const view::View& view,
                         const view::Members& members) {
  return rendezvous_owner(vip.to_string(), announcers(view, members));
}

Computed compute_desired(const view::View& view, const view::Members& members,
                         const Inputs& inputs) {
  std::map<std::pair<std::string, std::string>, ServiceResult> services;
  for (const ObjectPtr& service : view.list(view::kServices))
    services.emplace(std::pair(service->ns, service->name),
                     compute_service(view, members, *service));
  Computed out;
  out.desired.self = inputs.self;
  out.desired.cluster_cidrs = inputs.cluster_cidrs;
  out.desired.nodes = compute_nodes(view, members);
  assemble(services, announcers(view, members), inputs.self, out);
  return out;
}

// ---- Builder

Builder::Builder(const view::View& view, Inputs inputs) : view_(view), inputs_(std::move(inputs)) {
  result_.desired.self = inputs_.self;
  result_.desired.cluster_cidrs = inputs_.cluster_cidrs;
}

void Builder::touch_pod(const store::Object& pod) {
  for (const ObjectPtr& service : view_.services_selecting(pod))
    dirty_.emplace(service->ns, service->name);
}

void Builder::on_change(const view::Change& change) {
  const store::Object& object = *change.object;
  if (object.resource == view::kPods) {
    touch_pod(object);
    if (change.before)
      touch_pod(*change.before);
  } else if (object.resource == view::kServices) {
    dirty_.emplace(object.ns, object.name);
  } else if (object.resource == view::kNodes) {
    nodes_dirty_ = true;
    // Endpoints made by hand are judged by whether their host is a member.
    if (change.kind != view::ChangeKind::kModified)
      all_dirty_ = true;
  } else if (object.resource == view::kEndpointSlices) {
    for (const auto& slice : {change.object, change.before})
      if (slice)
        if (const auto service = view::label(*slice, "kubernetes.io/service-name");
            !service.empty())
          dirty_.emplace(object.ns, std::string(service));
  }
}

void Builder::take_members(const view::Members& members) {
  std::set<std::string> changed;
  for (const auto& [name, member] : members.all())
    if (members_.alive(name) != member.alive)
      changed.insert(name);
  for (const auto& [name, member] : members_.all())
    if (member.alive && !members.find(name))
      changed.insert(name);
  members_ = members;
  if (changed.empty())
    return;
  nodes_dirty_ = true;
  for (const std::string& name : changed)
    for (const ObjectPtr& pod : view_.pods_on(name))
      touch_pod(*pod);
  // Endpoints made by hand may name hosts too.
  for (const ObjectPtr& service : view_.list(view::kServices))
    if (!view::has_selector(*service))
      dirty_.emplace(service->ns, service->name);
}

bool Builder::dirty(const view::Members& members) const {
  if (all_dirty_ || nodes_dirty_ || !dirty_.empty())
    return true;
  for (const auto& [name, member] : members.all())
    if (members_.alive(name) != member.alive)
      return true;
  for (const auto& [name, member] : members_.all())
    if (member.alive && !members.find(name))
      return true;
  return false;
}

const Computed& Builder::build(const view::Members& members) {
  take_members(members);
  if (!all_dirty_ && !nodes_dirty_ && dirty_.empty())
    return result_;
  if (all_dirty_) {
    services_.clear();
    for (const ObjectPtr& service : view_.list(view::kServices))
      dirty_.emplace(service->ns, service->name);
  }
  for (const Key& key : dirty_) {
    const ObjectPtr service = view_.get(view::kServices, key.first, key.second);
    if (service)
      services_.insert_or_assign(key, compute_service(view_, members_, *service));
    else
      services_.erase(key);
  }
  if (nodes_dirty_ || all_dirty_)
    result_.desired.nodes = compute_nodes(view_, members_);
  assemble(services_, announcers(view_, members_), inputs_.self, result_);
  dirty_.clear();
  all_dirty_ = nodes_dirty_ = false;
  return result_;
}

}  // namespace shoal::desired
