// SPDX-License-Identifier: Apache-2.0
// Opening: devices, programs, and finding again what an earlier agent left.
#include "netplane/apply/bpf_data_plane.h"

#include "netplane/kernel/rtnl/pod_net.h"

#include <fmt/format.h>

namespace shoal::apply {
namespace {

plan::Limits limits_of(const kernel::MapSizes& sizes) {
  return {sizes.services, sizes.frontends, sizes.vips, sizes.backends, sizes.ring_blocks};
}

IpAddress elsewhere() { return IpAddress::v4(UINT32_MAX); }  // no host's own

}  // namespace

BpfDataPlane::BpfDataPlane(const Config& config, KernelPorts kernel, const Clock& clock)
    : config_(config), kernel_(std::move(kernel)), clock_(clock) {}

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
  announcer_ = SHOAL_TRY(kernel_.open_announcer(uplink_));
  // Maps that are new while earlier programs serve from others: those go on until these are filled.
  const bool empty = actual_.frontends().empty() && pods_.empty();
  if (empty && SHOAL_TRY(kernel_.programs->attached_before()))
    return {};
  return attach_programs();
}

Result<> BpfDataPlane::ensure_links() {
  uplink_ = SHOAL_TRY_WRAP(kernel::find_uplink(*kernel_.rtnl, config_.uplink, config_.underlay),
                           "find the uplink");
  const std::uint32_t mtu_min = config_.ipv6 ? kPodMtuMinV6 : kPodMtuMin;
  if (uplink_.mtu < mtu_min + kOverlayOverheadBytes)
    return fail(Errc::kInvalid,
                fmt::format("the uplink {} has an MTU of {}; the overlay needs {}", uplink_.name,
                            uplink_.mtu, mtu_min + kOverlayOverheadBytes));
  pod_mtu_ = config_.mtu != 0 ? config_.mtu : uplink_.mtu - kOverlayOverheadBytes;
  if (pod_mtu_ < mtu_min || pod_mtu_ + kOverlayOverheadBytes > uplink_.mtu)
    return fail(Errc::kInvalid,
                fmt::format("pod MTU {} (network.mtu) does not fit: it must be {} to {}, since the "
                            "uplink {} has {} "
                            "and the overlay adds {}",
                            pod_mtu_, mtu_min, uplink_.mtu - kOverlayOverheadBytes, uplink_.name,
                            uplink_.mtu, kOverlayOverheadBytes));
  kernel::VxlanSpec spec;
  spec.name = kOverlayLink;
  spec.mac = MacAddress::from_name(fmt::format("{}/{}", kOverlayLink, config_.node_name));
  spec.port = config_.vxlan_port;
  spec.mtu = pod_mtu_;
  overlay_ = SHOAL_TRY_WRAP(kernel::ensure_overlay(*kernel_.rtnl, spec, config_.ipv6),
                            fmt::format("make the device {}", kOverlayLink));
  SHOAL_TRY_WRAP(kernel::prepare_host(*kernel_.rtnl, uplink_, config_.ipv6),
                 "prepare the host for forwarding");
  for (const auto family : {IpFamily::kV4, IpFamily::kV6}) {
    if (family == IpFamily::kV6 && !config_.ipv6)
      continue;
    kernel::Neighbour gateway;
    gateway.link = overlay_.index;
    gateway.ip = plan::overlay_gateway(family);
    gateway.mac = plan::overlay_gateway_mac();
    SHOAL_TRY(kernel_.rtnl->replace_neighbour(gateway));
  }
  return {};
}

Result<> BpfDataPlane::recover() {
  const model::DataPlane maps = SHOAL_TRY(kernel_.maps->read());
  actual_ = plan::Actual::recover(maps, limits_of(kernel_.maps->sizes()));
  pods_ = maps.pods;
  overlay_actual_.nodes = maps.nodes;
  overlay_actual_.routes = SHOAL_TRY(read_routes());
  // What is announced already is repeated in its time, not all at once.
  for (const auto& [ip, entry] : maps.vips)
    if (entry.announced)
      announcements_[ip] = {clock_.now() + config_.announce_refresh, config_.announce_repeats + 1};
  return recover_nft();
}

Result<std::set<plan::OverlayRoute>> BpfDataPlane::read_routes() {
  std::set<plan::OverlayRoute> routes;
  for (const auto family : {IpFamily::kV4, IpFamily::kV6})
    for (const kernel::Route& route : SHOAL_TRY(kernel_.rtnl->routes(family))) {
      if (route.link != overlay_.index || route.protocol != kernel::kRouteProtocolShoal)
        continue;
      // One that leads elsewhere than ours would is known by another source, and so replaced.
      const plan::OverlayRoute ours{route.destination, route.source.value_or(IpAddress())};
      if (kernel_route(ours) == route)
        routes.insert(ours);
      else
        routes.insert({route.destination, elsewhere()});
    }
  return routes;
}

// A table that is ours and right is left alone: nothing changes in the kernel on a restart.
Result<> BpfDataPlane::recover_nft() {
  nft_.reset();
  const std::string held = SHOAL_TRY(kernel_.nft->dump());
  if (held.empty())
    nft_.emplace(std::nullopt);
  return {};
}

Result<> BpfDataPlane::attach_programs() {
  SHOAL_TRY(kernel_.programs->attach_host(uplink_, overlay_));
  for (const kernel::Link& link : SHOAL_TRY(kernel::pod_links(*kernel_.rtnl)))
    SHOAL_TRY_WRAP(kernel_.programs->attach_pod(link.index), "attach to " + link.name);
  SHOAL_TRY(kernel_.programs->sweep());
  programs_attached_ = true;
  return {};
}

}  // namespace shoal::apply
