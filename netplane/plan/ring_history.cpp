// SPDX-License-Identifier: Apache-2.0
#include "netplane/plan/ring_history.h"

#include "netplane/base/result.h"

#include <algorithm>

namespace shoal::plan {
namespace {

using model::BackendId;
using model::kNoBackend;
using model::kSlotFormer;
using model::kSlotMoved;

// The former owners of one slot, the latest first.
class Owners {
public:
  Owners(BackendId present, std::span<BackendId> former) : present_(present), former_(former) {}

  void add(BackendId owner) {
    const auto known = former_.first(count_);
    if (owner != kNoBackend && owner != present_ && count_ < former_.size() &&
        std::ranges::find(known, owner) == known.end())
      former_[count_++] = owner;
  }
  bool any() const { return count_ > 0; }

private:
  BackendId present_;
  std::span<BackendId> former_;
  std::size_t count_ = 0;
};

}  // namespace

void carry_history(const RingImage& before, const std::function<bool(BackendId)>& counts,
                   std::span<BackendId> ring, std::span<BackendId> former) {
  SHOAL_ASSERT(former.size() == kSlotFormer * ring.size());
  SHOAL_ASSERT(before.former.empty() || before.former.size() == kSlotFormer * before.slots.size());
  std::ranges::fill(former, kNoBackend);
  if (before.slots.empty())
    return;
  BackendId asked = kNoBackend;
  bool answer = false;
  const auto counted = [&](BackendId owner) {
    if (owner != asked) {
      asked = owner;
      answer = owner != kNoBackend && counts(owner);
    }
    return answer ? owner : kNoBackend;
  };
  const std::size_t covers = std::max<std::size_t>(1, before.slots.size() / ring.size());
  for (std::size_t slot = 0; slot < ring.size(); slot++) {
    Owners owners(ring[slot], former.subspan(kSlotFormer * slot, kSlotFormer));
    const std::size_t first = slot * before.slots.size() / ring.size();
    for (std::size_t old = first; old < first + covers; old++)
      owners.add(counted(before.slots[old] & ~kSlotMoved));
    if (!before.former.empty())
      for (std::size_t old = kSlotFormer * first; old < kSlotFormer * (first + covers); old++)
        owners.add(counted(before.former[old]));
    if (owners.any())
      ring[slot] |= kSlotMoved;
  }
}

void mark_all_moved(std::span<BackendId> ring) {
  for (BackendId& slot : ring)
    slot |= kSlotMoved;
}

}  // namespace shoal::plan
