// SPDX-License-Identifier: Apache-2.0
// The service plan: desired services and what the maps hold -> the operations in between.
//
// A service keeps its index as long as one of its frontends does: identity is read off the maps, so
// a restarted agent goes on with the same indexes, ids and rings, and plans nothing when nothing
// changed. A backend of a service is (address, port, lease generation) and keeps its id.
//
// Which backends get slots: ready, on a host that is alive, in a group with weight. A terminating
// backend, and one whose host is away, keeps its entry, so that established flows go on, until it
// disappears from the input. A service without any ready backend has an empty ring: it refuses.
//
// Cost: plan_services is proportional to the input for looking at it; rings are built, and
// operations made, only for services that changed; plan_changes does not even look at the others.
// Pure: no IO, no clock, no random source.
#pragma once

#include "netplane/model/model.h"
#include "netplane/plan/actual.h"
#include "netplane/plan/ops.h"

#include <optional>
#include <span>

namespace shoal::plan {

struct Options {
  // False until the agent's view is complete: nothing is deleted, no address is announced that was
  // not before, or no more, and a ring is left alone when it would lose a backend that the input
  // does not name at all, or for its host's sake.
  bool prune = true;
};

Plan plan_services(const model::Desired& desired, const Actual& actual,
                   const Options& options = {});

// A service that differs from what the maps were last made to hold.
struct ChangedService {
  const model::ServicePort* before = nullptr;  // null: new
  const model::ServicePort* now = nullptr;     // null: gone
  ServiceIndex index = 0;                      // that `before` has
};
// The operations that plan_services makes when the maps hold all of what was desired before, and
// nothing but these services differs from that, at the cost of looking at these alone. Of `desired`
// only the nodes and the announced addresses are read. Nothing, when that is not enough: a frontend
// or an address is shared with a service that is not among them, something cannot be done, or (but
// for groups and backends) pruning is not allowed. Strays that are not theirs are left to
// plan_frees and to the next whole plan.
std::optional<Plan> plan_changes(const model::Desired& desired,
                                 std::span<const ChangedService> changed, const Actual& actual,
                                 const Options& options = {});

// What has had its grace and belongs to nobody, freed: no more than that, so it needs no input.
Plan plan_frees(const Actual& actual);

}  // namespace shoal::plan
