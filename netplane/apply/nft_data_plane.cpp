// SPDX-License-Identifier: Apache-2.0
#include "netplane/apply/nft_data_plane.h"

#include "netplane/kernel/rtnl/pod_net.h"
#include "netplane/plan/routes.h"

#include <algorithm>
#include <fmt/format.h>
#include <unordered_map>

namespace shoal::apply {
namespace {

// Each look reads all of the kernel's connections.
constexpr auto kUdpLookInterval = std::chrono::seconds(1);
constexpr auto kUdpLookAgain = std::chrono::seconds(20);  // after one that failed

constexpr std::uint32_t kPodVni = 1;  // SHOAL_VNI_POD of bpf/abi

using UdpServices = std::map<std::string, const model::ServicePort*>;

UdpServices udp_services(const model::Desired& desired) {
  UdpServices out;
  for (const model::ServicePort& service : desired.services)
    if (service.proto == L4Proto::kUdp)
      out.emplace(service.id(), &service);
  return out;
}

model::FrontendKey key_of(const model::Frontend& frontend) {
  return {frontend.ip, frontend.port, frontend.proto};
}

}  // namespace

// --- Services
// -----------------------------------------------------------------------------------

model::NftSetup NftDataPlane::setup() const {
  return {.host_v4 = links_.uplink().address,
          .host_v6 = links_.uplink().address_v6.value_or(IpAddress()),
          .tunnel_port = config_.vxlan_port};
}

plan::NftOptions NftDataPlane::options() const {
  return {.prune = prune_allowed_, .attached = attached_};
}

// A change that the kernel refuses is taken apart: it costs its own service only.
void NftDataPlane::apply_services(const plan::NftPlan& plan, ApplyReport& report) {
  for (const plan::Issue& issue : plan.issues)
    report.errors.push_back({issue.object, issue.error});
  if (plan.change.empty())
    return;
  if (kernel_.services->commit(plan.change)) {
    actual_.note(plan.change);
    report.operations += plan.change.operations();
    return;
  }
  for (const plan::NftPart& part : plan::split_by_service(plan.change, actual_)) {
    if (part.change.empty())
      continue;
    if (Result<> done = kernel_.services->commit(part.change); !done) {
      report.errors.push_back({part.object, std::move(done).error().wrap("change nftables")});
      if (part.change.rebuild)
        return;  // the services are for the table that was to be made
      continue;
    }
    actual_.note(part.change);
    report.operations += part.change.operations();
  }
}

bool NftDataPlane::only_backends(const model::Desired& desired,
                                 std::span<const std::size_t> changed) const {
  if (!log_.clean() || !desired_ || desired_->services.size() != desired.services.size())
    return false;
  return std::ranges::all_of(changed, [&](std::size_t at) {
    const model::ServicePort& service = desired.services.at(at);
    return model::same_but_backends(desired_->services[at], service) &&
           actual_.pools.contains(model::nft_chain_name(service.id()));
  });
}

// --- Routes
// -------------------------------------------------------------------------------------

NftDataPlane::Routes NftDataPlane::wanted_routes(const model::Desired& desired,
                                                 ApplyReport& report) const {
  std::vector<plan::Issue> issues;
  plan::OverlayOptions options = overlay_options(config_, links_);
  options.vips = false;  // those that are served are added below
  const plan::Overlay overlay = plan::desired_overlay(desired, options, issues);
  for (const plan::Issue& issue : issues)
    report.errors.push_back({issue.object, issue.error});
  IpAddress source_v4, source_v6;
  Routes routes;
  for (const plan::OverlayRoute& route : overlay.routes) {
    (route.destination.is_v4() ? source_v4 : source_v6) = route.source;
    kernel::Route& to = routes[route.destination] = kernel_route(route, links_);
    const auto node = overlay.nodes.find(route.destination);
    if (node != overlay.nodes.end() && !node->second.native &&
        !node->second.underlay.is_unspecified())
      to.encap = kernel::RouteEncap{kPodVni, node->second.underlay};
  }
  const auto add = [&](const IpPrefix& destination) {
    routes.try_emplace(
        destination,
        kernel_route({destination, destination.is_v4() ? source_v4 : source_v6, {}, 0}, links_));
  };
  const bool ipv6 = config_.ipv6;
  const auto& ranges = desired.cluster_cidrs;
  for (const IpPrefix& range : ranges)
    if (range.is_v4() || ipv6)
      add(range);
  for (const IpAddress& vip : actual_.held.vips)
    if ((vip.is_v4() || ipv6) &&
        std::ranges::none_of(ranges, [&](const IpPrefix& range) { return range.contains(vip); }))
      add(IpPrefix::host(vip));
  return routes;
}

void NftDataPlane::apply_routes(const model::Desired& desired, ApplyReport& report) {
  const Routes wanted = wanted_routes(desired, report);
  for (const auto& [destination, route] : wanted) {
    const auto now = routes_.find(destination);
    if (now != routes_.end() && now->second == route)
      continue;
    if (Result<> done = kernel_.rtnl->replace_route(route); !done) {
      report.errors.push_back({"route " + destination.to_string(), std::move(done).error()});
      continue;
    }
    routes_[destination] = route;
    report.operations++;
  }
  if (!prune_allowed_)
    return;
  for (auto at = routes_.begin(); at != routes_.end();) {
    if (wanted.contains(at->first)) {
      ++at;
      continue;
    }
    Result<> done = kernel_.rtnl->delete_route(at->second);
    if (!done && done.error().code() != Errc::kNotFound) {
      report.errors.push_back({"route " + at->first.to_string(), std::move(done).error()});
      ++at;
      continue;
    }
    at = routes_.erase(at);
    report.operations++;
  }
}

// --- Announced addresses
// ------------------------------------------------------------------------

void NftDataPlane::apply_proxies(const model::Desired& desired, ApplyReport& report) {
  std::set<kernel::Proxy> wanted;
  for (const IpAddress& ip : desired.announced_vips)
    // What is not routed elsewhere the kernel would not answer for.
    if (actual_.held.vips.contains(ip) && routes_.contains(IpPrefix::host(ip)))
      wanted.insert({kernel::uplink_towards(links_.uplinks, ip).index, ip});
  // While the view is incomplete, who else is alive is not known: each address stays where it is.
  for (const kernel::Proxy& proxy : wanted) {
    if (proxies_.contains(proxy) || !prune_allowed_)
      continue;
    if (Result<> done = kernel_.rtnl->replace_proxy(proxy); !done) {
      report.errors.push_back({"address " + proxy.ip.to_string(), std::move(done).error()});
      continue;
    }
    proxies_.insert(proxy);
    report.operations++;
  }
  std::set<IpAddress> announced;
  if (prune_allowed_)
    std::erase_if(proxies_, [&](const kernel::Proxy& proxy) {
      if (wanted.contains(proxy))
        return false;
      Result<> done = kernel_.rtnl->delete_proxy(proxy);
      if (!done && done.error().code() != Errc::kNotFound) {
        report.errors.push_back({"address " + proxy.ip.to_string(), std::move(done).error()});
        return false;
      }
      report.operations++;
      return true;
    });
  for (const kernel::Proxy& proxy : proxies_)
    if (wanted.contains(proxy))
      announced.insert(proxy.ip);
  announcements_.set(announced, report.errors);
}

// --- UDP flows
// ----------------------------------------------------------------------------------

// What is compared is cheap and rare: a cluster has few UDP services.
void NftDataPlane::note_udp_changes(const model::Desired& next) {
  const UdpServices after = udp_services(next);
  const UdpServices before = desired_ ? udp_services(*desired_) : UdpServices();
  for (const auto& [id, service] : after) {
    const auto at = before.find(id);
    udp_stale_ = udp_stale_ || at == before.end() || at->second->backends != service->backends ||
                 at->second->frontends != service->frontends;
    for (const model::Frontend& frontend : service->frontends)
      udp_gone_.erase(key_of(frontend));
  }
  for (const auto& [id, service] : before) {
    const auto at = after.find(id);
    if (at != after.end() && at->second->frontends == service->frontends)
      continue;
    for (const model::Frontend& frontend : service->frontends) {
      const bool kept = std::ranges::any_of(after, [&](const auto& other) {
        return std::ranges::any_of(other.second->frontends, [&](const model::Frontend& f) {
          return key_of(f) == key_of(frontend);
        });
      });
      if (!kept)
        udp_gone_.insert(key_of(frontend));
    }
    udp_stale_ = true;
  }
}

// A flow through a frontend goes on only towards one that is a backend of it still, be it a
// draining one. One that began before the frontend was there leads nowhere.
void NftDataPlane::forget_stale_udp(std::vector<ObjectError>& errors) {
  if (!udp_stale_ || !desired_ || !prune_allowed_ || clock_.now() < next_udp_look_)
    return;
  std::map<SocketAddress, std::set<SocketAddress>> backends;
  for (const model::FrontendKey& key : udp_gone_)
    backends[{key.ip, key.port}];
  for (const auto& [id, service] : udp_services(*desired_))
    for (const model::Frontend& frontend : service->frontends)
      for (const model::Backend& backend : service->backends)
        backends[{frontend.ip, frontend.port}].insert({backend.ip, backend.port});
  auto forgotten = kernel_.conntrack->forget_udp([&](const kernel::UdpFlow& flow) {
    const auto at = backends.find(flow.destination);
    return at != backends.end() && !at->second.contains(flow.backend);
  });
  if (!forgotten) {
    next_udp_look_ = clock_.now() + kUdpLookAgain;
    errors.push_back(
        {"UDP flows", std::move(forgotten).error().wrap("forget those to backends that are gone")});
    return;
  }
  next_udp_look_ = clock_.now() + kUdpLookInterval;
  udp_stale_ = false;
  udp_gone_.clear();
}

// --- All of it
// ----------------------------------------------------------------------------------

ApplyReport NftDataPlane::apply(const model::Desired& desired, bool prune_allowed,
                                std::optional<std::span<const std::size_t>> changed) {
  ApplyReport report;
  if (auto refused = refuse_other_host(desired, config_.node_name)) {
    report.errors.push_back(std::move(*refused));
    return report;
  }
  if (changed && prune_allowed_ == prune_allowed && only_backends(desired, *changed)) {
    for (const std::size_t at : *changed) {
      udp_stale_ = udp_stale_ || desired.services[at].proto == L4Proto::kUdp;
      desired_->services[at] = desired.services[at];
    }
    plan::NftPlan plan = plan::plan_nft_backends(desired, *changed, actual_, options());
    apply_services(plan, report);
    log_.applied(report);
    return report;
  }
  if (log_.clean() && desired_ && prune_allowed_ == prune_allowed && *desired_ == desired)
    return report;
  note_udp_changes(desired);
  desired_ = desired;
  prune_allowed_ = prune_allowed;

  plan::NftPlan plan = plan::plan_nft_services(desired, setup(), actual_, options());
  apply_services(plan, report);
  actual_.learn(plan);
  apply_routes(desired, report);
  report.operations += masquerade_.apply(desired, prune_allowed, report.errors) ? 1 : 0;
  apply_proxies(desired, report);
  // What one object lacks is no reason to have two data planes.
  if (prune_allowed && actual_.held.setup == setup().digest() && !bpf_removed_) {
    if (Result<> done = kernel_.remove_bpf(); done)
      bpf_removed_ = true;
    else
      report.errors.push_back({"BPF programs", std::move(done).error()});
  }
  log_.applied(report);
  return report;
}

// As BpfDataPlane::mend_routes().
void NftDataPlane::mend_routes() {
  Result<Routes> routes = read_routes();
  if (!routes || !desired_ || std::ranges::includes(*routes, routes_))
    return;
  routes_ = *std::move(routes);
  ApplyReport mended;
  apply_routes(*desired_, mended);
  log_.mended(mended.operations);
  log_.failed(mended.errors.size());
}

bool NftDataPlane::tick() {
  std::vector<ObjectError> errors;
  announcements_.send_due(errors);
  forget_stale_udp(errors);
  log_.failed(errors.size());
  const kernel::Stir seen =
      uplink_watch_.look(kernel_.links_stirred, *kernel_.rtnl, config_, links_, clock_);
  if (seen.routes)
    mend_routes();
  return seen.uplinks;
}

}  // namespace shoal::apply
