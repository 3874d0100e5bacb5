// SPDX-License-Identifier: Apache-2.0
#include "agent/controllers/triggers.h"

#include "agent/api/claims.h"
#include "agent/api/load_balancer.h"
#include "agent/api/service_facts.h"
#include "agent/controllers/controllers.h"

#include <set>

namespace shoal::controllers {

namespace {

using view::Change;
using view::ChangeKind;

Item item_of(ControllerId controller, const Object& object) {
  return {controller, view::ref_of(object)};
}

Item placement_item() { return {ControllerId::kPlacement, {}}; }

// Labels or owners differ: selectors may answer differently now.
bool identity_changed(const Change& change) {
  if (change.kind != ChangeKind::kModified || !change.before)
    return true;
  const auto differs = [&](std::string_view path) {
    const auto* now = api::find_path(change.object->body, path);
    const auto* before = api::find_path(change.before->body, path);
    return (now == nullptr) != (before == nullptr) || (now && *now != *before);
  };
  return differs("metadata.labels") || differs("metadata.ownerReferences");
}

// Owners of `resource` in the namespace that would adopt this orphan.
void possible_owners(const View& view, const Object& orphan, std::string_view resource,
                     ControllerId controller, const Enqueue& enqueue) {
  for (const ObjectPtr& owner : view.list(resource, orphan.ns)) {
    const auto* selector = api::find_object(owner->body, "spec.selector");
    const auto parsed = selector ? api::LabelSelector::from_json(*selector)
                                 : Result<api::LabelSelector>(api::LabelSelector::nothing());
    if (parsed && parsed->matches(view::labels(orphan)))
      enqueue(item_of(controller, *owner));
  }
}

void owner_items(const View& view, const Object& object, const Enqueue& enqueue) {
  const auto owner = view::controller_of(object);
  if (!owner)
    return;
  if (owner->kind == "ReplicaSet") {
    enqueue({ControllerId::kReplicaSet, {std::string(view::kReplicaSets), object.ns, owner->name}});
    // Deployments count pods, so that they do not wait for the set's status.
    if (const auto set = view.get(view::kReplicaSets, object.ns, owner->name))
      owner_items(view, *set, enqueue);
  } else if (owner->kind == "Deployment") {
    enqueue({ControllerId::kDeployment, {std::string(view::kDeployments), object.ns, owner->name}});
  }
}

void service_items(const View& view, const Object& pod, const Enqueue& enqueue) {
  for (const ObjectPtr& service : view.services_selecting(pod))
    enqueue(item_of(ControllerId::kService, *service));
}

// What becomes of a pod may be the first or the last use of its claims.
void claim_items(const Object& pod, const Enqueue& enqueue) {
  for (std::string& name : api::claims_of(pod.body))
    enqueue({ControllerId::kClaim, {std::string(view::kClaims), pod.ns, std::move(name)}});
}

void pod_items(const View& view, const Members& members, const Change& change,
               const Enqueue& enqueue) {
  const Object& pod = *change.object;
  owner_items(view, pod, enqueue);
  service_items(view, pod, enqueue);
  claim_items(pod, enqueue);
  if (identity_changed(change)) {
    if (change.before) {
      owner_items(view, *change.before, enqueue);
      service_items(view, *change.before, enqueue);
    }
    if (!view::controller_of(pod))
      possible_owners(view, pod, view::kReplicaSets, ControllerId::kReplicaSet, enqueue);
  }
  const auto node = view::node_of(pod);
  if (node.empty() || !view.unbound_pods().empty())
    enqueue(placement_item());
  if (!node.empty() && !members.alive(node))
    enqueue({ControllerId::kNode, {std::string(view::kNodes), {}, std::string(node)}});
}

bool is_load_balancer(const Object& service) {
  return api::service_type(api::spec_of(service.body)) == api::ServiceType::kLoadBalancer;
}

// The service itself, and those that wait for an address that it may have let go.
void load_balancer_items(const View& view, const Change& change, const Enqueue& enqueue) {
  const Object& service = *change.object;
  if (is_load_balancer(service))
    enqueue(item_of(ControllerId::kLoadBalancer, service));
  const Object* before = change.kind == ChangeKind::kDeleted ? &service : change.before.get();
  if (!before)
    return;
  const auto had = api::own_load_balancer_ips(before->body);
  if (had.empty() ||
      (change.kind != ChangeKind::kDeleted && api::own_load_balancer_ips(service.body) == had))
    return;
  for (const ObjectPtr& other : view.list(view::kServices))
    if (!api::load_balancer_lacks(other->body, api::own_load_balancer_ips(other->body), {}).empty())
      enqueue(item_of(ControllerId::kLoadBalancer, *other));
}

void kind_items(const View& view, const Members& members, const Change& change,
                const Enqueue& enqueue) {
  const Object& object = *change.object;
  if (object.resource == view::kPods)
    return pod_items(view, members, change, enqueue);
  if (object.resource == view::kReplicaSets) {
    enqueue(item_of(ControllerId::kReplicaSet, object));
    owner_items(view, object, enqueue);
    if (identity_changed(change)) {
      if (change.before)
        owner_items(view, *change.before, enqueue);
      if (!view::controller_of(object))
        possible_owners(view, object, view::kDeployments, ControllerId::kDeployment, enqueue);
    }
  } else if (object.resource == view::kDeployments) {
    enqueue(item_of(ControllerId::kDeployment, object));
  } else if (object.resource == view::kServices) {
    enqueue(item_of(ControllerId::kService, object));
    load_balancer_items(view, change, enqueue);
  } else if (object.resource == view::kEndpointSlices) {
    if (const auto service = view::label(object, "kubernetes.io/service-name"); !service.empty())
      enqueue({ControllerId::kService,
               {std::string(view::kServices), object.ns, std::string(service)}});
  } else if (object.resource == view::kEndpoints) {
    enqueue({ControllerId::kService, {std::string(view::kServices), object.ns, object.name}});
  } else if (object.resource == view::kNodes) {
    enqueue(item_of(ControllerId::kNode, object));
    enqueue(placement_item());
  } else if (object.resource == view::kClaims) {
    enqueue(item_of(ControllerId::kClaim, object));
    if (!view.unbound_pods().empty())
      enqueue(placement_item());
  } else if (object.resource == view::kNamespaces) {
    enqueue(item_of(ControllerId::kNamespace, object));
  }
}

void garbage_items(const View& view, const Change& change, const Enqueue& enqueue) {
  const Object& object = *change.object;
  const auto look = [&](const std::vector<ObjectPtr>& objects) {
    for (const ObjectPtr& child : objects)
      enqueue(item_of(ControllerId::kGarbage, *child));
  };
  if (change.kind == ChangeKind::kDeleted) {
    look(view.owned_by(object.uid));
    if (object.resource == view::kNodes)
      look(view.pods_on(object.name));
    if (object.resource == view::kNamespaces)
      look(view.in_namespace(object.name));
    else if (const auto ns = view.get(view::kNamespaces, {}, object.ns);
             ns && view::is_terminating(*ns))
      enqueue(item_of(ControllerId::kNamespace, *ns));
    return;
  }
  if (!identity_changed(change))
    return;
  if (!view::owners_of(object).empty())
    enqueue(item_of(ControllerId::kGarbage, object));
  if (object.ns.empty())
    return;
  const auto ns = view.get(view::kNamespaces, {}, object.ns);
  if (!ns)
    enqueue(item_of(ControllerId::kGarbage, object));
  else if (view::is_terminating(*ns))
    enqueue(item_of(ControllerId::kNamespace, *ns));
}

}  // namespace

void items_of_change(const View& view, const Members& members, const Change& change,
                     const Enqueue& enqueue) {
  kind_items(view, members, change, enqueue);
  garbage_items(view, change, enqueue);
}

void items_of_member(const View& view, std::string_view node, const Enqueue& enqueue) {
  enqueue({ControllerId::kNode, {std::string(view::kNodes), {}, std::string(node)}});
  enqueue(placement_item());
  for (const ObjectPtr& pod : view.pods_on(node)) {
    owner_items(view, *pod, enqueue);
    service_items(view, *pod, enqueue);
  }
}

void all_items(const View& view, const Enqueue& enqueue) {
  const std::pair<std::string_view, ControllerId> kinds[] = {
      {view::kDeployments, ControllerId::kDeployment},
      {view::kReplicaSets, ControllerId::kReplicaSet},
      {view::kServices, ControllerId::kService},
      {view::kServices, ControllerId::kLoadBalancer},
      {view::kNodes, ControllerId::kNode},
      {view::kClaims, ControllerId::kClaim},
      {view::kNamespaces, ControllerId::kNamespace}};
  for (const auto& [resource, controller] : kinds)
    for (const ObjectPtr& object : view.list(resource))
      enqueue(item_of(controller, *object));
  enqueue(placement_item());
  for (const ObjectPtr& object : view.with_owners())
    enqueue(item_of(ControllerId::kGarbage, *object));
  // Without owners, yet perhaps on a host or in a namespace that is gone.
  for (const ObjectPtr& pod : view.list(view::kPods))
    if (!view::controller_of(*pod))
      enqueue(item_of(ControllerId::kGarbage, *pod));
}

Plan reconcile(const World& world, const Item& item) {
  if (item.controller == ControllerId::kPlacement)
    return place_pods(world);
  const ObjectPtr object = world.view.get(item.ref);
  if (!object)
    return {};
  switch (item.controller) {
  case ControllerId::kDeployment:
    return reconcile_deployment(world, *object);
  case ControllerId::kReplicaSet:
    return reconcile_replica_set(world, *object);
  case ControllerId::kNode:
    return reconcile_node(world, *object);
  case ControllerId::kService:
    return reconcile_service(world, *object);
  case ControllerId::kLoadBalancer:
    return reconcile_load_balancer(world, *object);
  case ControllerId::kGarbage:
    return collect_garbage(world, *object);
  case ControllerId::kClaim:
    return reconcile_claim(world, *object);
  case ControllerId::kNamespace:
    return reconcile_namespace(world, *object);
  case ControllerId::kPlacement:
    break;
  }
  return {};
}

}  // namespace shoal::controllers
