// SPDX-License-Identifier: Apache-2.0
#include "agent/desired/assemble.h"
#include "agent/desired/desired.h"
#include "agent/view/facts.h"

namespace shoal::desired {

using store::ObjectPtr;

namespace {

// What is put together from two parts differs in groups and backends alone.
bool same_but_backends(const Part& a, const Part& b) {
  return a.created == b.created && a.vips == b.vips && a.health == b.health &&
         a.contestable == b.contestable && a.findings == b.findings &&
         std::equal(a.ports.begin(), a.ports.end(), b.ports.begin(), b.ports.end(),
                    [](const model::ServicePort& x, const model::ServicePort& y) {
                      return model::same_but_backends(x, y);
                    });
}

}  // namespace

Builder::Builder(const view::View& view, Inputs inputs) : view_(view), inputs_(std::move(inputs)) {
  result_.desired.self = inputs_.self;
  result_.desired.cluster_cidrs = inputs_.cluster_cidrs;
  result_.desired.service_cidrs = inputs_.service_cidrs;
}

void Builder::set_inputs(Inputs inputs) {
  if (inputs == inputs_)
    return;
  inputs_ = std::move(inputs);
  result_.desired.self = inputs_.self;
  result_.desired.cluster_cidrs = inputs_.cluster_cidrs;
  result_.desired.service_cidrs = inputs_.service_cidrs;
  all_dirty_ = true;
}

void Builder::touch_pod(const store::Object& pod) {
  for (const ObjectPtr& service : view_.services_selecting(pod))
    dirty_.insert(view::ref_of(*service));
  if (view::node_of(pod) == inputs_.self && !view::host_ports(pod).empty())
    dirty_.insert(view::ref_of(pod));
}

void Builder::touch_node(const view::Change& change) {
  nodes_dirty_ = true;
  // Endpoints made by hand are judged by whose address they are; zones and hosts' addresses are
  // every service's matter.
  if (change.kind != view::ChangeKind::kModified ||
      view::node_zone(*change.object) != view::node_zone(*change.before) ||
      view::node_pod_cidrs(*change.object) != view::node_pod_cidrs(*change.before) ||
      view::node_underlay(*change.object) != view::node_underlay(*change.before) ||
      view::node_lan_v6(*change.object) != view::node_lan_v6(*change.before))
    all_dirty_ = true;
}

void Builder::on_change(const view::Change& change) {
  const store::Object& object = *change.object;
  if (object.resource == view::kPods) {
    touch_pod(object);
    if (change.before)
      touch_pod(*change.before);
  } else if (object.resource == view::kServices) {
    dirty_.insert(view::ref_of(object));
  } else if (object.resource == view::kNodes) {
    touch_node(change);
  } else if (object.resource == view::kEndpointSlices) {
    for (const auto& slice : {change.object, change.before})
      if (slice)
        if (const auto service = view::label(*slice, "kubernetes.io/service-name");
            !service.empty())
          dirty_.insert({std::string(view::kServices), object.ns, std::string(service)});
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
  if (changed.empty())
    return;
  members_ = members;
  nodes_dirty_ = true;
  for (const std::string& name : changed)
    for (const ObjectPtr& pod : view_.pods_on(name))
      touch_pod(*pod);
  // Endpoints made by hand may name hosts too.
  for (const ObjectPtr& service : view_.list(view::kServices))
    if (!view::has_selector(*service))
      dirty_.insert(view::ref_of(*service));
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

void Builder::set_local_pods(std::vector<model::LocalPod> pods) {
  pods_dirty_ |= pods != result_.desired.pods;
  result_.desired.pods = std::move(pods);
}

Part Builder::compute(const view::Ref& ref) const {
  const ObjectPtr object = view_.get(ref);
  if (object && ref.resource == view::kServices)
    return compute_service(*scene_, *object);
  if (object && view::node_of(*object) == inputs_.self)
    return compute_host_ports(*scene_, *object);
  return {};
}

void Builder::keep(const view::Ref& ref, Part part) {
  if (ref.resource == view::kServices ? view_.get(ref) != nullptr : !is_empty(part))
    parts_.insert_or_assign(ref, std::move(part));
  else
    parts_.erase(ref);
}

// Puts a part's new groups and backends where the old ones stand, when that is all that differs.
bool Builder::patch(const view::Ref& ref, Part& part) {
  const auto at = parts_.find(ref);
  if (at == parts_.end() || !same_but_backends(at->second, part))
    return false;
  const auto owned =
      std::lower_bound(owned_.begin(), owned_.end(), ref,
                       [](const OwnedPorts& a, const view::Ref& b) { return *a.owner < b; });
  for (std::size_t i = 0; i < part.ports.size(); i++) {
    model::ServicePort& port = result_.desired.services[owned->first + i];
    if (port.groups == part.ports[i].groups && port.backends == part.ports[i].backends)
      continue;
    port.groups = part.ports[i].groups;
    port.backends = part.ports[i].backends;
    changed_->push_back(owned->first + i);
  }
  at->second = std::move(part);
  return true;
}

const Computed& Builder::build(const view::Members& members) {
  take_members(members);
  changed_.reset();
  if (!pods_dirty_)
    changed_.emplace();
  pods_dirty_ = false;
  if (!all_dirty_ && !nodes_dirty_ && dirty_.empty())
    return result_;
  if (nodes_dirty_ || all_dirty_ || !scene_) {
    scene_.reset();
    scene_.emplace(make_scene(view_, members_, inputs_));
    result_.desired.nodes = compute_nodes(view_, members_, inputs_);
    changed_.reset();
  }
  if (all_dirty_) {
    parts_ = compute_parts(*scene_);
    dirty_.clear();
  }
  for (const view::Ref& ref : dirty_) {
    Part part = compute(ref);
    if (changed_ && patch(ref, part))
      continue;
    changed_.reset();
    keep(ref, std::move(part));
  }
  if (!changed_)
    owned_ = assemble(parts_, Announcers(view_, members_), inputs_.self, result_);
  dirty_.clear();
  all_dirty_ = nodes_dirty_ = false;
  return result_;
}

}  // namespace shoal::desired
