// SPDX-License-Identifier: Apache-2.0
#include "netplane/plan/nft_services.h"

#include "netplane/base/hash.h"
#include "netplane/plan/service_shape.h"

#include <algorithm>
#include <fmt/format.h>
#include <numeric>
#include <optional>
#include <unordered_set>

namespace shoal::plan {
namespace {

using model::NftChange;
using model::NftFrontends;
using model::NftHeld;
using model::NftPool;
using model::NftService;

std::uint64_t pool_key(const std::string& chain, const std::string& group) {
  return hash64(fmt::format("{}\n{}", chain, group));
}

// Weights are only compared with each other: the smallest that say the same.
void reduce(std::vector<NftPool>& pools) {
  std::uint32_t divisor = 0;
  for (const NftPool& pool : pools)
    divisor = std::gcd(divisor, pool.weight);
  for (NftPool& pool : pools)
    pool.weight /= divisor;
}

std::vector<SocketAddress> places_of(const NftHeld& held, std::uint64_t pool) {
  std::vector<SocketAddress> places;
  for (auto at = held.places.lower_bound({pool, 0});
       at != held.places.end() && at->first.first == pool; ++at) {
    // A gap is somebody's doing: what lies behind it is written again.
    places.resize(at->first.second + 1);
    places.back() = at->second;
  }
  return places;
}

// Who is there already stays at its place; holes are filled with who is new, and then from the end.
std::vector<SocketAddress> keep_places(const std::vector<SocketAddress>& held,
                                       const std::vector<SocketAddress>& wanted) {
  std::vector<std::optional<SocketAddress>> places(wanted.size());
  std::vector<SocketAddress> rest;
  std::set<SocketAddress> left(wanted.begin(), wanted.end());
  for (std::size_t at = 0; at < held.size(); at++) {
    const auto found = left.find(held[at]);
    if (found == left.end())
      continue;
    if (at < places.size())
      places[at] = held[at];
    else
      rest.push_back(held[at]);
    left.erase(found);
  }
  rest.insert(rest.end(), left.begin(), left.end());
  std::vector<SocketAddress> out;
  std::size_t next = 0;
  for (const auto& place : places)
    out.push_back(place ? *place : rest.at(next++));
  return out;
}

class NftPlanner {
public:
  NftPlanner(const model::Desired& desired, const NftHeld& held, const NftActual& actual,
             const NftOptions& options)
      : desired_(desired), held_(held), actual_(actual), options_(options), nodes_(desired) {}

  void plan_service(const model::ServicePort& service, bool gated);
  void plan_all();
  NftPlan take() { return std::move(plan_); }
  NftService shape(const model::ServicePort& service, bool gated);

private:
  void issue(const std::string& service, Errc code, std::string message) {
    plan_.issues.push_back({"service " + service, Error(code, std::move(message))});
  }
  bool loses_unnamed() const;
  void diff_pool(const NftService& service, const NftPool& pool);
  void remove_pool(std::uint64_t key);
  void diff_members(const NftService& service);
  void gather(const model::ServicePort& service, const std::string& id, NftFrontends& inside,
              NftFrontends& outside);
  bool claim(NftFrontends& frontends, const model::FrontendKey& key, const std::string& chain,
             const std::string& id);
  void diff_frontends(const NftFrontends& wanted, const NftFrontends& held,
                      NftChange::Elements<NftChange::Frontend>& out) const;
  void diff_addresses(const std::set<IpAddress>& wanted, const std::set<IpAddress>& held,
                      NftChange::Elements<IpAddress>& out) const;
  std::set<IpAddress> wanted_vips() const;
  void remove_unclaimed();

  const model::Desired& desired_;
  const NftHeld& held_;
  const NftActual& actual_;
  const NftOptions& options_;
  NodeIndex nodes_;
  std::vector<WantedBackend> backends_;  // of the service that is being planned
  std::vector<std::uint64_t> keys_;      // of its groups, in use or not
  std::set<std::string> chains_;
  std::unordered_set<std::uint64_t> pools_;
  std::unordered_set<std::uint64_t> affine_;  // services whose members are theirs
  NftPlan plan_;
};

// --- One service
// ----------------------------------------------------------------------------------

NftService NftPlanner::shape(const model::ServicePort& service, bool gated) {
  NftService out;
  out.chain = model::nft_chain_name(service.id());
  out.family = service.family;
  out.proto = service.proto;
  out.affinity_s = service.affinity_s;
  out.gated = gated;
  if (gated)
    for (const IpPrefix& range : service.source_ranges)
      if (range.family() == service.family)
        out.ranges.push_back(range);
  std::ranges::sort(out.ranges);
  const auto doubles = std::ranges::unique(out.ranges);
  out.ranges.erase(doubles.begin(), doubles.end());

  wanted_backends(service, nodes_, backends_);
  std::vector<model::WeightGroup> groups = sorted_groups(service);
  if (groups.empty())
    groups.push_back({"", 1});
  std::vector<NftPool> pools(groups.size());
  for (std::size_t i = 0; i < groups.size(); i++)
    pools[i] = {pool_key(out.chain, groups[i].name), groups[i].weight, {}};
  keys_.clear();
  for (const NftPool& pool : pools)
    keys_.push_back(pool.key);
  for (const WantedBackend& backend : backends_)
    if (backend.eligible)
      pools[backend.group].places.push_back({backend.key.ip, backend.key.port});
  for (NftPool& pool : pools) {
    std::ranges::sort(pool.places);
    const auto same = std::ranges::unique(pool.places);
    pool.places.erase(same.begin(), same.end());
    if (!pool.places.empty())
      out.pools.push_back(std::move(pool));
  }
  reduce(out.pools);
  return out;
}

bool NftPlanner::loses_unnamed() const {
  std::set<SocketAddress> known;
  for (const WantedBackend& backend : backends_)
    if (backend.host_known && backend.host_usable)
      known.insert({backend.key.ip, backend.key.port});
  for (const std::uint64_t key : keys_)
    for (const SocketAddress& backend : places_of(held_, key))
      if (!known.contains(backend))
        return true;
  return false;
}

void NftPlanner::diff_pool(const NftService& service, const NftPool& pool) {
  const std::vector<SocketAddress> now = places_of(held_, pool.key);
  auto& places = plan_.change.places;
  const auto size = static_cast<std::uint32_t>(std::max(now.size(), pool.places.size()));
  for (std::uint32_t at = 0; at < size; at++) {
    const bool is = at < now.size() && !now[at].ip.is_unspecified();
    const bool will = at < pool.places.size();
    if (is && will && now[at] == pool.places[at])
      continue;
    if (is)
      places.remove.push_back({service.family, pool.key, at, now[at]});
    if (will)
      places.add.push_back({service.family, pool.key, at, pool.places[at]});
  }
}

void NftPlanner::remove_pool(std::uint64_t key) {
  for (auto at = held_.places.lower_bound({key, 0});
       at != held_.places.end() && at->first.first == key; ++at)
    plan_.change.places.remove.push_back(
        {at->second.ip.family(), key, at->first.second, at->second});
}

void NftPlanner::diff_members(const NftService& service) {
  std::set<SocketAddress> wanted;
  if (service.affinity_s > 0)
    for (const NftPool& pool : service.pools)
      wanted.insert(pool.places.begin(), pool.places.end());
  auto& members = plan_.change.members;
  const std::uint64_t key = service.key();
  for (auto at = held_.members.lower_bound({key, SocketAddress()});
       at != held_.members.end() && at->first == key; ++at)
    if (wanted.erase(at->second) == 0)
      members.remove.push_back({key, at->second});
  for (const SocketAddress& backend : wanted)
    members.add.push_back({key, backend});
}

void NftPlanner::plan_service(const model::ServicePort& service, bool gated) {
  for (const model::Backend& backend : service.backends)
    if (backend.ip.family() != service.family)
      issue(service.id(), Errc::kInvalid,
            fmt::format("backend {} is not {}", backend.ip.to_string(), to_string(service.family)));
  NftService wanted = shape(service, gated);
  chains_.insert(wanted.chain);
  affine_.insert(wanted.key());
  const auto now = held_.services.find(wanted.chain);
  const bool exists = now != held_.services.end();
  if (exists && !options_.prune && loses_unnamed()) {
    pools_.insert(keys_.begin(), keys_.end());
    return;
  }
  if (!exists || now->second != wanted.digest())
    plan_.change.set_chains.push_back({wanted, exists});
  for (NftPool& pool : wanted.pools) {
    pools_.insert(pool.key);
    pool.places = keep_places(places_of(held_, pool.key), pool.places);
    diff_pool(wanted, pool);
  }
  if (const auto planned = actual_.pools.find(wanted.chain);
      planned != actual_.pools.end() && exists)
    for (const std::uint64_t key : planned->second)
      if (pools_.insert(key).second)
        remove_pool(key);
  diff_members(wanted);
  auto& [chain, keys] = plan_.learned.emplace_back();
  chain = wanted.chain;
  for (const NftPool& pool : wanted.pools)
    keys.push_back(pool.key);
}

// --- Frontends and addresses
// ------------------------------------------------------------------------

bool NftPlanner::claim(NftFrontends& frontends, const model::FrontendKey& key,
                       const std::string& chain, const std::string& id) {
  const auto [at, added] = frontends.try_emplace(key, model::NftTarget{chain, false});
  if (added || at->second.chain == chain)
    return true;
  issue(id, Errc::kConflict,
        fmt::format("frontend {}/{} belongs to another service already",
                    SocketAddress{key.ip, key.port}.to_string(), to_string(key.proto)));
  return false;
}

void NftPlanner::gather(const model::ServicePort& service, const std::string& id,
                        NftFrontends& inside, NftFrontends& outside) {
  const std::string chain = model::nft_chain_name(id);
  for (const model::Frontend& frontend : service.frontends) {
    if (frontend.ip.family() != service.family) {
      issue(
          id, Errc::kInvalid,
          fmt::format("frontend {} is not {}", frontend.ip.to_string(), to_string(service.family)));
      continue;
    }
    const model::FrontendKey key{frontend.ip, frontend.port, frontend.proto};
    if (for_inside(service.clients) && !claim(inside, key, chain, id))
      continue;
    if (!for_outside(service.clients, frontend.kind) || !claim(outside, key, chain, id))
      continue;
    // As Kubernetes has it: node ports and external IPs are not behind the ranges.
    if (frontend.kind == model::FrontendKind::kLoadBalancer && !service.source_ranges.empty())
      outside.at(key).gated = true;
  }
}

void NftPlanner::diff_frontends(const NftFrontends& wanted, const NftFrontends& held,
                                NftChange::Elements<NftChange::Frontend>& out) const {
  for (const auto& [key, target] : wanted) {
    const auto now = held.find(key);
    if (now != held.end() && now->second == target)
      continue;
    if (now != held.end())
      out.remove.push_back({key, now->second});
    out.add.push_back({key, target});
  }
  if (options_.prune)
    for (const auto& [key, target] : held)
      if (!wanted.contains(key))
        out.remove.push_back({key, target});
}

void NftPlanner::diff_addresses(const std::set<IpAddress>& wanted, const std::set<IpAddress>& held,
                                NftChange::Elements<IpAddress>& out) const {
  std::ranges::set_difference(wanted, held, std::back_inserter(out.add));
  if (options_.prune)
    std::ranges::set_difference(held, wanted, std::back_inserter(out.remove));
}

// Every address that is a service's alone; see plan_vips in lb.cpp.
std::set<IpAddress> NftPlanner::wanted_vips() const {
  std::set<IpAddress> vips(desired_.announced_vips.begin(), desired_.announced_vips.end());
  for (const model::ServicePort& service : desired_.services)
    for (const model::Frontend& frontend : service.frontends)
      if (frontend.ip.family() == service.family &&
          frontend.kind != model::FrontendKind::kNodePort &&
          frontend.kind != model::FrontendKind::kHostPort)
        vips.insert(frontend.ip);
  for (const model::Node& node : desired_.nodes) {
    vips.erase(node.underlay);
    if (node.lan_v6)
      vips.erase(*node.lan_v6);
  }
  return vips;
}

void NftPlanner::remove_unclaimed() {
  for (const auto& [chain, digest] : held_.services)
    if (!chains_.contains(chain))
      plan_.change.delete_chains.push_back(chain);
  for (const auto& [place, backend] : held_.places)
    if (!pools_.contains(place.first))
      plan_.change.places.remove.push_back(
          {backend.ip.family(), place.first, place.second, backend});
  for (const auto& [service, backend] : held_.members)
    if (!affine_.contains(service))
      plan_.change.members.remove.push_back({service, backend});
}

void NftPlanner::plan_all() {
  std::vector<std::pair<std::string, const model::ServicePort*>> services;
  services.reserve(desired_.services.size());
  for (const model::ServicePort& service : desired_.services)
    services.emplace_back(service.id(), &service);
  std::ranges::sort(services, [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first < b.first : *a.second < *b.second;
  });
  NftFrontends inside, outside;
  const std::string* before = nullptr;
  for (const auto& [id, service] : services) {
    if (before != nullptr && *before == id) {
      issue(id, Errc::kConflict, "is given twice; the first is served");
      continue;
    }
    before = &id;
    gather(*service, id, inside, outside);
    plan_service(*service, !service->source_ranges.empty());
  }
  diff_frontends(inside, held_.inside, plan_.change.inside);
  diff_frontends(outside, held_.outside, plan_.change.outside);
  diff_addresses(wanted_vips(), held_.vips, plan_.change.vips);
  std::set<IpAddress> pods = options_.attached;
  for (const model::LocalPod& pod : desired_.pods)
    for (const model::PodAddress& address : pod.addresses)
      pods.insert(address.ip);
  diff_addresses(pods, held_.pods, plan_.change.pods);
  std::set<IpAddress> hosts;
  for (const model::Node& node : desired_.nodes)
    if (node.underlay.is_v4() && !node.underlay.is_unspecified())
      hosts.insert(node.underlay);
  diff_addresses(hosts, held_.hosts, plan_.change.hosts);
  if (options_.prune)
    remove_unclaimed();
}

}  // namespace

NftService nft_service(const model::Desired& desired, const model::ServicePort& service) {
  const NftActual nothing;
  const NftOptions options;
  return NftPlanner(desired, nothing.held, nothing, options)
      .shape(service, !service.source_ranges.empty());
}

NftPlan plan_nft_services(const model::Desired& desired, const model::NftSetup& setup,
                          const NftActual& actual, const NftOptions& options) {
  const NftActual nothing;
  const bool rebuild = actual.held.setup != setup.digest();
  // A table of other rules serves on until everything that it holds is known.
  if (rebuild && !options.prune && !actual.held.services.empty())
    return {};
  const NftActual& base = rebuild ? nothing : actual;
  NftPlanner planner(desired, base.held, base, options);
  planner.plan_all();
  NftPlan plan = planner.take();
  if (rebuild)
    plan.change.rebuild = setup;
  return plan;
}

NftPlan plan_nft_backends(const model::Desired& desired, std::span<const std::size_t> changed,
                          const NftActual& actual, const NftOptions& options) {
  NftPlanner planner(desired, actual.held, actual, options);
  for (const std::size_t at : changed) {
    const model::ServicePort& service = desired.services.at(at);
    planner.plan_service(service, !service.source_ranges.empty());
  }
  return planner.take();
}

// --- Following
// ------------------------------------------------------------------------------------

void NftActual::learn(NftPlan& plan) {
  for (auto& [chain, keys] : plan.learned)
    if (const auto at = held.services.find(chain); at != held.services.end())
      pools.try_emplace(chain, std::move(keys));
}

void NftActual::note(const NftChange& change) {
  if (change.rebuild) {
    held = {};
    pools.clear();
    held.setup = change.rebuild->digest();
  }
  for (const auto& place : change.places.remove)
    held.places.erase({place.pool, place.at});
  for (const auto& place : change.places.add)
    held.places[{place.pool, place.at}] = place.backend;
  for (const auto& member : change.members.remove)
    held.members.erase({member.service, member.backend});
  for (const auto& member : change.members.add)
    held.members.insert({member.service, member.backend});
  for (const auto& chain : change.set_chains) {
    held.services[chain.service.chain] = chain.service.digest();
    auto& keys = pools[chain.service.chain];
    keys.clear();
    for (const NftPool& pool : chain.service.pools)
      keys.push_back(pool.key);
  }
  for (const std::string& chain : change.delete_chains) {
    held.services.erase(chain);
    pools.erase(chain);
  }
  const auto follow = [](NftFrontends& frontends, const auto& elements) {
    for (const auto& frontend : elements.remove)
      frontends.erase(frontend.key);
    for (const auto& frontend : elements.add)
      frontends[frontend.key] = frontend.target;
  };
  follow(held.inside, change.inside);
  follow(held.outside, change.outside);
  const auto follow_set = [](std::set<IpAddress>& addresses, const auto& elements) {
    for (const IpAddress& ip : elements.remove)
      addresses.erase(ip);
    addresses.insert(elements.add.begin(), elements.add.end());
  };
  follow_set(held.vips, change.vips);
  follow_set(held.pods, change.pods);
  follow_set(held.hosts, change.hosts);
}

std::vector<NftPart> split_by_service(const NftChange& change, const NftActual& actual) {
  NftPart common{"service table", {}};
  common.change.rebuild = change.rebuild;
  common.change.vips = change.vips;
  common.change.pods = change.pods;
  common.change.hosts = change.hosts;
  std::map<std::string, NftChange> parts;         // by chain
  std::map<std::uint64_t, std::string> chain_of;  // by pool and by service
  for (const auto& [chain, keys] : actual.pools)
    for (const std::uint64_t key : keys)
      chain_of[key] = chain;
  for (const auto& [chain, digest] : actual.held.services)
    chain_of[hash64(chain)] = chain;
  for (const auto& chain : change.set_chains) {
    parts[chain.service.chain].set_chains.push_back(chain);
    chain_of[chain.service.key()] = chain.service.chain;
    for (const NftPool& pool : chain.service.pools)
      chain_of[pool.key] = chain.service.chain;
  }
  for (const std::string& chain : change.delete_chains)
    parts[chain].delete_chains.push_back(chain);
  // What is nobody's that is known, such as a stray's, goes with the common part.
  const auto part_of = [&](std::uint64_t key) -> NftChange& {
    const auto at = chain_of.find(key);
    return at == chain_of.end() ? common.change : parts[at->second];
  };
  for (const auto& place : change.places.remove)
    part_of(place.pool).places.remove.push_back(place);
  for (const auto& place : change.places.add)
    part_of(place.pool).places.add.push_back(place);
  for (const auto& member : change.members.remove)
    part_of(member.service).members.remove.push_back(member);
  for (const auto& member : change.members.add)
    part_of(member.service).members.add.push_back(member);
  // A frontend that changes hands goes, and comes, with its new owner.
  const auto deal = [&](const auto& elements, auto side) {
    std::map<model::FrontendKey, std::string> taken;
    for (const auto& frontend : elements.add)
      taken[frontend.key] = frontend.target.chain;
    for (const auto& frontend : elements.remove) {
      const auto to = taken.find(frontend.key);
      const std::string& owner = to == taken.end() ? frontend.target.chain : to->second;
      (parts[owner].*side).remove.push_back(frontend);
    }
    for (const auto& frontend : elements.add)
      (parts[frontend.target.chain].*side).add.push_back(frontend);
  };
  deal(change.inside, &NftChange::inside);
  deal(change.outside, &NftChange::outside);
  std::vector<NftPart> out;
  out.push_back(std::move(common));
  // Services that take frontends over come before those that lose their chains.
  for (const bool deleting : {false, true})
    for (auto& [chain, part] : parts)
      if (part.delete_chains.empty() != deleting)
        out.push_back({"service " + chain, std::move(part)});
  return out;
}

}  // namespace shoal::plan
