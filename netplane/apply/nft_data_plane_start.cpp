// SPDX-License-Identifier: Apache-2.0
// Opening, wiring pods, and looking whether the kernel still is what we believe it to be.
#include "netplane/apply/nft_data_plane.h"
#include "netplane/kernel/rtnl/pod_net.h"
#include "netplane/plan/routes.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::apply {

NftDataPlane::NftDataPlane(const Config& config, NftPorts kernel, const Clock& clock)
    : config_(config), kernel_(std::move(kernel)), clock_(clock),
      masquerade_(*kernel_.nft, config_), announcements_(config_, clock_) {}

Result<std::unique_ptr<NftDataPlane>> NftDataPlane::open(const Config& config, const Clock& clock) {
  auto kernel = SHOAL_TRY_WRAP(open_nft_ports(config), "open the data plane");
  return open_with(config, std::move(kernel), clock);
}

Result<std::unique_ptr<NftDataPlane>> NftDataPlane::open_with(const Config& config, NftPorts kernel,
                                                              const Clock& clock) {
  std::unique_ptr<NftDataPlane> plane(new NftDataPlane(config, std::move(kernel), clock));
  SHOAL_TRY_WRAP(plane->start(), "open the data plane");
  return plane;
}

Result<> NftDataPlane::start() {
  SHOAL_TRY(ensure_links());
  actual_.held = SHOAL_TRY_WRAP(kernel_.services->read(), "read the service table");
  routes_ = SHOAL_TRY(read_routes());
  for (const kernel::Proxy& proxy : SHOAL_TRY(kernel_.rtnl->proxies())) {
    proxies_.insert(proxy);  // those on a former uplink, too: they are taken away
    announcements_.known(proxy.ip);
  }
  std::vector<ObjectError> told_by_apply;
  return use_uplinks(told_by_apply);
}

// The kernel answers for announced addresses, and at once: its pause is for hosts that answer for
// others that may answer themselves.
Result<> NftDataPlane::use_uplinks(std::vector<ObjectError>& errors) {
  uplinks_used_ = false;
  for (const kernel::Uplink& uplink : links_.uplinks) {
    const auto set = [&](std::string_view key, std::string_view value) {
      return kernel_.rtnl->set_sysctl(fmt::format(fmt::runtime(key), uplink.name), value);
    };
    SHOAL_TRY_WRAP(set("ipv4/neigh/{}/proxy_delay", "0"), "prepare uplink " + uplink.name);
    if (!config_.ipv6)
      continue;
    SHOAL_TRY_WRAP(set("ipv6/neigh/{}/proxy_delay", "0"), "prepare uplink " + uplink.name);
    SHOAL_TRY_WRAP(set("ipv6/conf/{}/proxy_ndp", "1"), "prepare uplink " + uplink.name);
  }
  announcements_.use(SHOAL_TRY(kernel_.open_announcer(links_.uplinks)), errors);
  uplinks_used_ = true;
  return {};
}

Result<bool> NftDataPlane::ensure_links() {
  const HostLinks before = links_;
  links_ = SHOAL_TRY(ensure_host_links(*kernel_.rtnl, config_));
  const bool made = SHOAL_TRY_WRAP(
      kernel_.services->accept_overlay(links_.overlay.name, plan::overlay_gateway_mac()),
      "take in the overlay's frames");
  return made || before.overlay.index != links_.overlay.index;
}

Result<NftDataPlane::Routes> NftDataPlane::read_routes() const {
  Routes routes;
  for (const auto family : {IpFamily::kV4, IpFamily::kV6})
    for (const kernel::Route& route : SHOAL_TRY(kernel_.rtnl->routes(family)))
      if (is_between_hosts(route))
        routes[route.destination] = route;
  return routes;
}

// --- Pods
// ---------------------------------------------------------------------------------------

Result<model::LocalPod> NftDataPlane::attach_pod(const PodAttachment& attachment) {
  std::vector<IpAddress> ips;
  for (const model::PodAddress& address : attachment.addresses)
    ips.push_back(address.ip);
  const std::string what = fmt::format("attach pod {}", attachment.pod);
  const kernel::PodNetSpec spec = kernel::make_pod_net_spec(attachment.uid, ips, links_.pod_mtu);
  const bool wired_before = kernel_.rtnl->link(spec.host_link).has_value();
  auto pod_rtnl = SHOAL_TRY_WRAP(kernel_.open_pod_rtnl(attachment.netns_fd), what);
  const kernel::AttachedPod link =
      SHOAL_TRY_WRAP(kernel::attach_pod(*kernel_.rtnl, *pod_rtnl, spec), what);
  // Both ends know each other's MAC; who asks for the gateway all the same is answered. That of
  // IPv4 is the overlay's device's.
  Result<> ready;
  if (std::ranges::any_of(ips, &IpAddress::is_v6))
    ready = kernel_.rtnl->replace_address({.link = link.host_ifindex,
                                           .ip = kernel::pod_gateway(IpFamily::kV6),
                                           .prefix_length = 128,
                                           .scope = kernel::Scope::kLink});
  model::NftChange change;
  for (const IpAddress& ip : ips)
    if (!actual_.held.pods.contains(ip) && actual_.held.setup != 0)
      change.pods.add.push_back(ip);
  if (ready && !change.empty())
    ready = kernel_.services->commit(change);
  if (!ready) {
    if (!wired_before)
      static_cast<void>(kernel::detach_pod(*kernel_.rtnl, spec.host_link));
    return fail(std::move(ready).error().wrap(what));
  }
  actual_.note(change);
  attached_.insert(ips.begin(), ips.end());

  return wired_pod(attachment, link);
}

Result<bool> NftDataPlane::detach_pod(std::string_view uid, const std::vector<IpAddress>& ips,
                                      Detach how) {
  const kernel::PodNetSpec spec = kernel::make_pod_net_spec(uid, ips, links_.pod_mtu);
  const std::string what = fmt::format("detach pod {}", uid);
  const std::uint32_t device = SHOAL_TRY_WRAP(kernel_.rtnl->link_index(spec.host_link), what);
  // An address that leads to another pod by now is that one's.
  model::NftChange change;
  for (const auto family : {IpFamily::kV4, IpFamily::kV6}) {
    const auto held = [&](const IpAddress& ip) {
      return ip.family() == family && (attached_.contains(ip) || actual_.held.pods.contains(ip));
    };
    if (std::ranges::none_of(ips, held))
      continue;
    const auto routes = kernel_.rtnl->routes(family);
    for (const IpAddress& ip : ips) {
      if (!held(ip) || !routes)
        continue;
      const bool others = std::ranges::any_of(*routes, [&](const kernel::Route& route) {
        return route.destination == IpPrefix::host(ip) && route.link != device;
      });
      if (others)
        continue;
      attached_.erase(ip);
      if (actual_.held.pods.contains(ip))
        change.pods.remove.push_back(ip);
    }
  }
  Result<> first;
  if (!change.empty()) {
    first = kernel_.services->commit(change);
    if (first)
      actual_.note(change);
  }
  if (device != 0 && how == Detach::kNow)
    if (Result<> gone = kernel::detach_pod(*kernel_.rtnl, spec.host_link); first)
      first = std::move(gone);
  if (!first)
    return fail(std::move(first).error().wrap(what));
  return device == 0 || how == Detach::kNow;
}

// --- Audit
// --------------------------------------------------------------------------------------

AuditReport NftDataPlane::audit() {
  AuditReport report;
  const HostLinks before = links_;
  if (const Result<bool> mended = ensure_links(); !mended)
    report.errors.push_back({"links", Error(mended.error())});
  else if (*mended)
    report.findings.push_back(
        fmt::format("the device {} or its table was gone", links_.overlay.name));
  note_uplinks(before, links_, report);
  if (moved(before.uplinks, links_.uplinks) || !uplinks_used_) {
    if (Result<> done = use_uplinks(report.errors); !done)
      report.errors.push_back({"uplinks", std::move(done).error()});
  }
  if (auto held = kernel_.services->read(); !held) {
    report.errors.push_back({"service table", std::move(held).error()});
  } else if (*held != actual_.held) {
    report.findings.push_back("the table inet shoal-services was changed");
    actual_.held = *std::move(held);
  }
  if (auto routes = read_routes(); !routes) {
    report.errors.push_back({"routes", std::move(routes).error()});
  } else {
    for (const auto& [destination, route] : routes_)
      if (const auto now = routes->find(destination); now == routes->end() || now->second != route)
        report.findings.push_back(
            fmt::format("the route to {} was changed", destination.to_string()));
    routes_ = *std::move(routes);
  }
  if (const auto proxies = kernel_.rtnl->proxies()) {
    std::set<kernel::Proxy> held(proxies->begin(), proxies->end());
    if (held != proxies_)
      report.findings.push_back("the proxy entries of announced addresses were changed");
    proxies_ = std::move(held);
  }
  if (desired_) {
    ApplyReport mended;
    plan::NftPlan plan = plan::plan_nft_services(*desired_, setup(), actual_, options());
    apply_services(plan, mended);
    actual_.learn(plan);
    apply_routes(*desired_, mended);
    apply_proxies(*desired_, mended);
    if (masquerade_.audit(*desired_, prune_allowed_, mended.errors))
      report.findings.push_back("the table inet shoal was changed");
    log_.mended(mended.operations);
    report.errors.insert(report.errors.end(), mended.errors.begin(), mended.errors.end());
  }
  forget_stale_udp(report.errors);  // what tick() has only counted
  log_.audited(report);
  return report;
}

}  // namespace shoal::apply
