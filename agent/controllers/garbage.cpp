// SPDX-License-Identifier: Apache-2.0
// Garbage collection, in the background: objects whose owners are gone, pods of hosts that were
// removed from the cluster, and the contents of namespaces that are deleted.
//
// A replica may know a child before its owner, so that absence alone proves nothing. The rule: an
// owner existed before its child was written, hence one that is absent from a view complete up to
// the child's revision is gone.
#include "agent/controllers/controllers.h"

namespace shoal::controllers {

namespace {

bool is_complete_for(const View& view, const Object& object) {
  return view.synced() && view.revision() >= object.revision;
}

bool owner_is_gone(const View& view, const Object& child, const view::OwnerRef& owner) {
  const auto resource = view::resource_of(owner.api_version, owner.kind);
  if (!resource)
    return false;  // of a kind that is not served here: not ours to judge
  if (view.by_uid(owner.uid))
    return false;
  const ObjectPtr namesake = view.get(*resource, child.ns, owner.name);
  return !namesake || namesake->uid != owner.uid;
}

bool is_garbage(const View& view, const Object& object) {
  const auto owners = view::owners_of(object);
  bool all_gone = !owners.empty();
  for (const view::OwnerRef& owner : owners)
    all_gone = all_gone && owner_is_gone(view, object, owner);
  if (all_gone)
    return true;
  if (!object.ns.empty() && !view.get(view::kNamespaces, {}, object.ns))
    return true;
  return object.resource == view::kPods && !view::node_of(object).empty() &&
         !view.get(view::kNodes, {}, view::node_of(object));
}

// The host of a pod that is to go without waiting: there is none, or the pod never had one.
std::optional<std::int64_t> grace_for(const View& view, const Object& object) {
  if (object.resource != view::kPods)
    return std::nullopt;
  const auto node = view::node_of(object);
  if (node.empty() || !view.get(view::kNodes, {}, node))
    return 0;
  return std::nullopt;
}

}  // namespace

Plan collect_garbage(const World& world, const Object& object) {
  Plan plan;
  if (!is_complete_for(world.view, object) || !is_garbage(world.view, object))
    return plan;
  const auto grace = grace_for(world.view, object);
  // Its host is stopping it already.
  if (view::is_terminating(object) && !grace)
    return plan;
  plan.steps.push_back({Remove{view::ref_of(object), object.uid, grace}, {}});
  return plan;
}

Plan reconcile_namespace(const World& world, const Object& name_space) {
  Plan plan;
  if (!view::is_terminating(name_space))
    return plan;
  if (world.view.in_namespace(name_space.name).empty()) {
    plan.steps.push_back({Remove{view::ref_of(name_space), name_space.uid, std::nullopt}, {}});
    return plan;
  }
  for (const ObjectPtr& object : world.view.in_namespace(name_space.name)) {
    if (plan.full())
      break;
    const auto grace = grace_for(world.view, *object);
    if (!view::is_terminating(*object) || grace)
      plan.steps.push_back({Remove{view::ref_of(*object), object->uid, grace}, {}});
  }
  return plan;
}

}  // namespace shoal::controllers
