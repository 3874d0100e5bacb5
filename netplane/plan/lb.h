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
// Cost: proportional to the input for looking at it; rings are built, and operations made, only for
// services that changed. Pure: no IO, no clock, no random source.
#pragma once

#include "netplane/model/model.h"
#include "netplane/plan/actual.h"
#include "netplane/plan/ops.h"

namespace shoal::plan {

struct Options {
  // False until the agent's view is complete: nothing is deleted, and a ring is left alone when it
  // would lose a backend that the input does not name at all, or for its host's sake.
  bool prune = true;
};

Plan plan_services(const model::Desired& desired, const Actual& actual,
                   const Options& options = {});

// What has had its grace and belongs to nobody, freed: no more than that, so it needs no input.
Plan plan_frees(const Actual& actual);

}  // namespace shoal::plan
