// SPDX-License-Identifier: Apache-2.0
// ReplicaSet -> Pods: as many active pods as asked for, adopted and released by the selector.
//
// A pod's name is SET-SUFFIX with a suffix hashed from the set's uid and a small number; a look
// takes the first numbers whose names are free. Two actors that see the same pods so make the same
// names, and one that sees fewer makes names that exist already: neither gives a pod too many.
#include "agent/controllers/controllers.h"
#include "agent/controllers/edit.h"
#include "agent/controllers/names.h"
#include "agent/controllers/pod_counts.h"
#include "agent/controllers/victims.h"
#include "netplane/base/hash.h"

#include <algorithm>
#include <fmt/format.h>
#include <set>

namespace shoal::controllers {

namespace json = boost::json;

namespace {

constexpr std::string_view kComponent = "replicaset-controller";
constexpr std::size_t kSuffixChars = 5;
constexpr std::size_t kPodNameMax = 63;  // it is the pod's host name too

std::string pod_name(const Object& set, std::uint64_t number) {
  return child_name(set.name, name_suffix(hash64(set.uid, number), kSuffixChars), kPodNameMax);
}

json::object pod_body(const Object& set, const std::string& name) {
  json::object metadata;
  json::object spec;
  if (const auto* found = api::find_object(set.body, "spec.template.metadata"))
    for (const auto& [key, value] : *found)
      if (key == "labels" || key == "annotations")
        metadata[key] = value;
  if (const auto* found = api::find_object(set.body, "spec.template.spec"))
    spec = *found;
  metadata["name"] = name;
  metadata["namespace"] = set.ns;
  metadata["ownerReferences"] = json::array{view::controller_ref(set)};
  return {{"apiVersion", "v1"},
          {"kind", "Pod"},
          {"metadata", std::move(metadata)},
          {"spec", std::move(spec)}};
}

void create_pods(const World& world, const Object& set, std::int64_t missing, Plan& plan) {
  std::set<std::string> taken;
  const ObjectPtr self = world.view.get(view::ref_of(set));
  for (std::uint64_t number = 0; missing > 0 && !plan.full(); ++number) {
    std::string name = pod_name(set, number);
    if (world.view.get(view::kPods, set.ns, name) || !taken.insert(name).second)
      continue;
    plan.steps.push_back(
        {Create{pod_body(set, name)},
         Note{self, false, "SuccessfulCreate", "Created pod: " + name, std::string(kComponent)}});
    --missing;
  }
}

void remove_pods(const World& world, const Object& set, const std::vector<ObjectPtr>& pods,
                 std::int64_t surplus, Plan& plan) {
  const ObjectPtr self = world.view.get(view::ref_of(set));
  for (const ObjectPtr& pod : choose_victims(world, set, pods, static_cast<std::size_t>(surplus))) {
    if (plan.full())
      return;
    plan.steps.push_back({Remove{view::ref_of(*pod), pod->uid, std::nullopt},
                          Note{self, false, "SuccessfulDelete", "Deleted pod: " + pod->name,
                               std::string(kComponent)}});
  }
}

void report(const World& world, const Object& set, const std::vector<ObjectPtr>& pods, Plan& plan) {
  const PodCounts counts = count_pods(world, set, pods);
  if (counts.next_available)
    plan.look_again(*counts.next_available);
  json::object status;
  status["replicas"] = counts.active;  // required: shown also when 0
  const auto put = [&](std::string_view field, std::int64_t value) {
    if (value != 0)
      status[field] = value;
  };
  put("fullyLabeledReplicas", counts.labeled);
  put("readyReplicas", counts.ready);
  put("availableReplicas", counts.available);
  put("observedGeneration", api::find_int(set.body, "metadata.generation", 0));
  const auto* before = api::find_object(set.body, "status");
  if (!before || *before != status)
    plan.steps.push_back({UpdateStatus{with_status(set, std::move(status))}, {}});
}

}  // namespace

Plan reconcile_replica_set(const World& world, const Object& set) {
  Plan plan;
  const auto* selector_json = api::find_object(set.body, "spec.selector");
  if (!selector_json)
    return plan;
  const auto selector = api::LabelSelector::from_json(*selector_json);
  if (!selector || selector->selects_all())
    return plan;
  auto pods = pods_of(world.view, set);
  if (!view::is_terminating(set)) {
    pods = claim_children(set, std::move(pods), world.view.orphans(view::kPods, set.ns), *selector,
                          plan);
    std::vector<ObjectPtr> active;
    for (const ObjectPtr& pod : pods)
      if (view::is_active(*pod))
        active.push_back(pod);
    const std::int64_t wanted = api::find_int(set.body, "spec.replicas", 1);
    const auto present = static_cast<std::int64_t>(active.size());
    if (present < wanted)
      create_pods(world, set, wanted - present, plan);
    else if (present > wanted)
      remove_pods(world, set, active, present - wanted, plan);
  }
  report(world, set, pods, plan);
  return plan;
}

}  // namespace shoal::controllers
