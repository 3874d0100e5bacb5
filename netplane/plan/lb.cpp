// SPDX-License-Identifier: Apache-2.0
#include "netplane/plan/lb.h"

#include "netplane/base/result.h"
#include "netplane/plan/batches.h"
#include "netplane/plan/changes.h"
#include "netplane/plan/service_shape.h"

#include <algorithm>
#include <fmt/format.h>
#include <iterator>
#include <set>
#include <unordered_map>
#include <utility>

namespace shoal::plan {
namespace {

// A frontend that is the service's own and for good says more about who it is than others do.
constexpr std::uint32_t kClusterIpVote = 1000;
// The part of all ring blocks that histories leave free: one in so many.
constexpr std::uint32_t kBlocksReserve = 4;

// A frontend that a service gets, for one side or for both.
struct OwnFrontend {
  FrontendKey key;
  bool inside = false;
  bool outside = false;
  bool cluster_ip = false;
};

struct DesiredService {
  std::string name;
  const model::ServicePort* service = nullptr;
  std::vector<OwnFrontend> frontends;  // by key
  std::optional<ServiceIndex> index;
  const ServiceState* actual = nullptr;  // null: new
};

// Which services a frontend leads to, as places in the planner's list; kNobody: none.
struct FrontendOwners {
  static constexpr std::uint32_t kNobody = UINT32_MAX;
  std::uint32_t inside = kNobody;
  std::uint32_t outside = kNobody;
  bool restricted = false;  // outside clients are held against the outside service's ranges
};

class Planner {
public:
  Planner(const model::Desired& desired, const Actual& actual, const Options& options)
      : desired_(desired), actual_(actual), options_(options), nodes_(desired),
        service_pool_(actual.service_pool()), backend_pool_(actual.backend_pool()),
        block_pool_(actual.block_pool()), matched_(actual.services().size(), false) {}

  Plan run();
  Plan run(std::span<const ChangedService> changed);

private:
  void gather();
  void gather_frontends(DesiredService& wanted);
  bool claim(std::uint32_t& owner, const DesiredService& wanted, const FrontendKey& key);
  void match(DesiredService& wanted);
  std::uint32_t common_backends(const model::ServicePort& service, const ServiceState& state) const;
  void open_new();
  void plan_service(DesiredService& wanted);
  void choose_ids(DesiredService& wanted, Learned& learned);
  bool choose_new_id(const DesiredService& wanted, WantedBackend& backend);
  void set_backend(const DesiredService& wanted, const WantedBackend& backend);
  // True when the ring will name only backends that are wanted.
  bool plan_ring(const DesiredService& wanted, Learned& learned);
  bool write_ring(const DesiredService& wanted, SwitchRings::Item&& item, std::uint64_t slots,
                  Learned& learned);
  void empty_ring(const DesiredService& wanted);
  bool take_blocks(RingRef& ring, const ServiceState* before);
  bool loses_unnamed(const DesiredService& wanted) const;
  void retire_unwanted(const DesiredService& wanted, bool ring_is_new);
  void retire(ServiceIndex service, BackendId id);
  void plan_source_ranges();
  void plan_frontends();
  std::optional<FrontendEntry> frontend_entry(const FrontendOwners& owners) const;
  void lose(const FrontendEntry& before, const FrontendEntry& after);
  std::map<IpAddress, VipEntry> service_vips() const;
  void plan_vips();
  void plan_vips(std::span<const ChangedService> changed);
  void set_vips(const std::map<IpAddress, VipEntry>& vips);
  void delete_frontends();
  void delete_frontend(const FrontendKey& key, const FrontendEntry& entry);
  void sort_deleted_frontends();
  void plan_removed();
  void remove_service(ServiceIndex index, const ServiceState& service);
  void plan_strays();
  void assemble();
  const BackendId* stray_of(const BackendKey& key);
  void issue(const std::string& service, Errc code, std::string message) {
    plan_.issues.push_back({"service " + service, Error(code, std::move(message))});
  }

  const model::Desired& desired_;
  const Actual& actual_;
  const Options& options_;
  NodeIndex nodes_;
  IndexPool service_pool_;
  IndexPool backend_pool_;
  IndexPool block_pool_;
  std::vector<bool> matched_;  // by service index
  std::vector<DesiredService> services_;
  std::unordered_map<FrontendKey, FrontendOwners, FrontendKeyHash> owners_of_;
  std::set<BackendId> adopted_;
  std::unordered_map<ServiceIndex, std::uint32_t> lost_frontends_;  // overwritten or deleted

  // Scratch, kept between services.
  RingBuilder builder_;
  std::vector<WantedBackend> backends_;
  std::vector<RingMember> members_;
  std::vector<BackendId> slots_;

  Plan plan_;
  OpenServices open_;
  SetBackends set_backends_;
  WriteRings write_rings_;
  SwitchRings switch_rings_;
  AddSourceRanges add_ranges_;
  SetFrontends set_frontends_;
  SetVips set_vips_;
  DeleteFrontends delete_frontends_;
  DeleteVips delete_vips_;
  SwitchRings empty_rings_;
  RemoveSourceRanges remove_ranges_;
  SetBackends drain_backends_;
  RetireBackends retire_backends_;
  RetireServices retire_services_;
  FreeBackends free_backends_;
};

// --- Which services there are, and which index each has
// ---------------------------------------------

void Planner::gather() {
  services_.reserve(desired_.services.size());
  for (const model::ServicePort& service : desired_.services)
    services_.push_back({service.id(), &service, {}, {}, nullptr});
  std::sort(services_.begin(), services_.end(), [](const auto& a, const auto& b) {
    return a.name != b.name ? a.name < b.name : *a.service < *b.service;
  });
  for (std::size_t i = services_.size(); i-- > 1;) {
    if (services_[i].name != services_[i - 1].name)
      continue;
    issue(services_[i].name, Errc::kConflict, "is given twice; the first is served");
    services_.erase(services_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  owners_of_.reserve(services_.size() * 2);
  for (DesiredService& wanted : services_)
    gather_frontends(wanted);
}

// Takes one side of a frontend for `wanted`, unless another service has it.
bool Planner::claim(std::uint32_t& owner, const DesiredService& wanted, const FrontendKey& key) {
  const auto self = static_cast<std::uint32_t>(&wanted - services_.data());
  if (owner == FrontendOwners::kNobody)
    owner = self;
  if (owner == self)
    return true;
  issue(wanted.name, Errc::kConflict,
        fmt::format("frontend {}/{} belongs to service {} already",
                    SocketAddress{key.ip, key.port}.to_string(), to_string(key.proto),
                    services_[owner].name));
  return false;
}

void Planner::gather_frontends(DesiredService& wanted) {
  const model::Clients clients = wanted.service->clients;
  for (const model::Frontend& frontend : wanted.service->frontends) {
    if (frontend.ip.family() != wanted.service->family) {
      issue(wanted.name, Errc::kInvalid,
            fmt::format("frontend {} is not {}", frontend.ip.to_string(),
                        to_string(wanted.service->family)));
      continue;
    }
    const FrontendKey key{frontend.ip, frontend.port, frontend.proto};
    FrontendOwners& owners = owners_of_[key];
    OwnFrontend own{key, false, false, frontend.kind == model::FrontendKind::kClusterIp};
    own.inside = model::for_inside(clients) && claim(owners.inside, wanted, key);
    own.outside = model::for_outside(clients, frontend.kind) &&
                  (own.inside || !model::for_inside(clients)) && claim(owners.outside, wanted, key);
    // As Kubernetes has it: node ports and external IPs are not behind the ranges.
    owners.restricted |= own.outside && frontend.kind == model::FrontendKind::kLoadBalancer &&
                         !wanted.service->source_ranges.empty();
    if (own.inside || own.outside)
      wanted.frontends.push_back(own);
  }
  // One address may be a frontend of several kinds: it is for whom any of them is for.
  auto& all = wanted.frontends;
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.key < b.key; });
  std::size_t kept = 0;
  for (const OwnFrontend& own : all) {
    if (kept > 0 && all[kept - 1].key == own.key) {
      all[kept - 1].inside |= own.inside;
      all[kept - 1].outside |= own.outside;
      all[kept - 1].cluster_ip |= own.cluster_ip;
    } else {
      all[kept++] = own;
    }
  }
  all.resize(kept);
}

// The index that most of its frontends name in the maps, if no other service has it.
void Planner::match(DesiredService& wanted) {
  std::map<ServiceIndex, std::uint32_t> votes;
  const auto vote = [&](ServiceIndex index, const OwnFrontend& own) {
    if (actual_.service(index) != nullptr && !matched_[index])
      votes[index] += own.cluster_ip ? kClusterIpVote : 1;
  };
  for (const OwnFrontend& own : wanted.frontends) {
    const auto at = actual_.frontends().find(own.key);
    if (at == actual_.frontends().end())
      continue;
    if (own.inside)
      vote(at->second.inside, own);
    if (own.outside)
      vote(at->second.outside, own);
  }
  if (votes.size() > 1)  // frontends changed hands: it is where its backends are
    for (auto& [index, count] : votes)
      count += common_backends(*wanted.service, *actual_.service(index));
  std::uint32_t most = 0;
  for (const auto& [index, count] : votes) {
    if (count > most) {
      most = count;
      wanted.index = index;
    }
  }
  if (!wanted.index)
    return;
  matched_[*wanted.index] = true;
  wanted.actual = actual_.service(*wanted.index);
}

std::uint32_t Planner::common_backends(const model::ServicePort& service,
                                       const ServiceState& state) const {
  std::set<BackendKey> keys;
  for (const model::Backend& backend : service.backends)
    keys.insert({backend.ip, backend.port, backend.generation});
  return static_cast<std::uint32_t>(
      std::count_if(state.backends.begin(), state.backends.end(), [&](const SlotCount& owned) {
        return keys.contains(key_of(*actual_.backend(owned.id)));
      }));
}

void Planner::open_new() {
  for (DesiredService& wanted : services_) {
    if (wanted.index || wanted.frontends.empty())
      continue;
    wanted.index = service_pool_.take();
    if (!wanted.index) {
      issue(wanted.name, Errc::kExhausted,
            fmt::format("all {} service indexes are in use", actual_.limits().services));
      continue;
    }
    open_.items.push_back({*wanted.index});
  }
}

// --- One service: its backends and its ring
// ---------------------------------------------------------

const BackendId* Planner::stray_of(const BackendKey& key) {
  const auto [first, last] = actual_.strays_by_key().equal_range(key);
  for (auto at = first; at != last; ++at)
    if (!adopted_.contains(at->second))
      return &at->second;
  return nullptr;
}

// A backend keeps its id. One that came back before its old entry was freed takes that up again;
// one that is new gets an entry only when it gets connections.
void Planner::choose_ids(DesiredService& wanted, Learned& learned) {
  static const std::vector<SlotCount> kNone;
  const std::vector<SlotCount>& owned = wanted.actual != nullptr ? wanted.actual->backends : kNone;
  auto at = owned.begin();
  for (WantedBackend& backend : backends_) {
    while (at != owned.end() && key_of(*actual_.backend(at->id)) < backend.key)
      ++at;
    if (at != owned.end() && key_of(*actual_.backend(at->id)) == backend.key) {
      backend.id = at->id;
    } else if (const BackendId* stray =
                   wanted.actual != nullptr ? stray_of(backend.key) : nullptr) {
      backend.id = *stray;
      adopted_.insert(*stray);
      learned.adopted.push_back(*stray);
    } else if (!backend.eligible || !choose_new_id(wanted, backend)) {
      continue;
    }
    set_backend(wanted, backend);
  }
}

bool Planner::choose_new_id(const DesiredService& wanted, WantedBackend& backend) {
  const std::optional<std::uint32_t> id = backend_pool_.take();
  if (!id) {
    issue(wanted.name, Errc::kExhausted,
          fmt::format("backend {} gets no connections: all {} backend ids are in use",
                      SocketAddress{backend.key.ip, backend.key.port}.to_string(),
                      actual_.limits().backends - 1));
    return false;
  }
  backend.id = *id;
  return true;
}

void Planner::set_backend(const DesiredService& wanted, const WantedBackend& backend) {
  SetBackends::Item item{*wanted.index, backend.id, backend.entry, false};
  if (const BackendEntry* now = actual_.backend(backend.id)) {
    item.entry.epoch = now->epoch;
    // A host that has not been heard of yet is no news about its backends (see loses_unnamed).
    if (!backend.host_known || (!options_.prune && !backend.host_usable))
      return;
    if (item.entry == *now)
      return;
  } else {
    item.entry.epoch = actual_.next_epoch(backend.id);
    item.recycled = item.entry.epoch > 1;
  }
  set_backends_.items.push_back(item);
}

// Does the service's ring name a backend that the input does not know at all, or one whose host it
// does not know to be there? While a view is incomplete, neither is news.
bool Planner::loses_unnamed(const DesiredService& wanted) const {
  if (wanted.actual == nullptr)
    return false;
  auto at = backends_.begin();
  for (const SlotCount& owned : wanted.actual->backends) {
    const BackendKey key = key_of(*actual_.backend(owned.id));
    while (at != backends_.end() && at->key < key)
      ++at;
    const bool named = at != backends_.end() && at->key == key;
    if (owned.slots > 0 && (!named || !at->host_usable))
      return true;
  }
  return false;
}

bool Planner::write_ring(const DesiredService& wanted, SwitchRings::Item&& item,
                         std::uint64_t slots, Learned& learned) {
  members_.clear();
  for (const WantedBackend& backend : backends_)
    if (backend.quota > 0)
      members_.push_back({backend.name, backend.quota, backend.id});
  // After a start nothing is known of the ring but what it holds: it is built to be compared.
  if (wanted.actual != nullptr && wanted.actual->ring_inputs == 0 &&
      wanted.actual->ring.slots == slots && wanted.actual->ring_content != kUnknownContent) {
    slots_.resize(slots);
    builder_.build(members_, slots_);
    if (ring_digest(slots_) == wanted.actual->ring_content) {
      learned.ring_inputs = item.inputs;
      return true;
    }
  }
  item.to.slots = static_cast<std::uint32_t>(slots);
  if (!take_blocks(item.to, wanted.actual)) {
    issue(wanted.name, Errc::kExhausted,
          fmt::format(
              "no {} ring blocks in a row are free ({} of {} are in use); its ring stays as it "
              "is",
              item.to.blocks(), block_pool_.size() - block_pool_.free_count(), block_pool_.size()));
    return false;
  }
  const RingRef before = wanted.actual != nullptr ? wanted.actual->ring : RingRef();
  write_rings_.items.push_back({*wanted.index, item.to, before, members_});
  switch_rings_.items.push_back(std::move(item));
  return true;
}

// Finds a place for a ring, with the history of the one before where there is plenty of room: rings
// of their own are worth more to services than what others had before.
bool Planner::take_blocks(RingRef& ring, const ServiceState* before) {
  ring.history = before != nullptr && !before->ring.empty();
  const std::uint32_t reserve = block_pool_.size() / kBlocksReserve;
  if (ring.history && block_pool_.free_count() < reserve + ring.blocks())
    ring.history = false;
  std::optional<std::uint32_t> block = block_pool_.take_run(ring.blocks());
  if (!block && std::exchange(ring.history, false))
    block = block_pool_.take_run(ring.blocks());
  ring.first_block = block.value_or(0);
  return block.has_value();
}

// Nobody new is let in. Connections that are open go on, as long as their backends are there.
void Planner::empty_ring(const DesiredService& wanted) {
  const ServiceState* now = wanted.actual;
  if (now == nullptr || now->ring_content == 0)
    return;
  SwitchRings::Item item;
  item.service = *wanted.index;
  item.to.slots = now->ring.slots;
  if (now->ring.empty() || !take_blocks(item.to, now) || !item.to.history)
    item.to = RingRef();
  else
    write_rings_.items.push_back({*wanted.index, item.to, now->ring, {}});
  // Not before frontends that it loses lead elsewhere: those would be refused in between.
  empty_rings_.items.push_back(std::move(item));
}

bool Planner::plan_ring(const DesiredService& wanted, Learned& learned) {
  const std::uint64_t slots = assign_quotas(*wanted.service, backends_);
  if (slots > model::kRingSlotsMax) {
    issue(wanted.name, Errc::kExhausted,
          fmt::format("needs a ring of {} slots, and {} is the most", slots, model::kRingSlotsMax));
    return false;
  }
  SwitchRings::Item item;
  item.service = *wanted.index;
  if (slots == 0) {
    empty_ring(wanted);
    return true;
  }
  item.inputs = inputs_digest(backends_, slots);
  if (wanted.actual != nullptr && wanted.actual->ring_inputs == item.inputs)
    return true;
  for (const WantedBackend& backend : backends_)
    if (backend.quota > 0)
      item.counts.push_back({backend.id, backend.quota});
  return write_ring(wanted, std::move(item), slots, learned);
}

// While it waits for its grace, no client's affinity leads to it any more.
void Planner::retire(ServiceIndex service, BackendId id) {
  SetBackends::Item item{service, id, *actual_.backend(id), false};
  if (!std::exchange(item.entry.draining, true))
    drain_backends_.items.push_back(item);
  retire_backends_.items.push_back({service, id});
}

void Planner::retire_unwanted(const DesiredService& wanted, bool ring_is_new) {
  if (wanted.actual == nullptr || !options_.prune)
    return;
  auto at = backends_.begin();
  for (const SlotCount& owned : wanted.actual->backends) {
    const BackendKey key = key_of(*actual_.backend(owned.id));
    while (at != backends_.end() && at->key < key)
      ++at;
    const bool named = at != backends_.end() && at->key == key;
    if (!named && (ring_is_new || owned.slots == 0))
      retire(*wanted.index, owned.id);
  }
}

void Planner::plan_service(DesiredService& wanted) {
  Learned learned{wanted.name, *wanted.index, 0, {}};
  for (const model::Backend& backend : wanted.service->backends)
    if (backend.ip.family() != wanted.service->family)
      issue(wanted.name, Errc::kInvalid,
            fmt::format("backend {} is not {}", backend.ip.to_string(),
                        to_string(wanted.service->family)));
  wanted_backends(*wanted.service, nodes_, backends_);
  choose_ids(wanted, learned);
  const bool frozen = !options_.prune && loses_unnamed(wanted);
  const bool ring_is_new = !frozen && plan_ring(wanted, learned);
  retire_unwanted(wanted, ring_is_new);
  plan_.learned.push_back(std::move(learned));
}

// --- Frontends and addresses
// ------------------------------------------------------------------------

// A client address is held against the ranges of the service that outside clients are led to.
void Planner::plan_source_ranges() {
  for (const DesiredService& wanted : services_) {
    if (!wanted.index)
      continue;
    std::set<IpPrefix> ranges(wanted.service->source_ranges.begin(),
                              wanted.service->source_ranges.end());
    const auto held = actual_.source_ranges().find(*wanted.index);
    const bool holds = held != actual_.source_ranges().end();
    for (const IpPrefix& range : ranges)
      if (!holds || !held->second.contains(range))
        add_ranges_.items.push_back({*wanted.index, range});
    if (!holds)
      continue;
    for (const IpPrefix& range : held->second)
      if (!ranges.contains(range))
        remove_ranges_.items.push_back({*wanted.index, range});
  }
}

// Nothing when none of its services has an index.
std::optional<FrontendEntry> Planner::frontend_entry(const FrontendOwners& owners) const {
  FrontendEntry entry;
  if (owners.outside != FrontendOwners::kNobody && services_[owners.outside].index) {
    const DesiredService& outside = services_[owners.outside];
    entry.outside = *outside.index;
    entry.restricted = owners.restricted;
    entry.affinity_s = outside.service->affinity_s;
  }
  if (owners.inside != FrontendOwners::kNobody && services_[owners.inside].index) {
    entry.inside = *services_[owners.inside].index;
    entry.affinity_s = services_[owners.inside].service->affinity_s;
  }
  if (entry.inside == model::kNoService && entry.outside == model::kNoService)
    return std::nullopt;
  return entry;
}

void Planner::lose(const FrontendEntry& before, const FrontendEntry& after) {
  if (before.inside != model::kNoService && before.inside != after.inside)
    lost_frontends_[before.inside]++;
  if (before.outside != model::kNoService && before.outside != after.outside)
    lost_frontends_[before.outside]++;
}

void Planner::plan_frontends() {
  std::size_t entries = actual_.frontends().size();
  for (DesiredService& wanted : services_) {
    const auto self = static_cast<std::uint32_t>(&wanted - services_.data());
    for (const OwnFrontend& own : wanted.frontends) {
      const FrontendOwners& owners = owners_of_.at(own.key);
      // An entry for two services is written once, with the first of them.
      if (own.outside && !own.inside && owners.inside != FrontendOwners::kNobody &&
          owners.inside < self)
        continue;
      if (own.inside && !own.outside && owners.outside < self)
        continue;
      std::optional<FrontendEntry> entry = frontend_entry(owners);
      if (!entry)
        continue;
      const auto now = actual_.frontends().find(own.key);
      if (now != actual_.frontends().end()) {
        // How long such a connection lives nobody knows, so that is never taken back.
        entry->entries =
            own.key.proto == L4Proto::kTcp &&
            (now->second.entries || (now->second.affinity_s > 0 && entry->affinity_s == 0));
        if (now->second == *entry)
          continue;
        lose(now->second, *entry);
      } else if (entries++ >= actual_.limits().frontends) {
        issue(wanted.name, Errc::kExhausted,
              fmt::format("frontend {}:{} is not served: all {} entries are in use",
                          own.key.ip.to_string(), own.key.port, actual_.limits().frontends));
        continue;
      }
      set_frontends_.items.push_back({own.key, *entry});
    }
  }
}

// Every address that is a service's alone. A NodePort's and a HostPort's are a host's own, as an
// external IP may be: their other ports are not ours to refuse.
std::map<IpAddress, VipEntry> Planner::service_vips() const {
  std::map<IpAddress, VipEntry> vips;
  for (const DesiredService& wanted : services_)
    each_vip(*wanted.service, [&](const IpAddress& ip) { vips.try_emplace(ip); });
  return vips;
}

void Planner::plan_vips() {
  std::map<IpAddress, VipEntry> vips = service_vips();
  for (const IpAddress& ip : desired_.announced_vips)
    vips[ip].announced = true;
  // While the view is incomplete, who else is alive is not known: each address stays where it is.
  if (!options_.prune)
    for (auto& [ip, entry] : vips) {
      const auto now = actual_.vips().find(ip);
      entry.announced = now != actual_.vips().end() && now->second.announced;
    }
  for (const model::Node& node : desired_.nodes) {
    vips.erase(node.underlay);
    if (node.lan_v6)
      vips.erase(*node.lan_v6);
  }
  set_vips(vips);
  if (!options_.prune)
    return;
  for (const auto& [ip, entry] : actual_.vips())
    if (!vips.contains(ip))
      delete_vips_.items.push_back({ip});
}

// Which addresses are announced is not what changed.
void Planner::plan_vips(std::span<const ChangedService> changed) {
  std::map<IpAddress, VipEntry> vips = service_vips();
  std::set<IpAddress> gone;
  for (const ChangedService& each : changed)
    if (each.before != nullptr)
      each_vip(*each.before, [&](const IpAddress& ip) {
        if (actual_.vips().contains(ip) && !vips.contains(ip) &&
            std::ranges::find(desired_.announced_vips, ip) == desired_.announced_vips.end())
          gone.insert(ip);
      });
  for (const model::Node& node : desired_.nodes) {
    vips.erase(node.underlay);
    if (node.lan_v6)
      vips.erase(*node.lan_v6);
  }
  for (auto& [ip, entry] : vips) {
    const auto now = actual_.vips().find(ip);
    entry.announced =
        now != actual_.vips().end()
            ? now->second.announced
            : std::ranges::find(desired_.announced_vips, ip) != desired_.announced_vips.end();
  }
  set_vips(vips);
  for (const IpAddress& ip : gone)
    delete_vips_.items.push_back({ip});
}

void Planner::set_vips(const std::map<IpAddress, VipEntry>& vips) {
  std::size_t entries = actual_.vips().size();
  for (const auto& [ip, entry] : vips) {
    const auto now = actual_.vips().find(ip);
    if (now != actual_.vips().end() && now->second == entry)
      continue;
    if (now == actual_.vips().end() && entries++ >= actual_.limits().vips) {
      plan_.issues.push_back({"address " + ip.to_string(),
                              Error(Errc::kExhausted, fmt::format("all {} entries are in use",
                                                                  actual_.limits().vips))});
      continue;
    }
    set_vips_.items.push_back({ip, entry});
  }
}

void Planner::delete_frontend(const FrontendKey& key, const FrontendEntry& entry) {
  if (owners_of_.contains(key))
    return;
  delete_frontends_.items.push_back({key, entry});
  lose(entry, FrontendEntry());
}

void Planner::sort_deleted_frontends() {
  auto& items = delete_frontends_.items;
  std::sort(items.begin(), items.end(), [](const auto& a, const auto& b) { return a.key < b.key; });
}

void Planner::delete_frontends() {
  if (!options_.prune)
    return;
  for (const auto& [key, entry] : actual_.frontends())
    delete_frontend(key, entry);
  sort_deleted_frontends();
}

// --- What goes
// --------------------------------------------------------------------------------------

void Planner::remove_service(ServiceIndex index, const ServiceState& service) {
  const auto lost = lost_frontends_.find(index);
  if (service.frontends > (lost == lost_frontends_.end() ? 0 : lost->second))
    return;  // some frontend still leads here: whoever should have it could not take it over
  if (!service.ring.empty() || service.ring_content != 0)
    empty_rings_.items.push_back({index, {}, 0, {}});
  if (const auto held = actual_.source_ranges().find(index); held != actual_.source_ranges().end())
    for (const IpPrefix& range : held->second)
      remove_ranges_.items.push_back({index, range});
  for (const SlotCount& owned : service.backends)
    retire(index, owned.id);
  retire_services_.items.push_back({index});
}

void Planner::plan_removed() {
  if (!options_.prune)
    return;
  for (ServiceIndex index = 0; index < actual_.services().size(); index++)
    if (const ServiceState* service = actual_.service(index);
        service != nullptr && !matched_[index])
      remove_service(index, *service);
}

void Planner::plan_strays() {
  if (!options_.prune)
    return;
  for (const auto& [id, stray] : actual_.strays()) {
    if (adopted_.contains(id))
      continue;
    if (!stray.retired)
      retire(model::kNoService, id);
    else if (stray.released)
      free_backends_.items.push_back({id, actual_.next_epoch(id)});
  }
}

// --- The plan
// ---------------------------------------------------------------------------------------

void Planner::assemble() {
  append(plan_.ops, std::move(open_));
  append(plan_.ops, std::move(set_backends_));
  append_rings(plan_.ops, std::move(write_rings_));
  append(plan_.ops, std::move(switch_rings_));
  append(plan_.ops, std::move(add_ranges_));
  append(plan_.ops, std::move(set_frontends_));
  append(plan_.ops, std::move(set_vips_));
  append(plan_.ops, std::move(delete_frontends_));
  append(plan_.ops, std::move(delete_vips_));
  append(plan_.ops, std::move(empty_rings_));
  append(plan_.ops, std::move(remove_ranges_));
  append(plan_.ops, std::move(drain_backends_));
  append(plan_.ops, std::move(retire_backends_));
  append(plan_.ops, std::move(retire_services_));
  append(plan_.ops, std::move(free_backends_));
}

Plan Planner::run() {
  gather();
  for (DesiredService& wanted : services_)
    match(wanted);
  open_new();
  for (DesiredService& wanted : services_)
    if (wanted.index)
      plan_service(wanted);
  plan_source_ranges();
  plan_frontends();
  plan_vips();
  delete_frontends();
  plan_removed();
  plan_strays();
  assemble();
  return std::move(plan_);
}

// As run() does it, with the other services as they are: they keep their indexes.
Plan Planner::run(std::span<const ChangedService> changed) {
  matched_.assign(matched_.size(), true);
  std::set<ServiceIndex> left;
  std::vector<FrontendKey> frontends;
  for (const ChangedService& each : changed) {
    const bool reshaped = is_reshaped(each);
    if (each.now != nullptr)
      services_.push_back({each.now->id(), each.now, {}, {}, nullptr});
    if (each.now != nullptr && !reshaped) {
      services_.back().index = each.index;
      services_.back().actual = actual_.service(each.index);
    } else if (each.before != nullptr) {
      matched_[each.index] = false;
      left.insert(each.index);
      for (const model::Frontend& frontend : each.before->frontends)
        frontends.push_back({frontend.ip, frontend.port, frontend.proto});
    }
  }
  std::sort(services_.begin(), services_.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  for (DesiredService& wanted : services_)
    if (!wanted.index)
      gather_frontends(wanted);
  for (DesiredService& wanted : services_)
    if (!wanted.index)
      match(wanted);
  open_new();
  for (DesiredService& wanted : services_)
    if (wanted.index)
      plan_service(wanted);
  plan_source_ranges();
  plan_frontends();
  plan_vips(changed);
  std::sort(frontends.begin(), frontends.end());
  frontends.erase(std::unique(frontends.begin(), frontends.end()), frontends.end());
  for (const FrontendKey& key : frontends)
    if (const auto now = actual_.frontends().find(key); now != actual_.frontends().end())
      delete_frontend(key, now->second);
  for (const ServiceIndex index : left)
    if (!matched_[index])
      remove_service(index, *actual_.service(index));
  assemble();
  return std::move(plan_);
}

}  // namespace

Plan plan_services(const model::Desired& desired, const Actual& actual, const Options& options) {
  return Planner(desired, actual, options).run();
}

std::optional<Plan> plan_changes(const model::Desired& desired,
                                 std::span<const ChangedService> changed, const Actual& actual,
                                 const Options& options) {
  if (!stand_alone(changed, actual, options))
    return std::nullopt;
  Plan plan = Planner(desired, actual, options).run(changed);
  // What cannot be done for one may depend on others.
  if (!plan.issues.empty())
    return std::nullopt;
  return plan;
}

Plan plan_frees(const Actual& actual) {
  FreeBackends frees;
  for (const auto& [id, stray] : actual.strays())
    if (stray.released)
      frees.items.push_back({id, actual.next_epoch(id)});
  Plan plan;
  append(plan.ops, std::move(frees));
  return plan;
}

}  // namespace shoal::plan
