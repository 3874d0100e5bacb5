// SPDX-License-Identifier: Apache-2.0
// Which pods a ReplicaSet gives up when it shrinks. Kubernetes' order: those that serve least and
// have lived shortest go first. Ties end at the name, so that every host chooses the same.
#pragma once

#include "agent/controllers/plan.h"

#include <cstddef>
#include <vector>

namespace shoal::controllers {

// `pods` are the set's active ones. At most `count` (and a plan's worth), the first to go first.
std::vector<ObjectPtr> choose_victims(const World& world, const Object& replica_set,
                                      const std::vector<ObjectPtr>& pods, std::size_t count);

}  // namespace shoal::controllers
