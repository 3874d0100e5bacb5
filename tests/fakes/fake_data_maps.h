// SPDX-License-Identifier: Apache-2.0
// DataMaps on std::map, with faults by operation number: fail_at(3) makes the third write from now
// fail with nothing (or, for a batch, a prefix) written. Like the real ones it keeps ring blocks
// apart from ring references, so that a plan which switches a ring before its blocks are written is
// seen to do so.
#pragma once

#include "netplane/kernel/bpf/data_maps.h"
#include "netplane/kernel/bpf/data_maps_check.h"

#include <algorithm>
#include <array>
#include <functional>
#include <numeric>
#include <optional>

namespace shoal {

class FakeDataMaps final : public kernel::DataMaps {
public:
  explicit FakeDataMaps(const kernel::MapSizes& sizes = {}) : sizes_(sizes) {}

  // ---- for tests -----------------------------------------------------------------------------
  // The n-th write from now (1 is the next) fails; then all is well again.
  void fail_at(unsigned n, Errc code = Errc::kIo) {
    fail_in_ = n;
    fail_code_ = code;
  }
  // Of a failing batch, how many entries are written before it fails.
  void fail_after_entries(std::size_t n) { batch_prefix_ = n; }
  unsigned writes() const { return writes_; }
  // Called after every write, also a failed one: the place to assert kernel::violations() of every
  // prefix.
  std::function<void(const FakeDataMaps&)> after_write;
  std::map<model::ServiceIndex, kernel::ServiceStats> service_counters;
  std::map<model::BackendId, kernel::BackendStats> backend_counters;
  std::map<std::string_view, std::uint64_t> drop_counters;
  std::vector<kernel::Flow> flow_table;
  std::map<std::pair<model::ServiceIndex, IpAddress>, kernel::Affinity> affinity_table;

  // ---- DataMaps ------------------------------------------------------------------------------
  const kernel::MapSizes& sizes() const override { return sizes_; }

  Result<> put_backends(std::span<const kernel::BackendWrite> writes) override {
    for (const auto& write : writes)
      SHOAL_TRY(kernel::check_backend(sizes_, write));
    return batch("put_backends", writes, [this](const kernel::BackendWrite& w) {
      state_.backends[w.id] =
          w.entry.valid ? w.entry : model::BackendEntry{.epoch = w.entry.epoch, .valid = false};
      if (w.entry.valid && w.entry.local)
        state_.backends[w.id].node = IpAddress();
      if (w.entry.epoch == 0)
        state_.backends.erase(w.id);
    });
  }

  Result<> put_ring_blocks(std::uint32_t first_block,
                           std::span<const model::BackendId> slots) override {
    SHOAL_TRY(kernel::check_ring_blocks(sizes_, first_block, slots));
    std::vector<std::uint32_t> numbers(slots.size() / model::kRingBlockSlots);
    std::iota(numbers.begin(), numbers.end(), 0U);
    return batch("put_ring_blocks", std::span<const std::uint32_t>(numbers), [&](std::uint32_t n) {
      const auto block = slots.subspan(std::size_t{n} * model::kRingBlockSlots);
      std::copy_n(block.begin(), model::kRingBlockSlots, blocks_[first_block + n].begin());
    });
  }

  Result<std::vector<model::BackendId>> ring_blocks(std::uint32_t first_block,
                                                    std::uint32_t count) const override {
    std::vector<model::BackendId> slots;
    for (std::uint32_t i = first_block; i < first_block + count; i++) {
      const auto block = blocks_.find(i);
      if (block != blocks_.end())
        slots.insert(slots.end(), block->second.begin(), block->second.end());
      slots.resize(std::size_t{i - first_block + 1} * model::kRingBlockSlots);
    }
    return slots;
  }

  Result<> switch_ring(model::ServiceIndex service, model::RingRef ref) override {
    SHOAL_TRY(kernel::check_ring(sizes_, service, ref));
    return one("switch_ring", [&] {
      if (ref.empty())
        refs_.erase(service);
      else
        refs_[service] = ref;
    });
  }

  Result<model::RingRef> ring_ref(model::ServiceIndex service) const override {
    SHOAL_TRY(kernel::check_service(sizes_, service));
    auto it = refs_.find(service);
    return it == refs_.end() ? model::RingRef{} : it->second;
  }

  Result<> put_frontends(std::span<const kernel::FrontendWrite> writes) override {
    for (const auto& write : writes)
      SHOAL_TRY(kernel::check_frontend(sizes_, write));
    std::size_t fresh = 0;
    for (const auto& write : writes)
      fresh += state_.frontends.contains(write.key) ? 0 : 1;
    if (state_.frontends.size() + fresh > sizes_.frontends)
      return fail(kernel::map_full("shoal_frontends", "frontends", sizes_.frontends));
    return batch("put_frontends", writes,
                 [this](const kernel::FrontendWrite& w) { state_.frontends[w.key] = w.entry; });
  }

  Result<> delete_frontends(std::span<const model::FrontendKey> keys) override {
    return batch("delete_frontends", keys,
                 [this](const model::FrontendKey& key) { state_.frontends.erase(key); });
  }

  Result<> put_source_range(model::ServiceIndex service, const IpPrefix& range) override {
    SHOAL_TRY(kernel::check_service(sizes_, service));
    return one("put_source_range", [&] { state_.source_ranges[service].insert(range); });
  }
  Result<> delete_source_range(model::ServiceIndex service, const IpPrefix& range) override {
    return one("delete_source_range", [&] {
      state_.source_ranges[service].erase(range);
      if (state_.source_ranges[service].empty())
        state_.source_ranges.erase(service);
    });
  }

  Result<> put_vips(std::span<const kernel::VipWrite> writes) override {
    return batch("put_vips", writes,
                 [this](const kernel::VipWrite& w) { state_.vips[w.ip] = w.entry; });
  }
  Result<> delete_vip(const IpAddress& ip) override {
    return one("delete_vip", [&] { state_.vips.erase(ip); });
  }
  Result<> put_pod(const IpAddress& ip, const model::PodEntry& entry) override {
    return one("put_pod", [&] { state_.pods[ip] = entry; });
  }
  Result<> delete_pod(const IpAddress& ip) override {
    return one("delete_pod", [&] { state_.pods.erase(ip); });
  }
  Result<> put_node(const IpPrefix& cidr, const model::NodeEntry& entry) override {
    SHOAL_TRY(kernel::check_node(cidr, entry));
    return one("put_node", [&] { state_.nodes[cidr] = entry; });
  }
  Result<> delete_node(const IpPrefix& cidr) override {
    return one("delete_node", [&] { state_.nodes.erase(cidr); });
  }

  Result<> put_host(const model::HostEntry& entry) override {
    return one("put_host", [&] { state_.host = entry; });
  }

  Result<model::DataPlane> read() const override {
    model::DataPlane out = state_;
    for (const auto& [service, ref] : refs_)
      out.rings[service] =
          model::ring_of(ref, SHOAL_TRY(ring_blocks(ref.first_block, ref.blocks())));
    return out;
  }

  Result<std::vector<kernel::ServiceStats>>
  service_stats(std::span<const model::ServiceIndex> services) const override {
    return counters<kernel::ServiceStats>(service_counters, services);
  }
  Result<std::vector<kernel::BackendStats>>
  backend_stats(std::span<const model::BackendId> backends) const override {
    return counters<kernel::BackendStats>(backend_counters, backends);
  }
  Result<> clear_service_stats(std::span<const model::ServiceIndex> services) override {
    return batch("clear_service_stats", services,
                 [this](model::ServiceIndex service) { service_counters.erase(service); });
  }
  Result<> clear_backend_stats(model::BackendId backend) override {
    return one("clear_backend_stats", [&] { backend_counters.erase(backend); });
  }
  Result<std::vector<kernel::DropCount>> drops() const override {
    std::vector<kernel::DropCount> out;
    for (const auto& [name, packets] : drop_counters)
      out.push_back({name, "", packets});
    return out;
  }
  // One entry a step, as tally() below.
  Result<bool> next_flows(kernel::TableWalk& walk,
                          const std::function<void(const kernel::Flow&)>& visit) const override {
    if (walk.at.size() < flow_table.size()) {
      visit(flow_table[walk.at.size()]);
      walk.at.push_back(0);
    }
    if (walk.at.size() < flow_table.size())
      return true;
    walk.at.clear();
    return false;
  }
  Result<std::optional<kernel::Flow>> find_flow(const kernel::FlowTuple& packet) const override {
    for (const kernel::Flow& flow : flow_table)
      if (!flow.reverse && kernel::FlowTuple{flow.proto, flow.source, flow.destination} == packet)
        return std::optional(flow);
    return std::optional<kernel::Flow>();
  }
  Result<std::optional<kernel::Affinity>> find_affinity(model::ServiceIndex service,
                                                        const IpAddress& client) const override {
    const auto found = affinity_table.find({service, client});
    return found == affinity_table.end() ? std::nullopt : std::optional(found->second);
  }
  // One entry a step, so that a walk of several steps is seen.
  Result<bool> tally(kernel::LruTable table, kernel::TableWalk& walk,
                     kernel::Tally& tally) const override {
    const auto step = [&](auto at, std::size_t size, auto&& idle_s, auto&& closing) {
      if (walk.at.size() < size) {
        std::advance(at, static_cast<std::ptrdiff_t>(walk.at.size()));
        tally.entries++;
        tally.closing += closing(*at) ? 1 : 0;
        tally.active += !closing(*at) && idle_s(*at) <= kernel::kUdpIdle_s ? 1 : 0;
        walk.at.push_back(0);
      }
      if (walk.at.size() < size)
        return true;
      walk.at.clear();
      return false;
    };
    if (table == kernel::LruTable::kFlows)
      return step(
          flow_table.begin(), flow_table.size(), [](const auto& flow) { return flow.idle_s; },
          [](const auto& flow) { return flow.closing; });
    return step(
        affinity_table.begin(), affinity_table.size(),
        [](const auto& client) { return client.second.idle_s; }, [](const auto&) { return false; });
  }

private:
  bool fails() {
    ++writes_;
    return fail_in_ != 0 && --fail_in_ == 0;
  }

  template <class F>
  Result<> one(std::string_view what, F&& write) {
    return batch(what, std::span<const int>(&kOneEntry, 1), [&](int) { write(); });
  }

  template <class T, class F>
  Result<> batch(std::string_view what, std::span<const T> entries, F&& write) {
    const bool failing = fails();
    std::size_t n = failing ? std::min(batch_prefix_, entries.size()) : entries.size();
    for (const T& entry : entries.first(n))
      write(entry);
    if (after_write)
      after_write(*this);
    if (failing)
      return fail(fail_code_, fmt::format("{}: injected fault at write {}", what, writes_));
    return {};
  }

  template <class V, class M, class K>
  Result<std::vector<V>> counters(const M& from, std::span<const K> keys) const {
    std::vector<V> out;
    for (const K& key : keys) {
      auto it = from.find(key);
      out.push_back(it == from.end() ? V{} : it->second);
    }
    return out;
  }

  static constexpr int kOneEntry = 0;
  kernel::MapSizes sizes_;
  model::DataPlane state_;  // rings stay empty here
  std::map<std::uint32_t, std::array<model::BackendId, model::kRingBlockSlots>> blocks_;
  std::map<model::ServiceIndex, model::RingRef> refs_;
  unsigned writes_ = 0;
  unsigned fail_in_ = 0;
  std::size_t batch_prefix_ = 0;
  Errc fail_code_ = Errc::kIo;
};

}  // namespace shoal
