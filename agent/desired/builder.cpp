// SPDX-License-Identifier: Apache-2.0
#include "agent/desired/assemble.h"
#include "agent/desired/desired.h"
#include "agent/view/facts.h"

#include <algorithm>
#include <iterator>

namespace shoal::desired {

using store::ObjectPtr;

namespace {

bool same_frontends(const Part& a, const Part& b) {
  return a.created == b.created && a.contestable == b.contestable &&
         std::equal(a.ports.begin(), a.ports.end(), b.ports.begin(), b.ports.end(),
                    [](const model::ServicePort& x, const model::ServicePort& y) {
                      return x.frontends == y.frontends;
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

bool Builder::exists(const view::Ref& ref, const Part& part) const {
  return ref.resource == view::kServices ? view_.get(ref) != nullptr : !is_empty(part);
}

void Builder::keep(const view::Ref& ref, Part part) {
  if (exists(ref, part))
    parts_.insert_or_assign(ref, std::move(part));
  else
    parts_.erase(ref);
}

// Some frontend of it may be another one's as well.
bool Builder::is_shared(const Part& part) const {
  return !part.contestable.empty() ||
         std::ranges::any_of(part.ports, [&](const model::ServicePort& port) {
           return std::ranges::any_of(port.frontends, [&](const model::Frontend& frontend) {
             return contested_.contains({frontend.ip, frontend.port, frontend.proto});
           });
         });
}

void Builder::drop_place(std::size_t at) {
  auto& services = result_.desired.services;
  if (at + 1 < services.size()) {
    services[at] = std::move(services.back());
    places_[at] = places_.back();
    places_[at].owned->second.places[places_[at].port] = at;
    changed_->push_back(at);
  }
  services.pop_back();
  places_.pop_back();
}

// Puts the ports of what `owned` is about to become where those it has stand, as far as there are
// any.
void Builder::place(Parts::value_type& owned, Part& part) {
  auto& services = result_.desired.services;
  std::vector<std::size_t>& places = owned.second.places;
  while (places.size() > part.ports.size()) {
    const std::size_t last = places.back();
    places.pop_back();
    drop_place(last);
  }
  for (std::size_t i = 0; i < part.ports.size(); i++) {
    if (i == places.size()) {
      changed_->push_back(services.size());  // another's may have gone from there just now
      places.push_back(services.size());
      places_.push_back({&owned, i});
      services.push_back(part.ports[i]);
    } else if (owned.second.ports[i] != part.ports[i]) {
      model::ServicePort& port = services[places[i]];
      // Of those that are contested some may have been lost.
      std::vector<model::Frontend> frontends =
          owned.second.ports[i].frontends == part.ports[i].frontends ? std::move(port.frontends)
                                                                     : part.ports[i].frontends;
      port = part.ports[i];
      port.frontends = std::move(frontends);
      changed_->push_back(places[i]);
    }
  }
  part.places = std::move(places);
}

void Builder::find(const Part& before, const Part& now) {
  for (const Finding& finding : before.findings)
    if (std::ranges::find(now.findings, finding) == now.findings.end()) {
      result_.findings.erase(finding);
      found_.erase(finding);
    }
  for (const Finding& finding : now.findings)
    if (result_.findings.insert(finding).second)
      found_.insert(finding);
}

// Brings the result up to date for one part, when that is nobody else's matter.
bool Builder::patch(const view::Ref& ref, Part& part) {
  static const Part kNone;
  const auto known = parts_.find(ref);
  const bool stays = exists(ref, part);
  if (known == parts_.end() && !stays)
    return true;
  const Part& before = known == parts_.end() ? kNone : known->second;
  if (before.vips != part.vips || before.health != part.health)
    return false;
  if (!same_frontends(before, part) && (is_shared(before) || is_shared(part)))
    return false;
  find(before, part);
  auto& owned = known == parts_.end() ? *parts_.emplace(ref, Part()).first : *known;
  place(owned, part);
  if (stays)
    owned.second = std::move(part);
  else
    parts_.erase(known);
  return true;
}

void Builder::put_together() {
  const std::set<Finding> before = std::move(result_.findings);
  const std::vector<OwnedPorts> owners =
      assemble(parts_, Announcers(view_, members_), inputs_.self, result_, contested_);
  places_.resize(result_.desired.services.size());
  auto owned = parts_.begin();
  for (const OwnedPorts& ports : owners) {
    owned->second.places.resize(ports.count);
    for (std::size_t i = 0; i < ports.count; i++) {
      owned->second.places[i] = ports.first + i;
      places_[ports.first + i] = {&*owned, i};
    }
    ++owned;
  }
  for (const Finding& finding : before)
    if (!result_.findings.contains(finding))
      found_.erase(finding);
  std::ranges::set_difference(result_.findings, before, std::inserter(found_, found_.end()));
}

// Each place once, and none that is no longer there.
void Builder::tidy_changed() {
  std::ranges::sort(*changed_);
  const auto doubles = std::ranges::unique(*changed_);
  changed_->erase(doubles.begin(), doubles.end());
  std::erase_if(*changed_, [&](std::size_t at) { return at >= result_.desired.services.size(); });
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
  if (changed_)
    tidy_changed();
  else
    put_together();
  dirty_.clear();
  all_dirty_ = nodes_dirty_ = false;
  return result_;
}

}  // namespace shoal::desired
