// SPDX-License-Identifier: Apache-2.0
#include "netplane/plan/lb.h"

#include "netplane/base/result.h"
#include "netplane/plan/service_shape.h"

#include <algorithm>
#include <fmt/format.h>
#include <iterator>
#include <set>
#include <unordered_map>

namespace shoal::plan {
namespace {

// A frontend that is the service's own and for good says more about who it is than others do.
constexpr std::uint32_t kClusterIpVote = 1000;

struct DesiredService {
  std::string name;
  const model::ServicePort* service = nullptr;
  std::vector<SetFrontends::Item> frontends;  // that it gets; the index is filled in later
  std::optional<ServiceIndex> index;
  const ServiceState* actual = nullptr;  // null: new
};

class Planner {
public:
  Planner(const model::Desired& desired, const Actual& actual, const Options& options)
      : desired_(desired), actual_(actual), options_(options), nodes_(desired),
        service_pool_(actual.service_pool()), backend_pool_(actual.backend_pool()),
        block_pool_(actual.block_pool()), matched_(actual.services().size(), false) {}

  Plan run();

private:
  void gather();
  void gather_frontends(DesiredService& wanted);
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
  bool loses_unnamed(const DesiredService& wanted) const;
  void retire_unwanted(const DesiredService& wanted, bool ring_is_new);
  void plan_frontends();
  void plan_vips();
  void delete_frontends();
  void plan_removed();
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
  std::unordered_map<FrontendKey, std::uint32_t, FrontendKeyHash> owner_of_;  // into services_
  std::optional<std::map<BackendKey, BackendId>> stray_by_key_;
  std::set<BackendId> adopted_;
  std::unordered_map<ServiceIndex, std::uint32_t> lost_frontends_;  // overwritten or deleted

  // Scratch, kept between services.
  RingBuilder builder_;
  std::vector<WantedBackend> backends_;
  std::vector<RingMember> members_;

  Plan plan_;
  OpenServices open_;
  SetBackends set_backends_;
  WriteRings write_rings_;
  SwitchRings switch_rings_;
  SetFrontends set_frontends_;
  SetVips set_vips_;
  DeleteFrontends delete_frontends_;
  DeleteVips delete_vips_;
  SwitchRings empty_rings_;
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
  owner_of_.reserve(services_.size() * 2);
  for (DesiredService& wanted : services_)
    gather_frontends(wanted);
}

void Planner::gather_frontends(DesiredService& wanted) {
  const auto self = static_cast<std::uint32_t>(&wanted - services_.data());
  for (const model::Frontend& frontend : wanted.service->frontends) {
    const FrontendKey key{frontend.ip, frontend.port, frontend.proto};
    const bool north_south = frontend.kind != model::FrontendKind::kClusterIp;
    const auto [at, mine] = owner_of_.try_emplace(key, self);
    if (mine) {
      wanted.frontends.push_back({key, {0, north_south}});
    } else if (at->second == self) {
      for (SetFrontends::Item& item : wanted.frontends)
        if (item.key == key)
          item.entry.north_south = item.entry.north_south || north_south;
    } else {
      issue(wanted.name, Errc::kConflict,
            fmt::format("frontend {}/{} belongs to service {} already",
                        SocketAddress{key.ip, key.port}.to_string(), to_string(key.proto),
                        services_[at->second].name));
    }
  }
  std::sort(wanted.frontends.begin(), wanted.frontends.end(),
            [](const auto& a, const auto& b) { return a.key < b.key; });
}

// The index that most of its frontends name in the maps, if no other service has it.
void Planner::match(DesiredService& wanted) {
  std::map<ServiceIndex, std::uint32_t> votes;
  for (const SetFrontends::Item& item : wanted.frontends) {
    const auto at = actual_.frontends().find(item.key);
    if (at == actual_.frontends().end())
      continue;
    const ServiceIndex index = at->second.service;
    if (actual_.service(index) != nullptr && !matched_[index])
      votes[index] += item.entry.north_south ? 1 : kClusterIpVote;
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
  if (actual_.strays().empty())
    return nullptr;
  if (!stray_by_key_) {
    stray_by_key_.emplace();
    for (const auto& [id, stray] : actual_.strays())
      stray_by_key_->emplace(key_of(*actual_.backend(id)), id);
  }
  const auto at = stray_by_key_->find(key);
  return at == stray_by_key_->end() || adopted_.contains(at->second) ? nullptr : &at->second;
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
    if (item.entry == *now || !backend.host_known)
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
  WriteRings::Item ring{*wanted.index, 0, std::vector<BackendId>(slots)};
  builder_.build(members_, ring.slots);
  item.content = ring_digest(ring.slots);
  if (wanted.actual != nullptr && wanted.actual->ring.slots == slots &&
      wanted.actual->ring_content == item.content) {
    learned.ring_inputs = item.inputs;
    return true;
  }
  item.to.slots = static_cast<std::uint32_t>(slots);
  const std::optional<std::uint32_t> block = block_pool_.take_run(item.to.blocks());
  if (!block) {
    issue(wanted.name, Errc::kExhausted,
          fmt::format(
              "no {} ring blocks in a row are free ({} of {} are in use); its ring stays as it "
              "is",
              item.to.blocks(), block_pool_.size() - block_pool_.free_count(), block_pool_.size()));
    return false;
  }
  item.to.first_block = ring.first_block = *block;
  write_rings_.items.push_back(std::move(ring));
  switch_rings_.items.push_back(std::move(item));
  return true;
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
    const ServiceState* now = wanted.actual;
    if (now != nullptr && (!now->ring.empty() || now->ring_content != 0))
      switch_rings_.items.push_back(std::move(item));
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
      retire_backends_.items.push_back({*wanted.index, owned.id});
  }
}

void Planner::plan_service(DesiredService& wanted) {
  Learned learned{wanted.name, *wanted.index, 0, {}};
  wanted_backends(*wanted.service, nodes_, backends_);
  choose_ids(wanted, learned);
  const bool frozen = !options_.prune && loses_unnamed(wanted);
  const bool ring_is_new = !frozen && plan_ring(wanted, learned);
  retire_unwanted(wanted, ring_is_new);
  plan_.learned.push_back(std::move(learned));
}

// --- Frontends and addresses
// ------------------------------------------------------------------------

void Planner::plan_frontends() {
  std::size_t entries = actual_.frontends().size();
  for (DesiredService& wanted : services_) {
    if (!wanted.index)
      continue;
    for (SetFrontends::Item& item : wanted.frontends) {
      item.entry.service = *wanted.index;
      const auto now = actual_.frontends().find(item.key);
      if (now != actual_.frontends().end()) {
        if (now->second == item.entry)
          continue;
        if (now->second.service != item.entry.service)
          lost_frontends_[now->second.service]++;
      } else if (entries++ >= actual_.limits().frontends) {
        issue(wanted.name, Errc::kExhausted,
              fmt::format("frontend {}:{} is not served: all {} entries are in use",
                          item.key.ip.to_string(), item.key.port, actual_.limits().frontends));
        continue;
      }
      set_frontends_.items.push_back(item);
    }
  }
}

// Every address that is a service's alone. A NodePort's is a host's own, as an external IP may be:
// its other ports are not ours to refuse.
void Planner::plan_vips() {
  std::map<IpAddress, VipEntry> vips;
  for (const DesiredService& wanted : services_)
    for (const model::Frontend& frontend : wanted.service->frontends)
      if (frontend.kind != model::FrontendKind::kNodePort)
        vips.try_emplace(frontend.ip);
  for (const IpAddress& ip : desired_.announced_vips)
    vips[ip].announced = true;
  for (const model::Node& node : desired_.nodes)
    vips.erase(node.underlay);

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
  if (!options_.prune)
    return;
  for (const auto& [ip, entry] : actual_.vips())
    if (!vips.contains(ip))
      delete_vips_.items.push_back({ip});
}

void Planner::delete_frontends() {
  if (!options_.prune)
    return;
  for (const auto& [key, entry] : actual_.frontends()) {
    if (owner_of_.contains(key))
      continue;
    delete_frontends_.items.push_back({key, entry.service});
    lost_frontends_[entry.service]++;
  }
  std::sort(delete_frontends_.items.begin(), delete_frontends_.items.end(),
            [](const auto& a, const auto& b) { return a.key < b.key; });
}

// --- What goes
// --------------------------------------------------------------------------------------

void Planner::plan_removed() {
  if (!options_.prune)
    return;
  for (ServiceIndex index = 0; index < actual_.services().size(); index++) {
    const ServiceState* service = actual_.service(index);
    if (service == nullptr || matched_[index])
      continue;
    const auto lost = lost_frontends_.find(index);
    if (service->frontends > (lost == lost_frontends_.end() ? 0 : lost->second))
      continue;  // some frontend still leads here: whoever should have it could not take it over
    if (!service->ring.empty() || service->ring_content != 0)
      empty_rings_.items.push_back({index, {}, 0, 0, {}});
    for (const SlotCount& owned : service->backends)
      retire_backends_.items.push_back({index, owned.id});
    retire_services_.items.push_back({index});
  }
}

void Planner::plan_strays() {
  if (!options_.prune)
    return;
  for (const auto& [id, stray] : actual_.strays()) {
    if (adopted_.contains(id))
      continue;
    if (!stray.retired)
      retire_backends_.items.push_back({RetireBackends::kNoService, id});
    else if (stray.released)
      free_backends_.items.push_back({id, actual_.next_epoch(id)});
  }
}

// --- The plan
// ---------------------------------------------------------------------------------------

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

void append_rings(std::vector<Op>& ops, WriteRings&& batch) {
  WriteRings part;
  std::size_t slots = 0;
  for (WriteRings::Item& item : batch.items) {
    if (!part.items.empty() && slots + item.slots.size() > kSlotsPerOpMax) {
      ops.push_back(std::exchange(part, {}));
      slots = 0;
    }
    slots += item.slots.size();
    part.items.push_back(std::move(item));
  }
  if (!part.items.empty())
    ops.push_back(std::move(part));
}

void Planner::assemble() {
  append(plan_.ops, std::move(open_));
  append(plan_.ops, std::move(set_backends_));
  append_rings(plan_.ops, std::move(write_rings_));
  append(plan_.ops, std::move(switch_rings_));
  append(plan_.ops, std::move(set_frontends_));
  append(plan_.ops, std::move(set_vips_));
  append(plan_.ops, std::move(delete_frontends_));
  append(plan_.ops, std::move(delete_vips_));
  append(plan_.ops, std::move(empty_rings_));
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
  plan_frontends();
  plan_vips();
  delete_frontends();
  plan_removed();
  plan_strays();
  assemble();
  return std::move(plan_);
}

}  // namespace

Plan plan_services(const model::Desired& desired, const Actual& actual, const Options& options) {
  return Planner(desired, actual, options).run();
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
