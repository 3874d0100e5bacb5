// SPDX-License-Identifier: Apache-2.0
// What the nftables data plane shows of itself.
#include "netplane/apply/nft_data_plane.h"

#include <algorithm>
#include <fmt/format.h>
#include <iterator>

namespace shoal::apply {
namespace {

constexpr auto kCountsAge = std::chrono::seconds(1);

double share(double part, double whole) { return whole == 0 ? 0 : part / whole; }

Error cannot(std::string_view what, std::string_view instead) {
  return Error(Errc::kUnsupported,
               fmt::format("this host runs with proxy: nftables, which {}: {}", what, instead));
}

}  // namespace

DrainJob NftDataPlane::drain(std::span<const model::DrainGroup> groups) const {
  static const model::Desired kNothing;
  return drain_by_conntrack(plan::DrainTargets(desired_ ? *desired_ : kNothing, groups));
}

std::vector<std::string> NftDataPlane::limitations() const {
  std::vector<std::string> out = {
      "proxy is nftables: clients from outside are seen as this host by pods on other hosts (no "
      "DSR; externalTrafficPolicy: Local keeps their addresses), and packets are translated one by "
      "one, not at connect()",
      "proxy is nftables: what hosts with proxy: ebpf balance directly to pods of this host (DSR) "
      "is not understood: run one mode in the whole cluster",
      "proxy is nftables: an established connection from outside does not keep its backend when "
      "another host takes over its address",
      "proxy is nftables: shoal flows and shoal trace have no answer; conntrack -L and nft monitor "
      "trace have"};
  std::ranges::copy(kernel_.limitations, std::back_inserter(out));
  if (!config_.masquerade)
    out.emplace_back("features.masquerade is off: pods reach the outside only where it has routes "
                     "back to them");
  std::ranges::move(uplink_limitations(links_), std::back_inserter(out));
  return out;
}

NetworkView NftDataPlane::network() const { return network_view(config_, links_, desired_); }

// Places stand for slots: each backend of a pool has one, and an even part of the pool's share.
Result<ServiceView> NftDataPlane::service_view(std::string_view id) const {
  ServiceView view;
  view.name = id;
  const auto service =
      desired_ ? std::ranges::find_if(desired_->services,
                                      [&](const auto& other) { return other.id() == id; })
               : std::vector<model::ServicePort>::const_iterator();
  if (!desired_ || service == desired_->services.end())
    return fail(Errc::kNotFound, fmt::format("no service {} in the data plane", view.name));
  view.clients = service->clients;
  view.family = service->family;
  for (const std::string& object :
       {"service " + view.name, "service " + model::nft_chain_name(view.name)})
    for (std::string& error : log_.errors_of(object))
      view.errors.push_back(std::move(error));
  const model::NftService shape = plan::nft_service(*desired_, *service);
  for (const model::Frontend& frontend : service->frontends) {
    const model::FrontendKey key{frontend.ip, frontend.port, frontend.proto};
    for (const model::NftFrontends* side : {&actual_.held.inside, &actual_.held.outside})
      if (const auto at = side->find(key); at != side->end() && at->second.chain == shape.chain) {
        view.frontends.push_back(frontend);
        break;
      }
  }
  std::ranges::sort(view.frontends);

  std::uint64_t weights = 0;
  for (const model::NftPool& pool : shape.pools)
    weights += pool.weight;
  std::map<SocketAddress, double> effective;
  for (const model::NftPool& pool : shape.pools)
    for (const SocketAddress& place : pool.places)
      effective[place] = share(pool.weight, static_cast<double>(weights)) /
                         static_cast<double>(pool.places.size());
  view.slots = static_cast<std::uint32_t>(effective.size());
  for (const model::Backend& backend : service->backends) {
    BackendView& to = view.backends.emplace_back();
    to.backend = backend;
    to.local = backend.host == desired_->self;
    if (const auto at = effective.find({backend.ip, backend.port}); at != effective.end()) {
      to.slots = 1;
      to.effective = at->second;
    }
  }
  std::ranges::sort(view.backends, {}, &BackendView::backend);

  std::vector<model::WeightGroup> groups = service->groups;
  if (groups.empty())
    groups.push_back({"", 1});
  double asked = 0;
  for (const model::WeightGroup& group : groups)
    asked += group.weight;
  for (const model::WeightGroup& group : groups) {
    ShareView& to = view.shares.emplace_back();
    to.group = group.name;
    to.weight = group.weight;
    to.asked = share(group.weight, asked);
    for (const BackendView& backend : view.backends) {
      if (!service->groups.empty() && backend.backend.group != group.name)
        continue;
      to.backends++;
      to.ready += backend.slots;
      to.slots += backend.slots;
      to.effective += backend.effective;
    }
  }
  std::ranges::sort(view.shares, {}, &ShareView::group);
  const kernel::NftCounts& counts = *SHOAL_TRY(this->counts());
  if (const auto at = counts.connections.find(shape.chain); at != counts.connections.end())
    view.stats.flows = at->second;
  if (const auto at = counts.refused.find(shape.chain); at != counts.refused.end())
    view.stats.refused = at->second;
  return view;
}

Result<const kernel::NftCounts*> NftDataPlane::counts() const {
  const MonoTime now = clock_.now();
  if (!counts_ || now - counts_->second >= kCountsAge)
    counts_.emplace(SHOAL_TRY(kernel_.services->counts()), now);
  return &counts_->first;
}

std::vector<std::string> NftDataPlane::service_names() const {
  return desired_ ? sorted_ids(desired_->services) : std::vector<std::string>();
}

Result<std::vector<kernel::DropCount>> NftDataPlane::drops() const {
  const kernel::NftCounts& counts = *SHOAL_TRY(this->counts());
  // The same names as the BPF programs' reasons have (bpf/abi/drop_reasons.def).
  return std::vector<kernel::DropCount>{
      {"NO_BACKEND", "the service has no ready backend", counts.no_backend},
      {"NO_FRONTEND", "no service on this port of a service address", counts.no_frontend},
      {"SPOOFED_SOURCE", "not from the pod that has the source address", counts.spoofed},
      {"UNKNOWN_NODE", "an overlay packet from an address that is no member host", counts.stranger},
      {"SOURCE_RANGE", "the client is in none of the service's source ranges",
       counts.source_range}};
}

Result<Counters> NftDataPlane::counters() const {
  Counters out;
  const kernel::NftCounts& counts = *SHOAL_TRY(this->counts());
  for (const std::string& name : service_names()) {
    const std::string chain = model::nft_chain_name(name);
    ServiceCounters& service = out.services.emplace_back();
    service.name = name;
    if (const auto at = counts.connections.find(chain); at != counts.connections.end())
      service.stats.flows = at->second;
    if (const auto at = counts.refused.find(chain); at != counts.refused.end())
      service.stats.refused = at->second;
  }
  out.drops = SHOAL_TRY(drops());
  log_.fill(out);
  out.announcements = announcements_.sent();
  return out;
}

Result<FlowReading> NftDataPlane::begin_flows(const FlowFilter&) const {
  return fail(cannot("keeps no flows of its own", "conntrack -L lists the kernel's"));
}

Result<bool> NftDataPlane::next_flows(FlowReading& reading) const {
  SHOAL_TRY(begin_flows(reading.filter));
  return false;
}

Result<Trace> NftDataPlane::trace(TraceQuery) const {
  return fail(cannot("cannot foretell a pick",
                     "shoal service show has the shares, nft monitor trace the rules"));
}

Result<std::string> NftDataPlane::dump() const {
  return model::dump(SHOAL_TRY(kernel_.services->read()));
}

}  // namespace shoal::apply
