// SPDX-License-Identifier: Apache-2.0
// Who had a ring's slots before: what lets established connections keep their backend through
// changes of the ring without an entry for each of them (bpf/abi/shoal_abi.h, SHOAL_RING_HISTORY;
// the idea is that of Olteanu et al., "Stateless Datacenter Load-balancing with Beamer", NSDI
// 2018).
//
// The last kSlotFormer owners of a slot are remembered, not the last rings: a slot that did not
// change hands in between still knows them after any number of changes. Sizes are powers of two, so
// a slot of one ring covers whole slots of the other or lies within one.
#pragma once

#include "netplane/model/data_plane.h"

#include <functional>
#include <span>

namespace shoal::plan {

// A ring as it lies in the map: slots with marks (model::kSlotMoved), and kSlotFormer owners for
// each, or none at all.
struct RingImage {
  std::span<const model::BackendId> slots;
  std::span<const model::BackendId> former;
};

// Fills `former` (kSlotFormer for each of `ring`) from what `before` holds, and marks the slots of
// `ring` that have any. An owner that `counts` does not hold for, for one that is gone, is left
// out. Where many slots become one, some owners may find no place: those of the lowest slots stay.
void carry_history(const RingImage& before, const std::function<bool(model::BackendId)>& counts,
                   std::span<model::BackendId> ring, std::span<model::BackendId> former);

// Without a history: every slot may have had other owners, nobody knows whom.
void mark_all_moved(std::span<model::BackendId> ring);

}  // namespace shoal::plan
