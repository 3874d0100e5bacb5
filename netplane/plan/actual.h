// SPDX-License-Identifier: Apache-2.0
// Actual: what the service maps hold, as the planner needs it, with the allocators of service
// indexes, backend ids and ring blocks.
//
// It is made from a dump of the maps (recover) and then follows each operation that was carried out
// (note). There is nothing in it that a restarted agent could not find in the maps again, but for
// quarantines: who starts from a dump has been away for longer than any grace.
//
// Grace. What running BPF programs may still read is not given to somebody else at once. Retired
// backends, freed ids, replaced ring blocks and retired service indexes are stamped by note(); the
// applier, which has the clock, calls release(stamp) when a grace has passed since that stamp.
#pragma once

#include "netplane/plan/index_pool.h"
#include "netplane/plan/ops.h"

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

namespace shoal::plan {

// Entries of the maps.
struct Limits {
  std::uint32_t services = 65'536;
  std::uint32_t frontends = 131'072;
  std::uint32_t vips = 65'536;
  std::uint32_t backends = 131'072;
  std::uint32_t ring_blocks = 262'144;
  bool operator==(const Limits&) const = default;
};

// Counts the applier's rounds: a later note has a larger or equal stamp.
using Stamp = std::uint64_t;

// One backend within its service.
struct BackendKey {
  IpAddress ip;
  std::uint16_t port = 0;
  std::uint16_t generation = 0;
  auto operator<=>(const BackendKey&) const = default;
};
inline BackendKey key_of(const BackendEntry& entry) {
  return {entry.ip, entry.port, entry.generation};
}

struct FrontendKeyHash {
  std::size_t operator()(const FrontendKey& key) const;
  std::size_t operator()(const IpAddress& ip) const;
};

// What a ring is said to hold when it must be written again whatever is wanted.
inline constexpr std::uint64_t kUnknownContent = 1;

struct ServiceState {
  bool used = false;
  std::uint32_t frontends = 0;  // how many name it; one for both sides counts twice
  RingRef ring;
  std::uint64_t ring_inputs = 0;    // 0: not known, the ring must be built to be compared
  std::uint64_t ring_content = 0;   // ring_digest; kUnknownContent when it cannot be trusted
  std::vector<SlotCount> backends;  // that it owns, by BackendKey; slots in its ring
  bool operator==(const ServiceState&) const = default;
};

// A valid backend entry that no service owns.
struct Stray {
  std::optional<Stamp> retired;  // nothing: found at start, not retired yet
  bool released = false;         // its grace has passed: may be freed
  bool operator==(const Stray&) const = default;
};

class Actual {
public:
  explicit Actual(const Limits& limits = {});
  static Actual recover(const model::DataPlane& maps, const Limits& limits);

  // Follow what was done; `op` may hold a part of a planned operation's items.
  void note(const Op& op, Stamp stamp);
  template <class Batch>
    requires requires(const Batch& batch) { batch.items; }
  void note(const Batch& batch, Stamp stamp) {
    for (const auto& item : batch.items)
      note_item(item, stamp);
  }
  void learn(const Learned& learned);
  // Of the service's ring, which was switched to: a digest of its slots. Until it is known, the
  // ring is taken to hold what is wanted of it, and cannot be audited.
  void learn_content(ServiceIndex service, std::uint64_t digest);
  // Everything stamped `up_to` or earlier has had its grace. True when something became free.
  bool release(Stamp up_to);
  // True while something waits for a grace, or may be freed by the next plan.
  bool waiting() const;
  // Forget that the ring of a service is known to be right: the next plan writes it again.
  void distrust_ring(ServiceIndex service);

  const Limits& limits() const { return limits_; }
  const std::unordered_map<FrontendKey, FrontendEntry, FrontendKeyHash>& frontends() const {
    return frontends_;
  }
  std::uint32_t frontends_at(const IpAddress& ip) const;  // how many there are
  const std::map<IpAddress, VipEntry>& vips() const { return vips_; }
  const std::map<ServiceIndex, std::set<IpPrefix>>& source_ranges() const { return source_ranges_; }
  const std::vector<ServiceState>& services() const {
    return services_;
  }  // by index, may be shorter
  const ServiceState* service(ServiceIndex index) const;  // null: not used
  const BackendEntry* backend(BackendId id) const;        // null: not valid
  // The epoch that the next owner of a free id must have.
  std::uint32_t next_epoch(BackendId id) const;
  const std::map<BackendId, Stray>& strays() const { return strays_; }
  // Their ids: several services may have had entries of their own for one backend.
  const std::multimap<BackendKey, BackendId>& strays_by_key() const { return strays_by_key_; }
  const IndexPool& service_pool() const { return service_pool_; }
  const IndexPool& backend_pool() const { return backend_pool_; }
  const IndexPool& block_pool() const { return block_pool_; }

private:
  struct Quarantined {
    std::uint32_t first = 0;
    std::uint32_t count = 0;
    Stamp stamp = 0;
  };
  void note_item(const OpenServices::Item& item, Stamp stamp);
  void note_item(const SetBackends::Item& item, Stamp stamp);
  void note_item(const WriteRings::Item& item, Stamp stamp);
  void note_item(const SwitchRings::Item& item, Stamp stamp);
  void note_item(const AddSourceRanges::Item& item, Stamp stamp);
  void note_item(const SetFrontends::Item& item, Stamp stamp);
  void note_item(const SetVips::Item& item, Stamp stamp);
  void note_item(const DeleteFrontends::Item& item, Stamp stamp);
  void note_item(const DeleteVips::Item& item, Stamp stamp);
  void note_item(const RemoveSourceRanges::Item& item, Stamp stamp);
  void note_item(const RetireBackends::Item& item, Stamp stamp);
  void note_item(const RetireServices::Item& item, Stamp stamp);
  void note_item(const FreeBackends::Item& item, Stamp stamp);
  ServiceState& state(ServiceIndex index);
  void name_services(const FrontendEntry& entry, int by);
  void own(ServiceState& service, BackendId id, std::uint32_t slots);
  void recover_rings(const model::DataPlane& maps);
  void put_stray(BackendId id, const Stray& stray);
  bool take_stray(BackendId id);  // false: it is none

  Limits limits_;
  std::unordered_map<FrontendKey, FrontendEntry, FrontendKeyHash> frontends_;
  std::unordered_map<IpAddress, std::uint32_t, FrontendKeyHash> frontends_at_;
  std::map<IpAddress, VipEntry> vips_;
  std::map<ServiceIndex, std::set<IpPrefix>> source_ranges_;
  std::vector<ServiceState> services_;
  std::vector<BackendEntry> backends_;  // by id; valid == false and epoch kept when free
  std::map<BackendId, Stray> strays_;
  std::multimap<BackendKey, BackendId> strays_by_key_;
  IndexPool service_pool_;
  IndexPool backend_pool_;
  IndexPool block_pool_;
  std::vector<Quarantined> old_blocks_;
  std::vector<Quarantined> old_services_;
  std::vector<Quarantined> old_backends_;  // freed, not to be given yet
};

// Digest of a ring's slots, without marks. 0 when none has an owner: it refuses.
std::uint64_t ring_digest(std::span<const BackendId> slots);

}  // namespace shoal::plan
