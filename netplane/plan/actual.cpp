// SPDX-License-Identifier: Apache-2.0
#include "netplane/plan/actual.h"

#include "netplane/base/hash.h"
#include "netplane/base/result.h"

#include <algorithm>
#include <cstring>

namespace shoal::plan {

std::size_t FrontendKeyHash::operator()(const FrontendKey& key) const {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  std::memcpy(&high, key.ip.bytes().data(), 8);
  std::memcpy(&low, key.ip.bytes().data() + 8, 8);
  const std::uint64_t rest = std::uint64_t{key.port} << 8 | static_cast<std::uint64_t>(key.proto);
  return mix64(high ^ mix64(low ^ rest << 32));
}

std::size_t FrontendKeyHash::operator()(const IpAddress& ip) const {
  return (*this)(FrontendKey{ip, 0, L4Proto::kTcp});
}

std::uint64_t ring_digest(std::span<const BackendId> slots) {
  // Four independent chains, so that a multiplication need not wait for the one before.
  constexpr std::uint64_t kOdd = 0x9e3779b97f4a7c15U;
  // The first slot of a ring that does not refuse has an owner, as all of them do.
  if (slots.empty() || (slots[0] == model::kNoBackend &&
                        std::ranges::all_of(slots, [](BackendId id) { return id == 0; })))
    return 0;
  std::uint64_t h[4] = {slots.size() + 1, 2, 3, 4};
  std::size_t i = 0;
  for (; i + 4 <= slots.size(); i += 4)
    for (std::size_t lane = 0; lane < 4; lane++)
      h[lane] = (h[lane] ^ slots[i + lane]) * kOdd;
  for (; i < slots.size(); i++)
    h[0] = (h[0] ^ slots[i]) * kOdd;
  return mix64(h[0] ^ mix64(h[1] ^ mix64(h[2] ^ mix64(h[3]))));
}

Actual::Actual(const Limits& limits)
    : limits_(limits), backends_(1), service_pool_(limits.services),
      backend_pool_(limits.backends, std::min<std::uint32_t>(1, limits.backends)),
      block_pool_(limits.ring_blocks) {
  backends_[0].valid = false;
}

std::uint32_t Actual::frontends_at(const IpAddress& ip) const {
  const auto at = frontends_at_.find(ip);
  return at == frontends_at_.end() ? 0 : at->second;
}

const ServiceState* Actual::service(ServiceIndex index) const {
  return index < services_.size() && services_[index].used ? &services_[index] : nullptr;
}

const BackendEntry* Actual::backend(BackendId id) const {
  return id < backends_.size() && backends_[id].valid ? &backends_[id] : nullptr;
}

std::uint32_t Actual::next_epoch(BackendId id) const {
  const std::uint32_t epoch = id < backends_.size() ? backends_[id].epoch : 0;
  return epoch == UINT32_MAX ? 1 : epoch + 1;  // 0 means never used
}

ServiceState& Actual::state(ServiceIndex index) {
  SHOAL_ASSERT(index < limits_.services);
  if (index >= services_.size())
    services_.resize(index + 1);
  return services_[index];
}

// Counts a frontend in (+1) or out (-1) of the services that it names.
void Actual::name_services(const FrontendEntry& entry, int by) {
  for (const ServiceIndex index : {entry.inside, entry.outside}) {
    if (index >= limits_.services)
      continue;
    std::uint32_t& count = state(index).frontends;
    count = by < 0 && count == 0 ? 0 : count + static_cast<std::uint32_t>(by);
  }
}

// Keeps the service's backends in the order of their keys.
void Actual::own(ServiceState& service, BackendId id, std::uint32_t slots) {
  const BackendKey key = key_of(backends_[id]);
  const auto at = std::lower_bound(
      service.backends.begin(), service.backends.end(), key,
      [this](const SlotCount& a, const BackendKey& b) { return key_of(backends_[a.id]) < b; });
  service.backends.insert(at, SlotCount{id, slots});
}

void Actual::put_stray(BackendId id, const Stray& stray) {
  const auto [at, added] = strays_.insert_or_assign(id, stray);
  if (added)
    strays_by_key_.emplace(key_of(backends_[id]), id);
}

bool Actual::take_stray(BackendId id) {
  if (strays_.erase(id) == 0)
    return false;
  const auto [first, last] = strays_by_key_.equal_range(key_of(backends_[id]));
  const auto at = std::find_if(first, last, [&](const auto& entry) { return entry.second == id; });
  SHOAL_ASSERT(at != last);
  strays_by_key_.erase(at);
  return true;
}

// --- Recovery
// ---------------------------------------------------------------------------------------

Actual Actual::recover(const model::DataPlane& maps, const Limits& limits) {
  Actual actual(limits);
  for (const auto& [id, entry] : maps.backends) {
    if (id == model::kNoBackend || id >= limits.backends)
      continue;
    if (id >= actual.backends_.size()) {
      BackendEntry never_used;
      never_used.valid = false;
      actual.backends_.resize(id + 1, never_used);
    }
    actual.backends_[id] = entry;
    if (entry.valid) {
      actual.backend_pool_.claim(id);
      actual.put_stray(id, Stray());
    }
  }
  for (const auto& [key, entry] : maps.frontends) {
    actual.frontends_.emplace(key, entry);
    actual.frontends_at_[key.ip]++;
    actual.name_services(entry, 1);
    // A frontend that names no possible service is kept as an entry and matches nothing: it is
    // overwritten or deleted like any other.
    for (const ServiceIndex index : {entry.inside, entry.outside}) {
      if (index >= limits.services)
        continue;
      actual.state(index).used = true;
      actual.service_pool_.claim(index);
    }
  }
  actual.vips_ = maps.vips;
  actual.source_ranges_ = maps.source_ranges;
  actual.recover_rings(maps);
  return actual;
}

void Actual::recover_rings(const model::DataPlane& maps) {
  std::vector<BackendId> sorted;
  for (const auto& [index, ring] : maps.rings) {
    if (index >= limits_.services || ring.ref.empty())
      continue;
    ServiceState& service = state(index);
    service.used = true;
    service_pool_.claim(index);
    // Two rings in one place, or one outside the map, can only be the work of somebody else. The
    // blocks stay with the first; the second is built anew, since its digest is not known.
    service.ring = ring.ref;
    if (!block_pool_.claim(ring.ref.first_block, ring.ref.blocks())) {
      service.ring = RingRef{};
      service.ring_content = kUnknownContent;
      continue;
    }
    service.ring_content = ring_digest(ring.backends);
    sorted = ring.backends;
    std::sort(sorted.begin(), sorted.end());
    for (auto at = sorted.begin(); at != sorted.end();) {
      const auto end = std::upper_bound(at, sorted.end(), *at);
      if (take_stray(*at))
        own(service, *at, static_cast<std::uint32_t>(end - at));
      at = end;
    }
  }
}

// --- Following what was done
// ------------------------------------------------------------------------

void Actual::note(const Op& op, Stamp stamp) {
  std::visit([&](const auto& batch) { note(batch, stamp); }, op);
}

void Actual::note_item(const OpenServices::Item& item, Stamp) {
  SHOAL_ASSERT(service_pool_.claim(item.service));
  state(item.service) = ServiceState{};
  state(item.service).used = true;
}

void Actual::note_item(const SetBackends::Item& item, Stamp) {
  SHOAL_ASSERT(item.id != model::kNoBackend && item.id < limits_.backends && item.entry.valid);
  if (item.id >= backends_.size()) {
    BackendEntry never_used;
    never_used.valid = false;
    backends_.resize(item.id + 1, never_used);
  }
  const bool known = backends_[item.id].valid;
  if (known)
    SHOAL_ASSERT(key_of(backends_[item.id]) == key_of(item.entry));
  backends_[item.id] = item.entry;
  if (known)
    return;
  SHOAL_ASSERT(backend_pool_.claim(item.id));
  own(state(item.service), item.id, 0);
}

void Actual::note_item(const WriteRings::Item&, Stamp) {
  // Blocks that nothing refers to are nobody's: SwitchRings takes them.
}

void Actual::note_item(const SwitchRings::Item& item, Stamp stamp) {
  ServiceState& service = state(item.service);
  if (!service.ring.empty() && service.ring != item.to)
    old_blocks_.push_back({service.ring.first_block, service.ring.blocks(), stamp});
  if (!item.to.empty() && service.ring != item.to)
    SHOAL_ASSERT(block_pool_.claim(item.to.first_block, item.to.blocks()));
  service.ring = item.to;
  service.ring_inputs = item.inputs;
  service.ring_content = item.counts.empty() ? 0 : kUnknownContent;
  for (SlotCount& owned : service.backends)
    owned.slots = 0;
  // Both are in the order of the backends' keys.
  auto owned = service.backends.begin();
  for (const SlotCount& count : item.counts) {
    while (owned != service.backends.end() && owned->id != count.id)
      ++owned;
    SHOAL_ASSERT(owned != service.backends.end());
    owned->slots = count.slots;
  }
}

void Actual::note_item(const SetFrontends::Item& item, Stamp) {
  const auto [at, added] = frontends_.try_emplace(item.key, item.entry);
  if (!added) {
    name_services(at->second, -1);
    at->second = item.entry;
  } else {
    frontends_at_[item.key.ip]++;
  }
  name_services(item.entry, 1);
}

void Actual::note_item(const AddSourceRanges::Item& item, Stamp) {
  source_ranges_[item.service].insert(item.range);
}

void Actual::note_item(const RemoveSourceRanges::Item& item, Stamp) {
  const auto at = source_ranges_.find(item.service);
  if (at == source_ranges_.end())
    return;
  at->second.erase(item.range);
  if (at->second.empty())
    source_ranges_.erase(at);
}

void Actual::note_item(const SetVips::Item& item, Stamp) { vips_[item.ip] = item.entry; }

void Actual::note_item(const DeleteFrontends::Item& item, Stamp) {
  const auto at = frontends_.find(item.key);
  if (at == frontends_.end())
    return;
  name_services(at->second, -1);
  frontends_.erase(at);
  if (--frontends_at_.at(item.key.ip) == 0)
    frontends_at_.erase(item.key.ip);
}

void Actual::note_item(const DeleteVips::Item& item, Stamp) { vips_.erase(item.ip); }

void Actual::note_item(const RetireBackends::Item& item, Stamp stamp) {
  SHOAL_ASSERT(backend(item.id) != nullptr);
  if (item.service != model::kNoService)
    std::erase_if(state(item.service).backends,
                  [&](const SlotCount& owned) { return owned.id == item.id; });
  put_stray(item.id, Stray{stamp, false});
}

void Actual::note_item(const RetireServices::Item& item, Stamp stamp) {
  ServiceState& service = state(item.service);
  SHOAL_ASSERT(service.used && service.ring.empty() && service.backends.empty());
  service = ServiceState{};
  old_services_.push_back({item.service, 1, stamp});
}

void Actual::note_item(const FreeBackends::Item& item, Stamp stamp) {
  SHOAL_ASSERT(take_stray(item.id));
  BackendEntry entry;
  entry.epoch = item.epoch;
  entry.valid = false;
  backends_[item.id] = entry;
  old_backends_.push_back({item.id, 1, stamp});
}

void Actual::learn(const Learned& learned) {
  ServiceState& service = state(learned.service);
  if (learned.ring_inputs != 0)
    service.ring_inputs = learned.ring_inputs;
  for (const BackendId id : learned.adopted) {
    SHOAL_ASSERT(take_stray(id));
    own(service, id, 0);
  }
}

void Actual::learn_content(ServiceIndex index, std::uint64_t content) {
  state(index).ring_content = content;
}

void Actual::distrust_ring(ServiceIndex index) {
  ServiceState& service = state(index);
  service.ring_inputs = 0;
  service.ring_content = kUnknownContent;
}

// --- Grace
// ------------------------------------------------------------------------------------------

bool Actual::release(Stamp up_to) {
  bool any = false;
  const auto give_back = [&](std::vector<Quarantined>& queue, IndexPool& pool) {
    std::erase_if(queue, [&](const Quarantined& old) {
      if (old.stamp > up_to)
        return false;
      pool.give_back(old.first, old.count);
      any = true;
      return true;
    });
  };
  give_back(old_blocks_, block_pool_);
  give_back(old_services_, service_pool_);
  give_back(old_backends_, backend_pool_);
  for (auto& [id, stray] : strays_) {
    if (!stray.released && stray.retired && *stray.retired <= up_to) {
      stray.released = true;
      any = true;
    }
  }
  return any;
}

bool Actual::waiting() const {
  if (!old_blocks_.empty() || !old_services_.empty() || !old_backends_.empty())
    return true;
  return std::any_of(strays_.begin(), strays_.end(),
                     [](const auto& entry) { return entry.second.retired.has_value(); });
}

}  // namespace shoal::plan
