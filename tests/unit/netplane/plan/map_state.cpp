// SPDX-License-Identifier: Apache-2.0
#include "map_state.h"

#include "netplane/plan/ring_history.h"

#include <algorithm>
#include <fmt/format.h>
#include <span>

namespace shoal::plan {

std::vector<Op> split_items(const Plan& plan) {
  std::vector<Op> out;
  for (const Op& op : plan.ops)
    std::visit(
        [&out](const auto& batch) {
          for (const auto& item : batch.items)
            out.push_back(std::decay_t<decltype(batch)>{{item}});
        },
        op);
  return out;
}

void MapState::apply(const Op& op) {
  std::visit(
      [this](const auto& batch) {
        for (const auto& i : batch.items) {
          item(i);
          check_rings();
        }
      },
      op);
}

void MapState::grace() {
  hot_blocks_.clear();
  hot_backends_.clear();
  hot_services_.clear();
}

std::set<std::uint32_t> MapState::live_blocks() const {
  std::set<std::uint32_t> out;
  for (const auto& [service, ref] : refs_)
    for (std::uint32_t i = 0; i < ref.blocks(); i++)
      if (!out.insert(ref.first_block + i).second)
        out.insert(UINT32_MAX);
  return out;
}

std::vector<BackendId> MapState::blocks(const RingRef& ref) const {
  std::vector<BackendId> out;
  for (std::uint32_t b = 0; b < ref.blocks(); b++) {
    const auto& block = blocks_.at(ref.first_block + b);
    out.insert(out.end(), block.begin(), block.end());
  }
  return out;
}

model::Ring MapState::ring(const RingRef& ref) const { return model::ring_of(ref, blocks(ref)); }

// Whoever had a part of the hash space, and is still there, is known to the next ring as its owner
// or as a former one.
void MapState::check_history(const RingRef& before, const RingRef& after) {
  if (!after.history)
    return;
  const model::Ring old = ring(before);
  const model::Ring now = ring(after);
  for (std::size_t slot = 0; slot < now.backends.size(); slot++) {
    const BackendId owner = old.backends[slot * old.backends.size() / now.backends.size()];
    const auto former =
        std::span(now.former).subspan(slot * model::kSlotFormer, model::kSlotFormer);
    if (backend(owner) != nullptr && owner != now.backends[slot] &&
        std::ranges::find(former, owner) == former.end())
      violation(fmt::format("backend {} lost slot {} without a trace", owner, slot));
  }
}

std::set<BackendId> MapState::named() const {
  std::set<BackendId> out;
  for (const auto& [service, ref] : refs_)
    if (const model::Ring held = ring(ref); !held.refuses())
      out.insert(held.backends.begin(), held.backends.end());
  return out;
}

void MapState::check_rings() {
  if (live_blocks().contains(UINT32_MAX))
    violation("two rings share a block");
  for (const BackendId id : named())
    if (backend(id) == nullptr)
      violation(fmt::format("a slot names backend {}, which is not there", id));
}

void MapState::item(const OpenServices::Item& i) {
  if (hot_services_.contains(i.service))
    violation(fmt::format("service index {} is given again before its grace", i.service));
  if (const auto at = refs_.find(i.service); at != refs_.end() && !at->second.empty())
    violation(fmt::format("service index {} is given while it has a ring", i.service));
  for (const auto& [key, entry] : frontends_)
    if (entry.inside == i.service || entry.outside == i.service)
      violation(fmt::format("service index {} is given while a frontend names it", i.service));
}

void MapState::item(const SetBackends::Item& i) {
  BackendEntry& now = backends_.try_emplace(i.id, BackendEntry{.valid = false}).first->second;
  const bool other = !now.valid || now.ip != i.entry.ip || now.port != i.entry.port ||
                     now.generation != i.entry.generation;
  if (now.valid && other)
    violation(fmt::format("backend id {} is taken over while in use", i.id));
  if (other && hot_backends_.contains(i.id))
    violation(fmt::format("backend id {} is given again before its grace", i.id));
  if (other && i.entry.epoch <= now.epoch)
    violation(fmt::format("backend id {} is given again with epoch {} after {}", i.id,
                          i.entry.epoch, now.epoch));
  if (!other && i.entry.epoch != now.epoch)
    violation(fmt::format("backend id {} changes its epoch while in use", i.id));
  now = i.entry;
}

void MapState::item(const WriteRings::Item& i) {
  if (i.to.slots == 0 || i.to.slots % model::kRingBlockSlots != 0)
    return violation("a ring that is no whole number of blocks");
  std::vector<BackendId> slots(std::size_t{i.to.blocks()} * model::kRingBlockSlots);
  const std::span all(slots);
  if (!i.members.empty())
    RingBuilder().build(i.members, all.first(i.to.slots));
  if (!i.to.history && !i.before.empty())
    mark_all_moved(all.first(i.to.slots));
  if (i.to.history) {
    if (i.before != refs_[i.service])
      violation("the history of another ring than the one in force");
    const std::vector<BackendId> held = blocks(i.before);
    carry_history(
        {.slots = std::span(held).first(i.before.slots),
         .former = std::span(held).subspan(i.before.slots)},
        [this](BackendId id) { return backend(id) != nullptr; }, all.first(i.to.slots),
        all.subspan(i.to.slots));
  }
  const std::set<std::uint32_t> live = live_blocks();
  for (std::size_t at = 0; at < slots.size(); at++) {
    const auto block = i.to.first_block + static_cast<std::uint32_t>(at / model::kRingBlockSlots);
    if (live.contains(block) || hot_blocks_.contains(block))
      violation(fmt::format("ring block {} is written while it may be read", block));
    blocks_[block][at % model::kRingBlockSlots] = slots[at];
  }
}

void MapState::item(const SwitchRings::Item& i) {
  const std::set<BackendId> before = named();
  RingRef& ref = refs_[i.service];
  check_history(ref, i.to);
  for (std::uint32_t b = 0; b < ref.blocks(); b++)
    hot_blocks_.insert(ref.first_block + b);
  ref = i.to;
  const std::set<BackendId> after = named();
  for (const BackendId id : before)
    if (!after.contains(id))
      hot_backends_.insert(id);
}

void MapState::item(const SetFrontends::Item& i) {
  if (const auto at = frontends_.find(i.key); at != frontends_.end())
    hot_services_.insert({at->second.inside, at->second.outside});
  hot_services_.erase(i.entry.inside);
  hot_services_.erase(i.entry.outside);
  if (i.entry.restricted && !source_ranges_.contains(i.entry.outside))
    violation("a frontend is held against source ranges that are not there");
  frontends_[i.key] = i.entry;
}

void MapState::item(const AddSourceRanges::Item& i) { source_ranges_[i.service].insert(i.range); }

void MapState::item(const RemoveSourceRanges::Item& i) {
  const auto at = source_ranges_.find(i.service);
  if (at == source_ranges_.end() || at->second.erase(i.range) == 0)
    return violation("a source range is removed that is not there");
  if (!at->second.empty())
    return;
  source_ranges_.erase(at);
  for (const auto& [key, entry] : frontends_)
    if (entry.restricted && entry.outside == i.service)
      violation(fmt::format("service index {} is restricted and takes nobody", i.service));
}

void MapState::item(const SetVips::Item& i) { vips_[i.ip] = i.entry; }

void MapState::item(const DeleteFrontends::Item& i) {
  if (frontends_.erase(i.key) > 0)
    hot_services_.insert({i.entry.inside, i.entry.outside});
}

void MapState::item(const DeleteVips::Item& i) { vips_.erase(i.ip); }

void MapState::item(const FreeBackends::Item& i) {
  if (named().contains(i.id))
    violation(fmt::format("backend {} is freed while a ring names it", i.id));
  if (hot_backends_.contains(i.id))
    violation(fmt::format("backend {} is freed before its grace", i.id));
  BackendEntry& now = backends_[i.id];
  if (i.epoch <= now.epoch)
    violation(fmt::format("backend {} is freed without a raised epoch", i.id));
  now = BackendEntry{.epoch = i.epoch, .valid = false};
  hot_backends_.insert(i.id);
}

std::map<BackendId, std::uint32_t> MapState::picks(const FrontendKey& key, bool outside) const {
  std::map<BackendId, std::uint32_t> out;
  const auto frontend = frontends_.find(key);
  if (frontend == frontends_.end())
    return out;
  const auto ref = refs_.find(outside ? frontend->second.outside : frontend->second.inside);
  if (ref == refs_.end())
    return out;
  if (const model::Ring held = ring(ref->second); !held.refuses())
    for (const BackendId id : held.backends)
      out[id]++;
  return out;
}

const BackendEntry* MapState::backend(BackendId id) const {
  const auto at = backends_.find(id);
  return at != backends_.end() && at->second.valid ? &at->second : nullptr;
}

model::DataPlane MapState::dump() const {
  model::DataPlane out;
  out.frontends = frontends_;
  out.vips = vips_;
  out.source_ranges = source_ranges_;
  out.backends = backends_;
  for (const auto& [service, ref] : refs_) {
    if (ref.empty())
      continue;
    out.rings[service] = ring(ref);
  }
  return out;
}

}  // namespace shoal::plan
