// SPDX-License-Identifier: Apache-2.0
// What the data plane shows of itself.
#include "netplane/apply/bpf_data_plane.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <iterator>

namespace shoal::apply {

DrainJob BpfDataPlane::drain(std::span<const model::DrainGroup> groups) const {
  static const model::Desired kNothing;
  return drain_by_maps(plan::DrainTargets(desired_ ? *desired_ : kNothing, groups),
                       kernel_.open_connection_maps);
}

std::vector<std::string> BpfDataPlane::limitations() const {
  std::vector<std::string> out = kernel_.programs->limitations();
  std::ranges::move(uplink_limitations(links_), std::back_inserter(out));
  if (!config_.socket_hooks)
    out.emplace_back(
        "features.socket_lb is off: connections to Services are translated packet by packet, and "
        "processes of this host do not reach its own NodePorts and hostPorts");
  if (config_.snat)
    out.emplace_back(
        "network.load_balancer_mode is snat: pods see a host's address instead of that "
        "of a client outside, where the pod is on another host than was asked");
  std::vector<std::string> by_snat;
  if (desired_ && !config_.snat)
    for (const model::Node& node : desired_->nodes)
      if (node.snat && node.name != config_.node_name)
        by_snat.push_back(node.name);
  if (!by_snat.empty())
    out.push_back(fmt::format(
        "the network drops what {} from service addresses: clients outside that ask this host "
        "reach pods there masqueraded, and those see this host's address "
        "(network.load_balancer_mode: auto)",
        by_snat.size() == 1 ? by_snat[0] + " sends"
                            : fmt::format("{} send", fmt::join(by_snat, ", "))));
  if ((config_.snat || !by_snat.empty()) && !config_.masquerade)
    out.emplace_back("features.masquerade is off, which network.load_balancer_mode: snat needs, "
                     "and auto where it uses SNAT: clients outside do not reach such pods of other "
                     "hosts than they ask");
  if (!config_.masquerade)
    out.emplace_back("features.masquerade is off: pods reach the outside only where it has routes "
                     "back to them");
  return out;
}

namespace {

const model::ServicePort* find_service(const model::Desired& desired, std::string_view id) {
  for (const model::ServicePort& service : desired.services)
    if (service.id() == id)
      return &service;
  return nullptr;
}

double share(double part, double whole) { return whole == 0 ? 0 : part / whole; }

std::vector<BackendView> backend_views(const model::ServicePort& service,
                                       const plan::ServiceState& state,
                                       const plan::Actual& actual) {
  std::vector<BackendView> views;
  for (const model::Backend& backend : service.backends) {
    BackendView& view = views.emplace_back();
    view.backend = backend;
    for (const plan::SlotCount& owned : state.backends) {
      const plan::BackendEntry& entry = *actual.backend(owned.id);
      if (plan::key_of(entry) != plan::BackendKey{backend.ip, backend.port, backend.generation})
        continue;
      view.id = owned.id;
      view.epoch = entry.epoch;
      view.local = entry.local;
      view.slots = owned.slots;
      view.effective = share(owned.slots, state.ring.slots);
    }
  }
  std::sort(views.begin(), views.end(),
            [](const BackendView& a, const BackendView& b) { return a.backend < b.backend; });
  return views;
}

std::vector<ShareView> share_views(const model::ServicePort& service,
                                   const std::vector<BackendView>& backends, std::uint32_t slots) {
  std::vector<ShareView> shares;
  double weights = 0;
  for (const model::WeightGroup& group : service.groups) {
    shares.push_back({.group = group.name, .weight = group.weight});
    weights += group.weight;
  }
  if (service.groups.empty()) {
    shares.push_back({.weight = 1});
    weights = 1;
  }
  for (ShareView& view : shares) {
    view.asked = share(view.weight, weights);
    for (const BackendView& backend : backends) {
      if (!service.groups.empty() && backend.backend.group != view.group)
        continue;
      view.backends++;
      view.ready += backend.slots > 0 ? 1 : 0;
      view.slots += backend.slots;
      view.picked += backend.stats.connects + backend.stats.flows;
    }
    view.effective = share(view.slots, slots);
  }
  std::sort(shares.begin(), shares.end(),
            [](const ShareView& a, const ShareView& b) { return a.group < b.group; });
  return shares;
}

}  // namespace

Result<ServiceView> BpfDataPlane::service_view(std::string_view ns, std::string_view name,
                                               std::string_view port_name, L4Proto proto) const {
  return service_view(fmt::format("{}/{}:{}/{}", ns, name, port_name, to_string(proto)));
}

Result<ServiceView> BpfDataPlane::service_view(std::string_view id) const {
  ServiceView view;
  view.name = id;
  const model::ServicePort* service = desired_ ? find_service(*desired_, view.name) : nullptr;
  if (service == nullptr)
    return fail(Errc::kNotFound, fmt::format("no service {} in the data plane", view.name));
  view.clients = service->clients;
  view.family = service->family;
  view.errors = log_.errors_of("service " + view.name);
  const auto index = index_of_.find(view.name);
  const plan::ServiceState* state =
      index == index_of_.end() ? nullptr : actual_.service(index->second);
  if (state == nullptr) {
    view.backends = backend_views(*service, plan::ServiceState(), actual_);
    view.shares = share_views(*service, view.backends, 0);
    return view;
  }
  view.index = index->second;
  view.slots = state->ring_content == 0 ? 0 : state->ring.slots;
  for (const model::Frontend& frontend : service->frontends) {
    const auto entry = actual_.frontends().find({frontend.ip, frontend.port, frontend.proto});
    if (entry != actual_.frontends().end() &&
        (entry->second.inside == view.index || entry->second.outside == view.index))
      view.frontends.push_back(frontend);
  }
  std::sort(view.frontends.begin(), view.frontends.end());
  view.backends = backend_views(*service, *state, actual_);
  std::vector<model::BackendId> ids;
  for (const BackendView& backend : view.backends)
    if (backend.id != model::kNoBackend)
      ids.push_back(backend.id);
  const auto stats = SHOAL_TRY(kernel_.maps->backend_stats(ids));
  for (std::size_t i = 0, at = 0; i < view.backends.size(); i++)
    if (view.backends[i].id != model::kNoBackend)
      view.backends[i].stats = stats.at(at++);
  view.shares = share_views(*service, view.backends, view.slots);
  const model::ServiceIndex wanted[] = {view.index};
  view.stats = SHOAL_TRY(kernel_.maps->service_stats(wanted)).at(0);
  return view;
}

std::vector<IpAddress> BpfDataPlane::reached_by_snat() const {
  std::set<IpAddress> out;
  for (const plan::ServiceState& service : actual_.services())
    for (const plan::SlotCount& owned : service.backends)
      if (const plan::BackendEntry& entry = *actual_.backend(owned.id); entry.snat)
        out.insert(entry.node);
  return {out.begin(), out.end()};
}

NetworkView BpfDataPlane::network() const { return network_view(config_, links_, desired_); }

std::vector<std::string> BpfDataPlane::service_names() const {
  return desired_ ? sorted_ids(desired_->services) : std::vector<std::string>();
}

Result<Counters> BpfDataPlane::counters() const {
  Counters out;
  std::vector<model::ServiceIndex> indexes;
  for (const auto& [name, index] : index_of_) {
    if (actual_.service(index) == nullptr)
      continue;
    indexes.push_back(index);
    out.services.push_back({name, {}});
  }
  const auto stats = SHOAL_TRY(kernel_.maps->service_stats(indexes));
  for (std::size_t i = 0; i < stats.size(); i++)
    out.services[i].stats = stats[i];
  out.drops = SHOAL_TRY(kernel_.maps->drops());
  const plan::Limits& limits = actual_.limits();
  const auto used = [](const plan::IndexPool& pool) { return pool.size() - pool.free_count(); };
  out.tables = {
      {"backends", used(actual_.backend_pool()), limits.backends},
      {"frontends", static_cast<std::uint32_t>(actual_.frontends().size()), limits.frontends},
      {"ring_blocks", used(actual_.block_pool()), limits.ring_blocks},
      {"services", used(actual_.service_pool()), limits.services},
      {"vips", static_cast<std::uint32_t>(actual_.vips().size()), limits.vips}};
  out.lru = lru_use();
  for (const LruUse& use : out.lru)
    out.tables.push_back({use.table, use.tally.entries, use.size});
  log_.fill(out);
  out.announcements = announcements_.sent();
  return out;
}

Result<std::string> BpfDataPlane::dump() const {
  return kernel::dump(SHOAL_TRY(kernel_.maps->read()));
}

}  // namespace shoal::apply
