// SPDX-License-Identifier: Apache-2.0
#include "agent/view/view.h"

#include "agent/api/schema.h"
#include "agent/view/facts.h"

#include <algorithm>
#include <tuple>
#include <unordered_set>
#include <utility>

namespace shoal::view {

Ref ref_of(const Object& object) { return {object.resource, object.ns, object.name}; }

namespace {

// Objects know their names: nothing is held of these beside them.
struct ByRef {
  bool operator()(const ObjectPtr& a, const ObjectPtr& b) const {
    return std::tie(a->resource, a->ns, a->name) < std::tie(b->resource, b->ns, b->name);
  }
};
using Bucket = std::set<ObjectPtr, ByRef>;

using Name = std::pair<std::string_view, std::string_view>;  // within a resource
struct ByName {
  using is_transparent = void;
  static Name name(const ObjectPtr& object) { return {object->ns, object->name}; }
  static Name name(const Name& of) { return of; }
  bool operator()(const auto& a, const auto& b) const { return name(a) < name(b); }
};

struct UidHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view uid) const { return std::hash<std::string_view>()(uid); }
  std::size_t operator()(const ObjectPtr& object) const { return (*this)(object->uid); }
};
struct SameUid {
  using is_transparent = void;
  static std::string_view uid(const ObjectPtr& object) { return object->uid; }
  static std::string_view uid(std::string_view of) { return of; }
  bool operator()(const auto& a, const auto& b) const { return uid(a) == uid(b); }
};

using IndexMap = std::unordered_map<std::string, Bucket>;

enum IndexId : std::size_t {
  kByOwner,         // uid of an owner
  kOrphans,         // pods and ReplicaSets without a controller: resource and namespace
  kByNamespace,     // namespace
  kByNode,          // pods: spec.nodeName, "" when unbound
  kByLabel,         // pods: namespace, label and value
  kBySelector,      // services: namespace, one label and value of the selector
  kBySliceService,  // EndpointSlices: namespace and name of the service
  kIndexCount,
};

std::string joined(std::string_view a, std::string_view b, std::string_view c = {}) {
  std::string key;
  key.reserve(a.size() + b.size() + c.size() + 2);
  key.append(a).append(1, '\0').append(b).append(1, '\0').append(c);
  return key;
}

std::vector<ObjectPtr> values(const Bucket& bucket) { return {bucket.begin(), bucket.end()}; }

// Calls put(index, key) for every entry that the object has in the indexes.
template <class Put>
void for_each_entry(const Object& object, Put put) {
  for (const OwnerRef& owner : owners_of(object))
    put(kByOwner, owner.uid);
  if (!object.ns.empty())
    put(kByNamespace, object.ns);
  if ((object.resource == kPods || object.resource == kReplicaSets) && !controller_of(object))
    put(kOrphans, joined(object.resource, object.ns));
  if (object.resource == kPods) {
    put(kByNode, std::string(node_of(object)));
    if (const auto* pod_labels = labels(object))
      for (const auto& [key, value] : *pod_labels)
        if (value.is_string())
          put(kByLabel, joined(object.ns, key, value.get_string()));
  } else if (object.resource == kServices) {
    const auto* selector = api::find_object(object.body, "spec.selector");
    // One pair is enough to find the service by: a pod that it selects has that pair.
    if (selector && !selector->empty() && selector->begin()->value().is_string())
      put(kBySelector, joined(object.ns, selector->begin()->key(),
                              std::string_view(selector->begin()->value().get_string())));
  } else if (object.resource == kEndpointSlices) {
    if (const auto service = label(object, "kubernetes.io/service-name"); !service.empty())
      put(kBySliceService, joined(object.ns, service));
  }
}

}  // namespace

struct View::Impl {
  std::map<std::string, std::set<ObjectPtr, ByName>, std::less<>> objects;
  std::unordered_set<ObjectPtr, UidHash, SameUid> by_uid;
  IndexMap indexes[kIndexCount];

  std::map<std::uint64_t, std::function<void(const Change&)>> listeners;
  std::uint64_t next_listener = 1;

  bool synced = false;
  store::Revision revision = 0;
  store::Replica* replica = nullptr;
  store::Subscription replica_subscription;

  const Bucket* bucket(IndexId index, const std::string& key) const {
    const auto found = indexes[index].find(key);
    return found == indexes[index].end() ? nullptr : &found->second;
  }

  void take_out(const ObjectPtr& object) {
    for_each_entry(*object, [&](IndexId index, const std::string& key) {
      const auto found = indexes[index].find(key);
      if (found == indexes[index].end())
        return;
      found->second.erase(object);
      if (found->second.empty())
        indexes[index].erase(found);
    });
    if (const auto found = by_uid.find(object); found != by_uid.end() && *found == object)
      by_uid.erase(found);
  }

  void put_in(const ObjectPtr& object) {
    for_each_entry(*object, [&](IndexId index, const std::string& key) {
      indexes[index][key].insert(object);
    });
    if (object->uid.empty())
      return;
    by_uid.erase(object);
    by_uid.insert(object);
  }

  void store(ObjectPtr object, bool deleted) {
    auto& of_kind = objects[object->resource];
    if (const auto found = of_kind.find(object); found != of_kind.end()) {
      take_out(*found);
      of_kind.erase(found);
    }
    if (deleted)
      return;
    put_in(object);
    of_kind.insert(std::move(object));
  }
};

View::View() : impl_(std::make_shared<Impl>()) {}
View::~View() = default;

ObjectPtr View::get(std::string_view resource, std::string_view ns, std::string_view name) const {
  const auto of_kind = impl_->objects.find(resource);
  if (of_kind == impl_->objects.end())
    return nullptr;
  const auto found = of_kind->second.find(Name{ns, name});
  return found == of_kind->second.end() ? nullptr : *found;
}

ObjectPtr View::by_uid(std::string_view uid) const {
  const auto found = impl_->by_uid.find(uid);
  return found == impl_->by_uid.end() ? nullptr : *found;
}

std::vector<ObjectPtr> View::list(std::string_view resource, std::string_view ns) const {
  std::vector<ObjectPtr> out;
  const auto of_kind = impl_->objects.find(resource);
  if (of_kind == impl_->objects.end())
    return out;
  auto it = ns.empty() ? of_kind->second.begin() : of_kind->second.lower_bound(Name{ns, {}});
  for (; it != of_kind->second.end() && (ns.empty() || (*it)->ns == ns); ++it)
    out.push_back(*it);
  return out;
}

std::vector<ObjectPtr> View::owned_by(std::string_view uid) const {
  const Bucket* found = impl_->bucket(kByOwner, std::string(uid));
  return found ? values(*found) : std::vector<ObjectPtr>();
}

std::vector<ObjectPtr> View::orphans(std::string_view resource, std::string_view ns) const {
  const Bucket* found = impl_->bucket(kOrphans, joined(resource, ns));
  return found ? values(*found) : std::vector<ObjectPtr>();
}

std::vector<ObjectPtr> View::with_owners() const {
  Bucket all;
  for (const auto& [uid, owned] : impl_->indexes[kByOwner])
    all.insert(owned.begin(), owned.end());
  return values(all);
}

std::vector<ObjectPtr> View::in_namespace(std::string_view ns) const {
  const Bucket* found = impl_->bucket(kByNamespace, std::string(ns));
  return found ? values(*found) : std::vector<ObjectPtr>();
}

std::vector<ObjectPtr> View::pods_matching(std::string_view ns,
                                           const api::LabelSelector& selector) const {
  const Bucket* smallest = nullptr;
  for (const auto& requirement : selector.requirements()) {
    if (requirement.op != api::LabelSelector::Operator::kIn || requirement.values.size() != 1)
      continue;
    const Bucket* found =
        impl_->bucket(kByLabel, joined(ns, requirement.key, requirement.values.front()));
    if (!found)
      return {};
    if (!smallest || found->size() < smallest->size())
      smallest = found;
  }
  std::vector<ObjectPtr> out = smallest ? values(*smallest) : list(kPods, ns);
  std::erase_if(out, [&](const ObjectPtr& pod) { return !selector.matches(labels(*pod)); });
  return out;
}

std::vector<ObjectPtr> View::pods_on(std::string_view node) const {
  const Bucket* found = node.empty() ? nullptr : impl_->bucket(kByNode, std::string(node));
  return found ? values(*found) : std::vector<ObjectPtr>();
}

std::vector<ObjectPtr> View::unbound_pods() const {
  const Bucket* found = impl_->bucket(kByNode, std::string());
  return found ? values(*found) : std::vector<ObjectPtr>();
}

std::vector<ObjectPtr> View::services_selecting(const Object& pod) const {
  Bucket found;
  const auto* pod_labels = labels(pod);
  if (!pod_labels)
    return {};
  for (const auto& [key, value] : *pod_labels) {
    if (!value.is_string())
      continue;
    const Bucket* candidates =
        impl_->bucket(kBySelector, joined(pod.ns, key, std::string_view(value.get_string())));
    if (!candidates)
      continue;
    for (const ObjectPtr& service : *candidates)
      if (api::LabelSelector::from_labels(api::find_object(service->body, "spec.selector"))
              .matches(pod_labels))
        found.insert(service);
  }
  return values(found);
}

std::vector<ObjectPtr> View::slices_of(std::string_view ns, std::string_view service) const {
  const Bucket* found = impl_->bucket(kBySliceService, joined(ns, service));
  return found ? values(*found) : std::vector<ObjectPtr>();
}

bool View::synced() const { return impl_->replica ? impl_->replica->synced() : impl_->synced; }

store::Revision View::revision() const {
  return impl_->replica ? impl_->replica->revision() : impl_->revision;
}

store::Subscription View::subscribe(std::function<void(const Change&)> on_change) {
  const std::uint64_t id = impl_->next_listener++;
  impl_->listeners.emplace(id, std::move(on_change));
  return store::Subscription([weak = std::weak_ptr(impl_), id] {
    if (const auto impl = weak.lock())
      impl->listeners.erase(id);
  });
}

void View::apply(const Change& change) {
  impl_->store(change.object, change.kind == ChangeKind::kDeleted);
  // A listener may end subscriptions, its own included, from within the call.
  std::vector<std::uint64_t> ids;
  for (const auto& [id, listener] : impl_->listeners)
    ids.push_back(id);
  for (const std::uint64_t id : ids) {
    const auto found = impl_->listeners.find(id);
    if (found == impl_->listeners.end())
      continue;
    const auto listener = found->second;
    listener(change);
  }
}

void View::set_position(bool synced, store::Revision revision) {
  impl_->synced = synced;
  impl_->revision = revision;
}

void View::attach(store::Replica& replica, std::vector<std::string> resources) {
  impl_->replica = &replica;
  if (resources.empty())
    for (const api::Kind* kind : api::all_kinds())
      resources.push_back(kind->resource());
  std::sort(resources.begin(), resources.end());
  for (const std::string& resource : resources)
    for (ObjectPtr& object : replica.list(resource))
      apply({ChangeKind::kAdded, std::move(object), nullptr});
  impl_->replica_subscription =
      replica.subscribe({}, [this, followed = std::move(resources)](const Change& change) {
        if (std::binary_search(followed.begin(), followed.end(), change.object->resource))
          apply(change);
      });
}

}  // namespace shoal::view
