// SPDX-License-Identifier: Apache-2.0
// Opening: devices, programs, and finding again what an earlier agent left.
#include "netplane/apply/bpf_data_plane.h"

#include "netplane/kernel/rtnl/pod_net.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::apply {
namespace {

plan::Limits limits_of(const kernel::MapSizes& sizes) {
  return {sizes.services, sizes.frontends, sizes.vips, sizes.backends, sizes.ring_blocks};
}

IpAddress elsewhere() { return IpAddress::v4(UINT32_MAX); }  // no host's own

}  // namespace

BpfDataPlane::BpfDataPlane(const Config& config, KernelPorts kernel, const Clock& clock)
    : config_(config), kernel_(std::move(kernel)), clock_(clock),
      masquerade_(*kernel_.nft, config_), announcements_(config_, clock_) {}

BpfDataPlane::~BpfDataPlane() = default;

Result<std::unique_ptr<BpfDataPlane>> BpfDataPlane::open(const Config& config, const Clock& clock) {
  auto kernel = SHOAL_TRY_WRAP(open_kernel_ports(config), "open the data plane");
  return open_with(config, std::move(kernel), clock);
}

Result<std::unique_ptr<BpfDataPlane>>
BpfDataPlane::open_with(const Config& config, KernelPorts kernel, const Clock& clock) {
  std::unique_ptr<BpfDataPlane> plane(new BpfDataPlane(config, std::move(kernel), clock));
  SHOAL_TRY_WRAP(plane->start(), "open the data plane");
  return plane;
}

Result<> BpfDataPlane::start() {
  SHOAL_TRY(ensure_links());
  SHOAL_TRY_WRAP(recover(), "read what the kernel holds");
  SHOAL_TRY(set_host());
  std::vector<ObjectError> told_by_apply;
  announcements_.use(SHOAL_TRY(kernel_.open_announcer(links_.uplinks)), told_by_apply);
  // Maps that are new while earlier programs serve from others: those go on until these are filled.
  const bool empty = actual_.frontends().empty() && pods_.empty();
  if (empty && SHOAL_TRY(kernel_.programs->attached_before()))
    return {};
  return attach_programs();
}

Result<> BpfDataPlane::ensure_links() {
  links_ = SHOAL_TRY(ensure_host_links(*kernel_.rtnl, config_));
  return {};
}

Result<> BpfDataPlane::recover() {
  const model::DataPlane maps = SHOAL_TRY(kernel_.maps->read());
  actual_ = plan::Actual::recover(maps, limits_of(kernel_.maps->sizes()));
  host_ = maps.host;
  stack_backends_ = maps.host.stack_backends;
  snat_ = maps.host.snat;
  snat_seen_ = clock_.now();
  pods_ = maps.pods;
  overlay_actual_.nodes = maps.nodes;
  overlay_actual_.routes = SHOAL_TRY(read_routes());
  // What is announced already is repeated in its time, not all at once.
  for (const auto& [ip, entry] : maps.vips)
    if (entry.announced)
      announcements_.known(ip);
  return {};
}

Result<std::set<plan::OverlayRoute>> BpfDataPlane::read_routes() {
  std::set<plan::OverlayRoute> routes;
  for (const auto family : {IpFamily::kV4, IpFamily::kV6})
    for (const kernel::Route& route : SHOAL_TRY(kernel_.rtnl->routes(family))) {
      if (!is_between_hosts(route))
        continue;
      // One that leads elsewhere than ours would is known by another source, and so replaced.
      plan::OverlayRoute ours{route.destination, route.source.value_or(IpAddress()), {}, 0};
      if (route.link != links_.overlay.index) {
        ours.via = *route.gateway;
        ours.link = route.link;
      }
      if (kernel_route(ours, links_) != route)
        ours.source = elsewhere();
      routes.insert(ours);
    }
  return routes;
}

// Some host is reached by SNAT, or one was and its connections may go on.
void BpfDataPlane::look_at_snat() {
  const auto is_meant = [&](const model::Node& node) {
    return node.snat && node.name != config_.node_name;
  };
  if (config_.snat || (desired_ && std::ranges::any_of(desired_->nodes, is_meant))) {
    snat_ = true;
    snat_seen_ = clock_.now();
  } else if (clock_.now() - snat_seen_ > config_.snat_linger) {
    snat_ = false;
  }
}

// Before the first backend that is no pod, or is reached by SNAT, is published; and of the former
// never back: replies of its flows may still come.
Result<> BpfDataPlane::set_host() {
  look_at_snat();
  const model::HostEntry wanted{.v4 = uplink().address,
                                .v6 = uplink().address_v6.value_or(IpAddress()),
                                .stack_backends = stack_backends_,
                                .snat = snat_,
                                .native = config_.native_routes};
  if (host_ == wanted)
    return {};
  SHOAL_TRY_WRAP(kernel_.maps->put_host(wanted), "tell the programs about this host");
  host_ = wanted;
  return {};
}

Result<> BpfDataPlane::attach_programs() {
  SHOAL_TRY(kernel_.programs->attach_host(links_.uplinks, links_.overlay));
  for (const kernel::Link& link : SHOAL_TRY(kernel::pod_links(*kernel_.rtnl)))
    SHOAL_TRY_WRAP(kernel_.programs->attach_pod(link.index), "attach to " + link.name);
  SHOAL_TRY(kernel_.programs->sweep());
  programs_attached_ = true;
  return {};
}

}  // namespace shoal::apply
