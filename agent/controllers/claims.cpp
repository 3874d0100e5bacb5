// SPDX-License-Identifier: Apache-2.0
// PersistentVolumeClaims. The scheduler binds a claim to the host of its first consumer
// (placement.cpp); this sees to what is left: consumers that name their host themselves, the status
// that people see, and claims that are being deleted, which go when no pod uses them any more. The
// folder is the host's affair.
#include "agent/api/claims.h"
#include "agent/controllers/controllers.h"
#include "agent/controllers/edit.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::controllers {

namespace json = boost::json;

namespace {

constexpr std::string_view kComponent = "persistentvolume-controller";

// The pod that is on a host and uses the claim, if there is one; of several the oldest.
ObjectPtr consumer_of(const View& view, const Object& claim) {
  ObjectPtr first;
  for (const ObjectPtr& pod : view.list(view::kPods, claim.ns))
    if (api::holds_claim(pod->body, claim.name) &&
        (!first || pod->create_revision < first->create_revision))
      first = pod;
  return first;
}

json::object bound_status(const Object& claim) {
  json::object status{{"phase", "Bound"}};
  if (const json::array* modes = api::find_array(claim.body, "spec.accessModes"))
    status["accessModes"] = *modes;
  if (const json::object* asked = api::find_object(claim.body, "spec.resources.requests"))
    status["capacity"] = *asked;
  return status;
}

}  // namespace

Update select_node(const Object& claim, std::string_view node) {
  json::object body = claim.body;
  sub_object(sub_object(body, "metadata"), "annotations")[api::kSelectedNode] = node;
  return {std::move(body)};
}

Plan reconcile_claim(const World& world, const Object& claim) {
  Plan plan;
  const ObjectPtr self = world.view.get(view::ref_of(claim));
  if (view::is_terminating(claim)) {
    // A pod that was made before the deletion was is in a view that has the deletion.
    if (world.view.synced() && world.view.revision() >= claim.revision &&
        !consumer_of(world.view, claim))
      plan.steps.push_back({Remove{view::ref_of(claim), claim.uid, std::nullopt}, {}});
    return plan;
  }
  const std::string_view node = api::selected_node(claim.body);
  if (node.empty()) {
    if (const ObjectPtr pod = consumer_of(world.view, claim))
      plan.steps.push_back({select_node(claim, view::node_of(*pod)), {}});
    else
      plan.notes.push_back({self, false, "WaitForFirstConsumer",
                            "waiting for first consumer to be created before binding",
                            std::string(kComponent)});
    return plan;
  }
  if (api::find_string(claim.body, "status.phase") != "Bound")
    plan.steps.push_back({UpdateStatus{with_status(claim, bound_status(claim))},
                          Note{self, false, "ProvisioningSucceeded",
                               fmt::format("Successfully provisioned volume {} on {}",
                                           api::volume_name_of(claim.body), node),
                               std::string(kComponent)}});
  return plan;
}

}  // namespace shoal::controllers
