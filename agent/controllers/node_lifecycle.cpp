// SPDX-License-Identifier: Apache-2.0
// A dead host's pods. Those that a controller replaces (ReplicaSets') are deleted without waiting
// for the host, once membership has called it dead for pod_replace_after; their controllers make
// new ones elsewhere. Bare pods are left and an event says so: nobody would make them again. When
// the host returns, its agent stops what has no object any more.
//
// Members may disagree about a host for a while, and then one places pods there that another one
// removes. So a pod stays for pod_replace_after at least, whatever its host's state: a disagreement
// costs a few writes and not a storm of them.
//
// When most hosts look dead, this side of a partition is probably the small one: nothing is
// replaced then.
#include "agent/controllers/controllers.h"

#include <fmt/format.h>

namespace shoal::controllers {

namespace {

constexpr std::string_view kComponent = "node-controller";

// ReplicaSets' pods are made again elsewhere. A bare pod that was being deleted waits for a host
// that cannot answer. Never those of a kind whose names must not run twice: a dead host may be
// merely cut off.
bool may_be_removed(const Object& pod) {
  const auto controller = view::controller_of(pod);
  return controller ? controller->kind == "ReplicaSet" : view::is_terminating(pod);
}

// How much longer a pod stays because it is new; 0 or less: it may go.
Duration left_to_stay(const World& world, const Object& pod) {
  const auto created = view::created_at(pod);
  return created ? *created + world.options.pod_replace_after - world.now : Duration(0);
}

struct Census {
  std::size_t nodes = 0;
  std::size_t dead = 0;
};

Census take_census(const World& world) {
  Census out;
  for (const ObjectPtr& node : world.view.list(view::kNodes)) {
    ++out.nodes;
    out.dead += world.members.alive(node->name) ? 0 : 1;
  }
  return out;
}

}  // namespace

Plan reconcile_node(const World& world, const Object& node) {
  Plan plan;
  const view::Member* member = world.members.find(node.name);
  if (!member || member->alive)
    return plan;  // never heard of since this agent started: no verdict
  const auto pods = world.view.pods_on(node.name);
  if (pods.empty())
    return plan;
  const Duration dead_for = world.mono - member->since;
  if (dead_for < world.options.pod_replace_after) {
    plan.look_again(world.options.pod_replace_after - dead_for);
    return plan;
  }
  const ObjectPtr self = world.view.get(view::ref_of(node));
  const Census census = take_census(world);
  if (static_cast<double>(census.dead) >
      world.options.replace_dead_share_max * static_cast<double>(census.nodes)) {
    plan.notes.push_back({self, true, "PodReplacementHeld",
                          fmt::format("{} of {} nodes do not answer: this may be a partition, so "
                                      "the pods of {} are not replaced",
                                      census.dead, census.nodes, node.name),
                          std::string(kComponent)});
    return plan;
  }
  for (const ObjectPtr& pod : pods) {
    if (!may_be_removed(*pod)) {
      if (plan.notes.size() < kStepsMax)
        plan.notes.push_back({pod, true, "NodeNotReady",
                              fmt::format("Node {} does not answer, and nothing replaces this pod "
                                          "by itself: delete it and make it again",
                                          node.name),
                              std::string(kComponent)});
      continue;
    }
    if (const Duration left = left_to_stay(world, *pod); left > Duration(0)) {
      plan.look_again(left);
      continue;
    }
    if (plan.full())
      break;
    plan.steps.push_back(
        {Remove{view::ref_of(*pod), pod->uid, 0},
         Note{pod, false, "TaintManagerEviction",
              fmt::format("Deleted pod {}/{}: node {} is dead", pod->ns, pod->name, node.name),
              std::string(kComponent)}});
  }
  return plan;
}

}  // namespace shoal::controllers
