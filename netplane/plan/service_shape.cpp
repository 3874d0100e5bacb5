// SPDX-License-Identifier: Apache-2.0
#include "netplane/plan/service_shape.h"

#include "netplane/base/hash.h"

#include <algorithm>

namespace shoal::plan {
namespace {

std::uint32_t group_of(const std::vector<model::WeightGroup>& groups, const std::string& name) {
  const auto at = std::lower_bound(groups.begin(), groups.end(), name,
                                   [](const auto& a, const std::string& b) { return a.name < b; });
  return at != groups.end() && at->name == name ? static_cast<std::uint32_t>(at - groups.begin())
                                                : kNoGroup;
}

WantedBackend shape(const model::Backend& backend, const NodeIndex& nodes) {
  WantedBackend wanted;
  wanted.key = {backend.ip, backend.port, backend.generation};
  wanted.entry.ip = backend.ip;
  wanted.entry.port = backend.port;
  wanted.entry.generation = backend.generation;
  wanted.ready = backend.state == model::BackendState::kReady;
  wanted.serving = backend.state == model::BackendState::kServing;
  wanted.entry.stack = backend.host.empty();  // outside: this host's own routes lead there
  if (wanted.entry.stack)
    return wanted;
  const NodeIndex::Node* node = nodes.find(backend.host);
  wanted.host_known = node != nullptr;
  wanted.host_usable = node != nullptr && node->usable;
  wanted.ready = wanted.ready && wanted.host_usable;
  wanted.serving = wanted.serving && wanted.host_usable;
  if (node != nullptr) {
    wanted.entry.local = node->local;
    wanted.entry.stack = node->has(backend.ip);
    wanted.entry.node = node->local ? IpAddress() : node->underlay;
    wanted.entry.snat = node->snat;
    wanted.entry.answers = !node->local && node->usable && node->answers;
  }
  return wanted;
}

// A pod's address is leased anew with a larger generation: of the ready backends at one address and
// port, only the latest gets slots. The backends are sorted by key, so it stands last.
void keep_latest_generation(std::vector<WantedBackend>& backends) {
  for (std::size_t i = backends.size(); i-- > 1;) {
    WantedBackend& earlier = backends[i - 1];
    const WantedBackend& later = backends[i];
    if (earlier.key.ip == later.key.ip && earlier.key.port == later.key.port && later.ready)
      earlier.ready = earlier.eligible = false;
  }
}

// Endpoints that are stopping and still answer are used when there is nothing better: a rollout
// that goes wrong, or a service that is scaled to nothing, serves until the last one is gone.
void promote_serving(std::vector<WantedBackend>& backends) {
  const bool any = std::any_of(backends.begin(), backends.end(),
                               [](const WantedBackend& wanted) { return wanted.eligible; });
  if (any)
    return;
  for (WantedBackend& wanted : backends) {
    if (!wanted.serving || wanted.group == kNoGroup)
      continue;
    wanted.ready = true;
    wanted.eligible = wanted.has_weight;
  }
}

}  // namespace

std::vector<model::WeightGroup> sorted_groups(const model::ServicePort& service) {
  std::vector<model::WeightGroup> groups = service.groups;
  std::sort(groups.begin(), groups.end(), [](const auto& a, const auto& b) {
    return a.name != b.name ? a.name < b.name : a.weight > b.weight;
  });
  groups.erase(std::unique(groups.begin(), groups.end(),
                           [](const auto& a, const auto& b) { return a.name == b.name; }),
               groups.end());
  return groups;
}

NodeIndex::NodeIndex(const model::Desired& desired) {
  nodes_.reserve(desired.nodes.size());
  for (const model::Node& node : desired.nodes) {
    Node known;
    known.local = node.name == desired.self;
    known.answers = node.answers;
    known.underlay = node.underlay;
    known.lan_v6 = node.lan_v6;
    known.snat = node.snat && !known.local;
    // This host needs no overlay to reach itself, and it is alive, whatever the others say.
    known.usable =
        known.local || (node.alive && node.underlay.is_v4() && !node.underlay.is_unspecified());
    nodes_.insert_or_assign(node.name, known);
  }
  if (nodes_.find(desired.self) == nodes_.end())
    nodes_.emplace(desired.self, Node{.local = true, .usable = true});
}

const NodeIndex::Node* NodeIndex::find(std::string_view name) const {
  const auto at = nodes_.find(name);
  return at == nodes_.end() ? nullptr : &at->second;
}

void wanted_backends(const model::ServicePort& service, const NodeIndex& nodes,
                     std::vector<WantedBackend>& out) {
  out.clear();
  const std::vector<model::WeightGroup> groups = sorted_groups(service);
  for (const model::Backend& backend : service.backends) {
    if (backend.ip.family() != service.family)
      continue;  // its clients could not be led there
    WantedBackend wanted = shape(backend, nodes);
    wanted.group = groups.empty() ? 0 : group_of(groups, backend.group);
    wanted.ready = wanted.ready && wanted.group != kNoGroup;
    wanted.has_weight =
        wanted.group != kNoGroup && (groups.empty() || groups[wanted.group].weight > 0);
    wanted.eligible = wanted.ready && wanted.has_weight;
    out.push_back(wanted);
  }
  // Of doubles the ready one comes first and stays.
  std::sort(out.begin(), out.end(), [](const WantedBackend& a, const WantedBackend& b) {
    if (a.key != b.key)
      return a.key < b.key;
    if (a.ready != b.ready)
      return a.ready;
    return a.group != b.group ? a.group < b.group : a.entry < b.entry;
  });
  out.erase(std::unique(out.begin(), out.end(),
                        [](const auto& a, const auto& b) { return a.key == b.key; }),
            out.end());
  promote_serving(out);
  keep_latest_generation(out);
  for (WantedBackend& wanted : out) {
    wanted.entry.draining = !wanted.eligible;
    if (wanted.eligible)
      wanted.name = ring_name(wanted.key.ip, wanted.key.port);
  }
}

std::uint64_t assign_quotas(const model::ServicePort& service,
                            std::vector<WantedBackend>& backends) {
  std::vector<RingGroup> groups;
  if (service.groups.empty()) {
    groups.push_back({1, 0});
  } else {
    for (const model::WeightGroup& group : sorted_groups(service))
      groups.push_back({group.weight, 0});
  }
  std::vector<WantedBackend*> members;
  for (WantedBackend& wanted : backends) {
    wanted.quota = 0;
    if (!wanted.ready || (wanted.eligible && wanted.id == model::kNoBackend))
      continue;
    groups[wanted.group].backends++;
    if (wanted.eligible)
      members.push_back(&wanted);
  }
  const std::uint64_t slots = ring_slots(groups);
  if (slots == 0 || slots > model::kRingSlotsMax)
    return slots;
  const std::vector<std::uint32_t> of_group =
      group_slots(groups, static_cast<std::uint32_t>(slots));
  // Who gets the odd slot within a group follows from the names, as the ring does.
  std::sort(members.begin(), members.end(), [](const WantedBackend* a, const WantedBackend* b) {
    return a->name != b->name ? a->name < b->name : a->key < b->key;
  });
  std::vector<std::uint32_t> rank(groups.size(), 0);
  for (WantedBackend* member : members)
    member->quota =
        share_of(of_group[member->group], groups[member->group].backends, rank[member->group]++);
  return slots;
}

std::uint64_t inputs_digest(const std::vector<WantedBackend>& backends, std::uint64_t slots) {
  std::uint64_t h = mix64(slots + 0x73686f616cU);
  for (const WantedBackend& wanted : backends)
    if (wanted.quota > 0)
      h = mix64(h ^ wanted.name) ^ (std::uint64_t{wanted.id} << 32 | wanted.quota);
  h = mix64(h);
  return h == 0 ? 1 : h;
}

}  // namespace shoal::plan
