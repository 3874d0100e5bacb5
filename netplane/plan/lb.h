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
// operations made, only for services that changed. Pure: no IO, no clock, no random source.
#pragma once

#include "netplane/model/model.h"
#include "netplane/plan/actual.h"
#include "netplane/plan/ops.h"

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

// A service whose entries in the maps are right but for its backends and its ring.
struct KnownService {
  const model::ServicePort* service = nullptr;
  ServiceIndex index = 0;
};
// The operations that plan_services makes when nothing but these services' groups and backends
// differs from what the maps hold, at the cost of looking at these alone. Of `desired` only the
// nodes are read. Strays that are not theirs are left to plan_frees and to the next whole plan.
Plan plan_backends(const model::Desired& desired, std::span<const KnownService> services,
                   const Actual& actual, const Options& options = {});

// What has had its grace and belongs to nobody, freed: no more than that, so it needs no input.
Plan plan_frees(const Actual& actual);

}  // namespace shoal::plan
