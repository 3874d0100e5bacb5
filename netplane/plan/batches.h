// SPDX-License-Identifier: Apache-2.0
// Batches of any length as operations within their bounds. Internal to netplane/plan.
#pragma once

#include "netplane/plan/ops.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <type_traits>
#include <utility>
#include <vector>

namespace shoal::plan {

template <class Batch>
void append(std::vector<Op>& ops, Batch&& batch) {
  auto at = std::make_move_iterator(batch.items.begin());
  const auto end = std::make_move_iterator(batch.items.end());
  while (at != end) {
    const auto next = at + std::min<std::ptrdiff_t>(end - at, kItemsPerOpMax);
    std::decay_t<Batch> part;
    part.items.assign(at, next);
    ops.push_back(std::move(part));
    at = next;
  }
}

inline void append_rings(std::vector<Op>& ops, WriteRings&& batch) {
  WriteRings part;
  std::size_t slots = 0;
  for (WriteRings::Item& item : batch.items) {
    if (!part.items.empty() && slots + item.to.slots > kSlotsPerOpMax) {
      ops.push_back(std::exchange(part, {}));
      slots = 0;
    }
    slots += item.to.slots;
    part.items.push_back(std::move(item));
  }
  if (!part.items.empty())
    ops.push_back(std::move(part));
}

}  // namespace shoal::plan
