// SPDX-License-Identifier: Apache-2.0
// Looking whether the kernel still is what we believe it to be, and mending what is not.
#include "netplane/apply/bpf_data_plane.h"

#include "netplane/plan/lb.h"

#include <fmt/format.h>

namespace shoal::apply {
namespace {

std::string text(const model::FrontendKey& key) {
  return fmt::format("{}/{}", SocketAddress{key.ip, key.port}.to_string(), to_string(key.proto));
}

}  // namespace

AuditReport BpfDataPlane::audit() {
  AuditReport report;
  audit_links(report);
  const Result<model::DataPlane> maps = kernel_.maps->read();
  if (!maps) {
    report.errors.push_back({"maps", Error(maps.error()).wrap("read them")});
  } else {
    audit_overlay(*maps, report);
    audit_pods(*maps, report);
    audit_backends(*maps, report);
    audit_services(*maps, report);
  }
  if (desired_ && masquerade_.audit(*desired_, prune_allowed_, report.errors))
    report.findings.push_back("the table inet shoal was changed");
  log_.audited(report);
  return report;
}

// The device, its neighbour and the programs: made again by the same steps as at the start.
void BpfDataPlane::audit_links(AuditReport& report) {
  const HostLinks before = links_;
  if (Result<> done = ensure_links(); !done) {
    report.errors.push_back({"links", std::move(done).error()});
    return;
  }
  note_uplinks(before, links_, report);
  if (before.overlay.index != links_.overlay.index)
    report.findings.push_back(fmt::format("the device {} was gone", links_.overlay.name));
  announcer_is_old_ = announcer_is_old_ || moved(before.uplinks, links_.uplinks);
  if (announcer_is_old_) {
    auto opened = kernel_.open_announcer(links_.uplinks);
    announcer_is_old_ = !opened;
    if (opened)
      announcements_.use(*std::move(opened), report.errors);
    else
      report.errors.push_back({"uplinks", std::move(opened).error()});
  }
  if (Result<> done = set_host(); !done)
    report.errors.push_back({"host " + config_.node_name, std::move(done).error()});
  if (!programs_attached_)
    return;
  if (Result<> done = kernel_.programs->attach_host(links_.uplinks, links_.overlay); !done)
    report.errors.push_back({"BPF programs", std::move(done).error()});
}

void BpfDataPlane::audit_overlay(const model::DataPlane& maps, AuditReport& report) {
  Result<std::set<plan::OverlayRoute>> routes = read_routes();
  if (!routes) {
    report.errors.push_back({"routes", std::move(routes).error().wrap("read them")});
    return;
  }
  for (const plan::OverlayRoute& route : overlay_actual_.routes)
    if (!routes->contains(route))
      report.findings.push_back(
          fmt::format("the route to {} was gone", route.destination.to_string()));
  for (const auto& [cidr, entry] : overlay_actual_.nodes) {
    const auto now = maps.nodes.find(cidr);
    if (now == maps.nodes.end() || now->second != entry)
      report.findings.push_back(fmt::format("the map entry of {} was changed", cidr.to_string()));
  }
  overlay_actual_ = {maps.nodes, *std::move(routes)};
  if (!desired_)
    return;
  ApplyReport mended;
  const plan::OverlayPlan plan = overlay_plan(*desired_);
  set_overlay(plan, mended);
  delete_overlay(plan, mended);
  log_.mended(mended.operations);
  report.errors.insert(report.errors.end(), mended.errors.begin(), mended.errors.end());
}

void BpfDataPlane::audit_pods(const model::DataPlane& maps, AuditReport& report) {
  for (const auto& [ip, entry] : pods_) {
    const auto now = maps.pods.find(ip);
    if (now != maps.pods.end() && now->second == entry)
      continue;
    report.findings.push_back(fmt::format("the map entry of pod {} was changed", ip.to_string()));
    if (Result<> done = kernel_.maps->put_pod(ip, entry); !done)
      report.errors.push_back({"pod " + ip.to_string(), std::move(done).error()});
  }
}

// Entries that stand for themselves are written again as they should be.
void BpfDataPlane::audit_backends(const model::DataPlane& maps, AuditReport& report) {
  std::vector<kernel::BackendWrite> backends;
  for (const auto& [id, entry] : maps.backends)
    if (entry.valid && actual_.backend(id) == nullptr)
      report.findings.push_back(fmt::format("backend {} is in the map and nobody's", id));
  const auto check = [&](model::BackendId id) {
    const model::BackendEntry& ours = *actual_.backend(id);
    const auto now = maps.backends.find(id);
    if (now != maps.backends.end() && now->second == ours)
      return;
    report.findings.push_back(fmt::format("the map entry of backend {} was changed", id));
    backends.push_back({id, ours});
  };
  for (const plan::ServiceState& service : actual_.services())
    for (const plan::SlotCount& owned : service.backends)
      check(owned.id);
  for (const auto& [id, stray] : actual_.strays())
    check(id);
  if (!backends.empty())
    if (Result<> done = kernel_.maps->put_backends(backends); !done)
      report.errors.push_back({"backends", std::move(done).error().wrap("write them again")});
}

void BpfDataPlane::audit_source_ranges(const model::DataPlane& maps, AuditReport& report) {
  const auto mend = [&](model::ServiceIndex service, const IpPrefix& range, bool ours) {
    report.findings.push_back(fmt::format("source range {} of service index {} was {}",
                                          range.to_string(), service, ours ? "gone" : "added"));
    if (Result<> done = ours ? kernel_.maps->put_source_range(service, range)
                             : kernel_.maps->delete_source_range(service, range);
        !done)
      report.errors.push_back({"source range " + range.to_string(), std::move(done).error()});
  };
  const auto compare = [&](const auto& here, const auto& there, bool ours) {
    for (const auto& [service, ranges] : here) {
      const auto other = there.find(service);
      for (const IpPrefix& range : ranges)
        if (other == there.end() || !other->second.contains(range))
          mend(service, range, ours);
    }
  };
  compare(actual_.source_ranges(), maps.source_ranges, true);
  compare(maps.source_ranges, actual_.source_ranges(), false);
}

void BpfDataPlane::audit_services(const model::DataPlane& maps, AuditReport& report) {
  std::vector<kernel::FrontendWrite> frontends;
  std::vector<model::FrontendKey> strangers;
  for (const auto& [key, entry] : actual_.frontends()) {
    const auto now = maps.frontends.find(key);
    if (now != maps.frontends.end() && now->second == entry)
      continue;
    report.findings.push_back(fmt::format("the map entry of frontend {} was changed", text(key)));
    frontends.push_back({key, entry});
  }
  for (const auto& [key, entry] : maps.frontends) {
    if (actual_.frontends().contains(key))
      continue;
    report.findings.push_back(fmt::format("frontend {} is in the map and nobody's", text(key)));
    strangers.push_back(key);
  }
  const auto mend = [&](Result<> done, std::string_view object) {
    if (!done)
      report.errors.push_back({std::string(object), std::move(done).error().wrap("mend it")});
  };
  if (!frontends.empty())
    mend(kernel_.maps->put_frontends(frontends), "frontends");
  if (!strangers.empty())
    mend(kernel_.maps->delete_frontends(strangers), "frontends");
  audit_source_ranges(maps, report);
  for (const auto& [ip, entry] : actual_.vips()) {
    const auto now = maps.vips.find(ip);
    if (now != maps.vips.end() && now->second == entry)
      continue;
    report.findings.push_back(
        fmt::format("the map entry of address {} was changed", ip.to_string()));
    mend(kernel_.maps->put_vips(std::array{kernel::VipWrite{ip, entry}}),
         "address " + ip.to_string());
  }
  for (const auto& [ip, entry] : maps.vips) {
    if (actual_.vips().contains(ip))
      continue;
    report.findings.push_back(fmt::format("address {} is in the map and nobody's", ip.to_string()));
    mend(kernel_.maps->delete_vip(ip), "address " + ip.to_string());
  }
  // A ring is never mended in place: it is written elsewhere and switched to.
  bool any = false;
  for (model::ServiceIndex index = 0; index < actual_.services().size(); index++) {
    const plan::ServiceState* service = actual_.service(index);
    const auto now = maps.rings.find(index);
    const bool holds = now != maps.rings.end();
    if (service == nullptr
            ? !holds
            : holds == !service->ring.empty() &&
                  (!holds || (now->second.ref == service->ring &&
                              plan::ring_digest(now->second.backends) == service->ring_content)))
      continue;
    report.findings.push_back(fmt::format("the ring of service index {} was changed", index));
    if (service == nullptr) {
      mend(kernel_.maps->switch_ring(index, {}), fmt::format("ring {}", index));
    } else {
      actual_.distrust_ring(index);
      any = true;
    }
  }
  if (!any || !desired_)
    return;
  ApplyReport mended;
  apply_services(*desired_, prune_allowed_, mended);
  log_.mended(mended.operations);
  report.errors.insert(report.errors.end(), mended.errors.begin(), mended.errors.end());
}

}  // namespace shoal::apply
