// SPDX-License-Identifier: Apache-2.0
// Triggers: which items a change gives reason to look at. Too many only cost a look; too few are
// found by the resync. Pure.
#pragma once

#include "agent/controllers/plan.h"
#include "agent/controllers/work_queue.h"

#include <functional>

namespace shoal::controllers {

using Enqueue = std::function<void(Item)>;

// After the view has taken the change in.
void items_of_change(const View& view, const Members& members, const view::Change& change,
                     const Enqueue& enqueue);
// The state of this host has changed.
void items_of_member(const View& view, std::string_view node, const Enqueue& enqueue);
// Everything.
void all_items(const View& view, const Enqueue& enqueue);
// What the item's controller wants; nothing to do when its object is gone.
Plan reconcile(const World& world, const Item& item);

}  // namespace shoal::controllers
