// SPDX-License-Identifier: Apache-2.0
#include "agent/controllers/victims.h"

#include "netplane/base/strings.h"

#include <algorithm>
#include <map>

namespace shoal::controllers {

namespace {

constexpr std::string_view kDeletionCost = "controller.kubernetes.io/pod-deletion-cost";

int phase_rank(const Object& pod) {
  const auto phase = view::phase_of(pod);
  if (phase == "Running")
    return 2;
  return phase == "Unknown" ? 1 : 0;
}

struct Candidate {
  ObjectPtr pod;
  bool bound = false;
  int phase = 0;
  bool ready = false;
  std::int64_t cost = 0;
  std::int64_t neighbours = 0;  // pods of the same set on its host
  WallTime ready_since;
  std::int64_t restarts = 0;
  WallTime created;
};

Candidate candidate_of(const World& world, const ObjectPtr& pod,
                       const std::map<std::string_view, std::int64_t>& on_node) {
  Candidate out;
  out.pod = pod;
  const auto node = view::node_of(*pod);
  out.bound = !node.empty();
  out.phase = phase_rank(*pod);
  out.ready = view::is_ready(*pod, world.members);
  out.cost = parse_int(view::annotation(*pod, kDeletionCost)).value_or(0);
  if (const auto found = on_node.find(node); found != on_node.end())
    out.neighbours = found->second;
  if (const auto* ready = view::condition(*pod, "Ready"))
    out.ready_since =
        view::parse_time(api::find_string(*ready, "lastTransitionTime")).value_or(WallTime());
  out.restarts = view::restarts_of(*pod);
  out.created = view::created_at(*pod).value_or(WallTime());
  return out;
}

// a goes before b.
bool goes_first(const Candidate& a, const Candidate& b) {
  if (a.bound != b.bound)
    return !a.bound;
  if (a.phase != b.phase)
    return a.phase < b.phase;
  if (a.ready != b.ready)
    return !a.ready;
  if (a.cost != b.cost)
    return a.cost < b.cost;
  if (a.neighbours != b.neighbours)
    return a.neighbours > b.neighbours;
  if (a.ready && a.ready_since != b.ready_since)
    return a.ready_since > b.ready_since;
  if (a.restarts != b.restarts)
    return a.restarts > b.restarts;
  if (a.created != b.created)
    return a.created > b.created;
  return a.pod->name > b.pod->name;
}

}  // namespace

std::vector<ObjectPtr> choose_victims(const World& world, const Object&,
                                      const std::vector<ObjectPtr>& pods, std::size_t count) {
  std::map<std::string_view, std::int64_t> on_node;
  for (const ObjectPtr& pod : pods)
    if (const auto node = view::node_of(*pod); !node.empty())
      ++on_node[node];
  std::vector<Candidate> candidates;
  candidates.reserve(pods.size());
  for (const ObjectPtr& pod : pods)
    candidates.push_back(candidate_of(world, pod, on_node));
  std::vector<ObjectPtr> out;
  count = std::min({count, candidates.size(), kStepsMax});
  while (out.size() < count) {
    const auto first = std::min_element(candidates.begin(), candidates.end(), goes_first);
    const ObjectPtr victim = std::move(first->pod);
    candidates.erase(first);
    // Each that goes makes its host less crowded: what stays is spread.
    for (Candidate& other : candidates)
      if (!view::node_of(*victim).empty() && view::node_of(*other.pod) == view::node_of(*victim))
        --other.neighbours;
    out.push_back(victim);
  }
  return out;
}

}  // namespace shoal::controllers
