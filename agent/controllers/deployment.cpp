// SPDX-License-Identifier: Apache-2.0
// Deployment -> ReplicaSets, as Kubernetes' controller does it: one ReplicaSet a template, named
// DEPLOYMENT-HASH, numbered by the revision annotation, sized by rollout.h, the oldest empty ones
// removed.
//
// What differs: availability is counted from pods and membership, not from the ReplicaSets' stored
// status.
#include "agent/api/schema.h"
#include "agent/controllers/controllers.h"
#include "agent/controllers/deployment_status.h"
#include "agent/controllers/edit.h"
#include "agent/controllers/names.h"
#include "agent/controllers/rollout.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::controllers {

namespace json = boost::json;

namespace {

constexpr std::string_view kHashLabel = "pod-template-hash";
constexpr std::string_view kRevision = "deployment.kubernetes.io/revision";
constexpr std::string_view kAskedReplicas = "deployment.kubernetes.io/desired-replicas";
constexpr std::string_view kAskedMax = "deployment.kubernetes.io/max-replicas";
constexpr std::string_view kComponent = "deployment-controller";
constexpr std::size_t kHashChars = 10;

// Annotations of a Deployment that are about itself and not about a revision of its template.
bool is_own_annotation(std::string_view key) {
  return key == "kubectl.kubernetes.io/last-applied-configuration" || key == kRevision ||
         key == kAskedReplicas || key == kAskedMax || key == "deprecated.deployment.rollback.to";
}

std::int64_t number_of(std::string_view text) {
  return static_cast<std::int64_t>(parse_uint(text, INT64_MAX).value_or(0));
}

std::int64_t revision_of(const Object& object) {
  return number_of(view::annotation(object, kRevision));
}

// With the defaults of today's fields, which what an earlier build stored lacks.
json::value template_without_hash(const Object& object) {
  json::object body = object.body;
  if (const api::Kind* kind = api::find_kind_by_resource(object.resource))
    api::fill_defaults(*kind, body);
  const auto* found = api::find_object(body, "spec.template");
  if (!found)
    return json::object();
  json::object copy = *found;
  if (api::find_object(copy, "metadata.labels"))
    copy["metadata"].get_object()["labels"].get_object().erase(kHashLabel);
  return copy;
}

class Look {
public:
  Look(const World& world, const Object& deployment)
      : world_(world), deployment_(deployment), rollout_(rollout_of(deployment.body)) {}

  Plan run();

private:
  bool find_sets();
  void create_newest();
  void number_newest();
  void resize();
  void clean_up();
  void report();

  std::optional<json::object> with_annotations(const json::object& body, const Object& set,
                                               std::int64_t wanted, bool newest) const;
  void size_set(std::size_t i, std::int64_t size);
  std::int64_t next_revision() const;
  SetSize size_of(const OwnedSet& set) const;
  std::vector<SetSize> sizes() const;
  ObjectPtr self() const { return world_.view.get(view::ref_of(deployment_)); }
  bool paused() const {
    const auto* value = api::find_path(deployment_.body, "spec.paused");
    return value && value->is_bool() && value->get_bool();
  }

  const World& world_;
  const Object& deployment_;
  const Rollout rollout_;
  Plan plan_;
  std::vector<OwnedSet> sets_;  // oldest first
  std::optional<std::size_t> newest_;
  bool name_taken_ = false;  // the newest one's name belongs to something else
};

Plan Look::run() {
  if (view::is_terminating(deployment_) || !find_sets())
    return {};
  if (was_scaled(rollout_, sizes()) || paused()) {
    const auto next = scaled_sizes(rollout_, sizes(), newest_);
    for (std::size_t i = 0; i < sets_.size(); ++i)
      size_set(i, next[i]);
  } else if (!newest_) {
    create_newest();
  } else {
    number_newest();
    resize();
    clean_up();
  }
  report();
  return std::move(plan_);
}

// The sets that belong to the Deployment, and which of them has the present template.
bool Look::find_sets() {
  const auto* selector_json = api::find_object(deployment_.body, "spec.selector");
  if (!selector_json)
    return false;
  const auto selector = api::LabelSelector::from_json(*selector_json);
  if (!selector || selector->selects_all())
    return false;  // the API refuses such a selector; owning everything would be worse than doing
                   // nothing
  auto owned = world_.view.owned_by(deployment_.uid);
  std::erase_if(owned, [](const ObjectPtr& o) { return o->resource != view::kReplicaSets; });
  owned = claim_children(deployment_, std::move(owned),
                         world_.view.orphans(view::kReplicaSets, deployment_.ns), *selector, plan_);
  std::erase_if(owned, [](const ObjectPtr& o) { return view::is_terminating(*o); });
  std::sort(owned.begin(), owned.end(), [](const ObjectPtr& a, const ObjectPtr& b) {
    return a->create_revision != b->create_revision ? a->create_revision < b->create_revision
                                                    : a->name < b->name;
  });
  const json::value wanted = template_without_hash(deployment_);
  for (ObjectPtr& set : owned) {
    if (!newest_ && template_without_hash(*set) == wanted)
      newest_ = sets_.size();
    const PodCounts counts = count_pods(world_, *set, pods_of(world_.view, *set));
    if (counts.next_available)
      plan_.look_again(*counts.next_available);
    sets_.push_back({std::move(set), counts});
  }
  return true;
}

SetSize Look::size_of(const OwnedSet& set) const {
  SetSize out;
  out.wanted = api::find_int(set.object->body, "spec.replicas", 1);
  out.available = set.counts.available;
  out.pods = set.counts.existing;
  out.active = set.counts.active;
  if (const auto text = view::annotation(*set.object, kAskedReplicas); !text.empty())
    out.asked_replicas = number_of(text);
  if (const auto text = view::annotation(*set.object, kAskedMax); !text.empty())
    out.asked_max = number_of(text);
  return out;
}

std::vector<SetSize> Look::sizes() const {
  std::vector<SetSize> out;
  for (const OwnedSet& set : sets_)
    out.push_back(size_of(set));
  return out;
}

// One more than any other set's; a template that comes back gets a new number.
std::int64_t Look::next_revision() const {
  std::int64_t largest = 0;
  for (std::size_t i = 0; i < sets_.size(); ++i)
    if (newest_ != i)
      largest = std::max(largest, revision_of(*sets_[i].object));
  return largest + 1;
}

// The body with the annotations that a set should have; nothing when it has them.
std::optional<json::object> Look::with_annotations(const json::object& body, const Object& set,
                                                   std::int64_t wanted, bool newest) const {
  json::object out = body;
  json::object& annotations = sub_object(sub_object(out, "metadata"), "annotations");
  const json::object before = annotations;
  if (newest) {
    if (const auto* own = api::annotations_of(deployment_.body))
      for (const auto& [key, value] : *own)
        if (!is_own_annotation(key))
          annotations[key] = value;
    annotations[kRevision] = std::to_string(std::max(revision_of(set), next_revision()));
  }
  if (wanted > 0) {
    annotations[kAskedReplicas] = std::to_string(rollout_.replicas);
    annotations[kAskedMax] = std::to_string(rollout_.replicas + rollout_.max_surge);
  }
  if (annotations == before)
    return std::nullopt;
  return out;
}

void Look::create_newest() {
  std::uint64_t hash = hash_json(template_without_hash(deployment_));
  if (const auto collisions = api::find_int(deployment_.body, "status.collisionCount", 0))
    hash ^= hash_json(json::value(collisions));
  const std::string suffix = name_suffix(hash, kHashChars);
  const std::string name = child_name(deployment_.name, suffix);
  if (world_.view.get(view::kReplicaSets, deployment_.ns, name)) {
    name_taken_ = true;  // by a stranger: count the collision, which gives another name
    return;
  }
  json::object pod_template = template_without_hash(deployment_).get_object();
  json::object& labels = sub_object(sub_object(pod_template, "metadata"), "labels");
  labels[kHashLabel] = suffix;
  json::object selector = *api::find_object(deployment_.body, "spec.selector");
  sub_object(selector, "matchLabels")[kHashLabel] = suffix;

  auto all = sizes();
  all.push_back({});
  const auto next = next_sizes(rollout_, all, all.size() - 1);
  json::object spec{{"replicas", next.back()}, {"selector", selector}, {"template", pod_template}};
  if (const auto min_ready = api::find_int(deployment_.body, "spec.minReadySeconds", 0))
    spec["minReadySeconds"] = min_ready;
  json::object body{{"apiVersion", "apps/v1"},
                    {"kind", "ReplicaSet"},
                    {"metadata", json::object{{"name", name},
                                              {"namespace", deployment_.ns},
                                              {"labels", labels},
                                              {"ownerReferences",
                                               json::array{view::controller_ref(deployment_)}}}},
                    {"spec", std::move(spec)}};
  const Object nobody;
  if (auto annotated = with_annotations(body, nobody, rollout_.replicas, true))
    body = std::move(*annotated);
  plan_.steps.push_back(
      {Create{std::move(body)},
       Note{self(), false, "ScalingReplicaSet",
            fmt::format("Scaled up replica set {} from 0 to {}", name, next.back()),
            std::string(kComponent)}});
}

// The Deployment shows the number of its newest revision.
void Look::number_newest() {
  const Object& set = *sets_[*newest_].object;
  const std::string number = std::to_string(std::max(revision_of(set), next_revision()));
  if (view::annotation(deployment_, kRevision) == number)
    return;
  json::object body = deployment_.body;
  sub_object(sub_object(body, "metadata"), "annotations")[kRevision] = number;
  plan_.steps.push_back({Update{std::move(body)}, {}});
}

void Look::size_set(std::size_t i, std::int64_t size) {
  const Object& set = *sets_[i].object;
  const std::int64_t before = api::find_int(set.body, "spec.replicas", 1);
  const bool newest = newest_ == i && !paused();
  auto annotated = before != size || before > 0 || newest
                       ? with_annotations(set.body, set, size, newest)
                       : std::nullopt;
  if ((before == size && !annotated) || plan_.full())
    return;
  json::object body = annotated ? std::move(*annotated) : json::object(set.body);
  std::optional<Note> note;
  if (before != size) {
    sub_object(body, "spec")["replicas"] = size;
    note = Note{self(), false, "ScalingReplicaSet",
                fmt::format("Scaled {} replica set {} from {} to {}", before < size ? "up" : "down",
                            set.name, before, size),
                std::string(kComponent)};
  }
  if (newest) {
    const auto min_ready = api::find_int(deployment_.body, "spec.minReadySeconds", 0);
    if (min_ready != api::find_int(set.body, "spec.minReadySeconds", 0))
      sub_object(body, "spec")["minReadySeconds"] = min_ready;
  }
  plan_.steps.push_back({Update{std::move(body)}, std::move(note)});
}

void Look::resize() {
  const auto next = next_sizes(rollout_, sizes(), *newest_);
  for (std::size_t i = 0; i < sets_.size(); ++i)
    size_set(i, next[i]);
}

// Old, empty sets are kept for roll-backs, spec.revisionHistoryLimit of them.
void Look::clean_up() {
  const DeploymentCounts counts = total_counts(sets_, newest_);
  if (!is_complete(deployment_, counts, rollout_))
    return;
  std::vector<const OwnedSet*> empty;
  for (std::size_t i = 0; i < sets_.size(); ++i)
    if (i != *newest_ && sets_[i].counts.existing == 0 &&
        api::find_int(sets_[i].object->body, "spec.replicas", 1) == 0)
      empty.push_back(&sets_[i]);
  const auto limit = static_cast<std::size_t>(
      std::max<std::int64_t>(api::find_int(deployment_.body, "spec.revisionHistoryLimit", 10), 0));
  if (empty.size() <= limit)
    return;
  std::stable_sort(empty.begin(), empty.end(), [](const OwnedSet* a, const OwnedSet* b) {
    return revision_of(*a->object) < revision_of(*b->object);
  });
  for (std::size_t i = 0; i < empty.size() - limit && !plan_.full(); ++i)
    plan_.steps.push_back(
        {Remove{view::ref_of(*empty[i]->object), empty[i]->object->uid, std::nullopt}, {}});
}

void Look::report() {
  const StatusInput input{deployment_, sets_, newest_, rollout_, paused(), name_taken_, world_.now};
  StatusOutput output = deployment_status(input);
  if (output.look_again)
    plan_.look_again(*output.look_again);
  if (output.status)
    plan_.steps.push_back({UpdateStatus{with_status(deployment_, std::move(*output.status))}, {}});
}

}  // namespace

Plan reconcile_deployment(const World& world, const Object& deployment) {
  return Look(world, deployment).run();
}

}  // namespace shoal::controllers
