// SPDX-License-Identifier: Apache-2.0
#include "netplane/apply/plan_runner.h"

#include "netplane/plan/ring_history.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <span>
#include <type_traits>

namespace shoal::apply {
namespace {

// The services that an item belongs to, kNoService for none: addresses and strays have none, a
// frontend may have two.
template <class Item>
std::array<plan::ServiceIndex, 2> services_of(const Item& item) {
  if constexpr (requires { item.service; }) {
    return {item.service, model::kNoService};
  } else if constexpr (requires { item.entry.inside; }) {
    return {item.entry.inside, item.entry.outside};
  } else {
    return {model::kNoService, model::kNoService};
  }
}

template <class Item>
std::string object_of(const Item& item) {
  if constexpr (requires { item.ip; })
    return "address " + item.ip.to_string();
  else if constexpr (requires { item.id; })
    return fmt::format("backend {}", item.id);
  else
    return "service maps";
}

std::string_view doing(const plan::OpenServices&) { return "clear the counters"; }
std::string_view doing(const plan::SetBackends&) { return "write the backends"; }
std::string_view doing(const plan::WriteRings&) { return "write the ring"; }
std::string_view doing(const plan::SwitchRings&) { return "switch the ring"; }
std::string_view doing(const plan::AddSourceRanges&) { return "write the source ranges"; }
std::string_view doing(const plan::SetFrontends&) { return "write the frontends"; }
std::string_view doing(const plan::SetVips&) { return "write the address"; }
std::string_view doing(const plan::DeleteFrontends&) { return "delete the frontends"; }
std::string_view doing(const plan::DeleteVips&) { return "delete the address"; }
std::string_view doing(const plan::RemoveSourceRanges&) { return "delete source ranges"; }
std::string_view doing(const plan::RetireBackends&) { return "retire the backends"; }
std::string_view doing(const plan::RetireServices&) { return "retire the index"; }
std::string_view doing(const plan::FreeBackends&) { return "free the backend"; }

}  // namespace

// --- One batch
// --------------------------------------------------------------------------------------

Result<> PlanRunner::write(const plan::OpenServices& batch) {
  std::vector<plan::ServiceIndex> services;
  services.reserve(batch.items.size());
  for (const auto& item : batch.items)
    services.push_back(item.service);
  return maps_.clear_service_stats(services);
}

Result<> PlanRunner::write(const plan::SetBackends& batch) {
  std::vector<kernel::BackendWrite> writes;
  writes.reserve(batch.items.size());
  for (const auto& item : batch.items) {
    if (item.recycled)
      SHOAL_TRY(maps_.clear_backend_stats(item.id));
    writes.push_back({item.id, item.entry});
  }
  return maps_.put_backends(writes);
}

// Rings that lie one behind the other are built in one buffer and written at once.
Result<> PlanRunner::write(const plan::WriteRings& batch) {
  std::uint32_t first_block = 0;
  std::uint32_t next_block = 0;
  ring_slots_.clear();
  const auto flush = [&]() -> Result<> {
    if (!ring_slots_.empty())
      SHOAL_TRY(maps_.put_ring_blocks(first_block, ring_slots_));
    ring_slots_.clear();
    return {};
  };
  for (const auto& item : batch.items) {
    const std::size_t slots = std::size_t{item.to.blocks()} * model::kRingBlockSlots;
    if (item.to.first_block != next_block || ring_slots_.size() + slots > kSlotsPerWrite)
      SHOAL_TRY(flush());
    if (ring_slots_.empty())
      first_block = item.to.first_block;
    next_block = item.to.first_block + item.to.blocks();
    const std::size_t at = ring_slots_.size();
    ring_slots_.resize(at + slots);
    SHOAL_TRY(build(item, std::span(ring_slots_).subspan(at)));
  }
  return flush();
}

Result<> PlanRunner::build(const plan::WriteRings::Item& item, std::span<model::BackendId> blocks) {
  const auto ring = blocks.first(item.to.slots);
  std::ranges::fill(ring, model::kNoBackend);
  if (!item.members.empty())
    ring_builder_.build(item.members, ring);
  ring_contents_[item.service] = plan::ring_digest(ring);
  if (!item.to.history) {
    if (!item.before.empty())
      plan::mark_all_moved(ring);
    return {};
  }
  const std::vector<model::BackendId> held = SHOAL_TRY_WRAP(
      maps_.ring_blocks(item.before.first_block, item.before.blocks()), "the ring before");
  const std::span all(held);
  plan::carry_history(
      {.slots = all.first(item.before.slots), .former = all.subspan(item.before.slots)},
      [this](model::BackendId id) { return actual_.backend(id) != nullptr; }, ring,
      blocks.subspan(item.to.slots));
  return {};
}

Result<> PlanRunner::write(const plan::SwitchRings& batch) {
  for (const auto& item : batch.items)
    SHOAL_TRY(maps_.switch_ring(item.service, item.to));
  return {};
}

Result<> PlanRunner::write(const plan::AddSourceRanges& batch) {
  for (const auto& item : batch.items)
    SHOAL_TRY(maps_.put_source_range(item.service, item.range));
  return {};
}

Result<> PlanRunner::write(const plan::RemoveSourceRanges& batch) {
  for (const auto& item : batch.items)
    SHOAL_TRY(maps_.delete_source_range(item.service, item.range));
  return {};
}

Result<> PlanRunner::write(const plan::SetFrontends& batch) {
  std::vector<kernel::FrontendWrite> writes;
  writes.reserve(batch.items.size());
  for (const auto& item : batch.items)
    writes.push_back({item.key, item.entry});
  return maps_.put_frontends(writes);
}

Result<> PlanRunner::write(const plan::SetVips& batch) {
  std::vector<kernel::VipWrite> writes;
  writes.reserve(batch.items.size());
  for (const auto& item : batch.items)
    writes.push_back({item.ip, item.entry});
  return maps_.put_vips(writes);
}

Result<> PlanRunner::write(const plan::DeleteFrontends& batch) {
  std::vector<model::FrontendKey> keys;
  keys.reserve(batch.items.size());
  for (const auto& item : batch.items)
    keys.push_back(item.key);
  return maps_.delete_frontends(keys);
}

Result<> PlanRunner::write(const plan::DeleteVips& batch) {
  for (const auto& item : batch.items)
    SHOAL_TRY(maps_.delete_vip(item.ip));
  return {};
}

Result<> PlanRunner::write(const plan::RetireBackends&) { return {}; }

// An index that some frontend still names, because its next service could not take it over, must
// not be given to anybody.
Result<> PlanRunner::write(const plan::RetireServices& batch) {
  for (const auto& item : batch.items) {
    const plan::ServiceState* service = actual_.service(item.service);
    if (service != nullptr && service->frontends > 0)
      return fail(Errc::kConflict, fmt::format("{} frontends still name index {}",
                                               service->frontends, item.service));
  }
  return {};
}

Result<> PlanRunner::write(const plan::FreeBackends& batch) {
  std::vector<kernel::BackendWrite> writes;
  writes.reserve(batch.items.size());
  for (const auto& item : batch.items) {
    kernel::BackendWrite& write = writes.emplace_back();
    write.id = item.id;
    write.entry.epoch = item.epoch;
    write.entry.valid = false;
  }
  return maps_.put_backends(writes);
}

// --- Failing item by item
// ---------------------------------------------------------------------------

template <class Item>
bool PlanRunner::skipped(const Item& item) const {
  const auto services = services_of(item);
  return std::any_of(services.begin(), services.end(),
                     [this](plan::ServiceIndex service) { return failed_.contains(service); });
}

template <class Item>
void PlanRunner::failed(const Item& item, Error error) {
  bool anybodys = false;
  for (const plan::ServiceIndex service : services_of(item)) {
    if (service == model::kNoService)
      continue;
    anybodys = true;
    if (!failed_.insert(service).second)
      continue;
    const auto name = names_.find(service);
    errors_.push_back({name == names_.end() ? fmt::format("service index {}", service)
                                            : "service " + name->second,
                       error});
  }
  if (!anybodys)
    errors_.push_back({object_of(item), std::move(error)});
}

template <class Batch>
void PlanRunner::note(const Batch& batch) {
  actual_.note(batch, stamp_);
  operations_ += batch.items.size();
  if constexpr (std::is_same_v<Batch, plan::SwitchRings>)
    for (const auto& item : batch.items)
      if (const auto written = ring_contents_.find(item.service);
          !item.counts.empty() && written != ring_contents_.end())
        actual_.learn_content(item.service, written->second);
}

template <class Batch>
void PlanRunner::run_batch(const Batch& batch) {
  // Nothing has failed yet, most of the time: no copy then.
  Batch rest;
  const Batch* todo = &batch;
  if (!failed_.empty()) {
    for (const auto& item : batch.items)
      if (!skipped(item))
        rest.items.push_back(item);
    todo = &rest;
  }
  if (todo->items.empty())
    return;
  if (write(*todo)) {
    note(*todo);
    return;
  }
  for (const auto& item : todo->items) {
    if (skipped(item))
      continue;
    const Batch one{{item}};
    if (Result<> done = write(one); !done) {
      failed(item, std::move(done).error().wrap(doing(one)));
      continue;
    }
    note(one);
  }
}

void PlanRunner::run(const plan::Plan& plan) {
  for (const plan::Learned& learned : plan.learned) {
    names_.emplace(learned.service, learned.name);
    actual_.learn(learned);
  }
  for (const plan::Op& op : plan.ops)
    std::visit([this](const auto& batch) { run_batch(batch); }, op);
}

}  // namespace shoal::apply
