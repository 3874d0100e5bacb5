// SPDX-License-Identifier: Apache-2.0
#include "netplane/apply/bpf_data_plane.h"

#include "netplane/plan/lb.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::apply {
namespace {

// Each once; those beyond the end of one of the two are always among them.
std::vector<std::size_t> changed_places(std::size_t before, std::size_t now,
                                        std::span<const std::size_t> changed) {
  std::vector<std::size_t> places(changed.begin(), changed.end());
  for (std::size_t at = std::min(before, now); at < std::max(before, now); at++)
    places.push_back(at);
  std::ranges::sort(places);
  const auto doubles = std::ranges::unique(places);
  places.erase(doubles.begin(), doubles.end());
  return places;
}

// Its addresses outside of the service ranges get routes of their own.
bool changes_routes(const plan::ChangedService& service) {
  for (const model::ServicePort* port : {service.before, service.now})
    if (port != nullptr && std::ranges::any_of(port->frontends, [](const model::Frontend& each) {
          return each.kind == model::FrontendKind::kLoadBalancer ||
                 each.kind == model::FrontendKind::kExternalIp;
        }))
      return true;
  return false;
}

}  // namespace

// --- The overlay: hosts first, then routes to them; removed in reverse
// ------------------------------

plan::OverlayPlan BpfDataPlane::overlay_plan(const model::Desired& desired) const {
  return plan::plan_overlay(desired, overlay_actual_, prune_allowed_,
                            overlay_options(config_, links_));
}

void BpfDataPlane::set_overlay(const plan::OverlayPlan& plan, ApplyReport& report) {
  for (const plan::Issue& issue : plan.issues)
    report.errors.push_back({issue.object, issue.error});
  std::set<IpPrefix> failed;
  for (const auto& [cidr, entry] : plan.set_nodes) {
    if (Result<> done = kernel_.maps->put_node(cidr, entry); !done) {
      failed.insert(cidr);
      report.errors.push_back({"pod CIDR " + cidr.to_string(),
                               std::move(done).error().wrap("write the host's map entry")});
      continue;
    }
    overlay_actual_.nodes[cidr] = entry;
    report.operations++;
  }
  for (const plan::OverlayRoute& route : plan.set_routes) {
    if (failed.contains(route.destination))
      continue;
    if (Result<> done = kernel_.rtnl->replace_route(kernel_route(route, links_)); !done) {
      report.errors.push_back({"route " + route.destination.to_string(), std::move(done).error()});
      continue;
    }
    std::erase_if(overlay_actual_.routes,
                  [&](const auto& old) { return old.destination == route.destination; });
    overlay_actual_.routes.insert(route);
    report.operations++;
  }
}

void BpfDataPlane::delete_overlay(const plan::OverlayPlan& plan, ApplyReport& report) {
  std::set<IpPrefix> failed;
  for (const plan::OverlayRoute& route : plan.delete_routes) {
    Result<> done = kernel_.rtnl->delete_route(kernel_route(route, links_));
    if (!done && done.error().code() != Errc::kNotFound) {
      failed.insert(route.destination);
      report.errors.push_back({"route " + route.destination.to_string(), std::move(done).error()});
      continue;
    }
    overlay_actual_.routes.erase(route);
    report.operations++;
  }
  for (const IpPrefix& cidr : plan.delete_nodes) {
    if (failed.contains(cidr))
      continue;
    if (Result<> done = kernel_.maps->delete_node(cidr); !done) {
      report.errors.push_back({"pod CIDR " + cidr.to_string(),
                               std::move(done).error().wrap("delete the host's map entry")});
      continue;
    }
    overlay_actual_.nodes.erase(cidr);
    report.operations++;
  }
}

// --- Pods
// -------------------------------------------------------------------------------------------

void BpfDataPlane::apply_pods(const model::Desired& desired, bool prune, ApplyReport& report) {
  std::set<IpAddress> wanted;
  for (const model::LocalPod& pod : desired.pods)
    for (const auto& [ip, generation] : pod.addresses) {
      wanted.insert(ip);
      if (pod.host_ifindex == 0 || attached_.contains(ip))
        continue;  // not wired yet, or known better from attach_pod
      const model::PodEntry entry{pod.host_ifindex, generation, pod.pod_mac, pod.host_mac};
      const auto now = pods_.find(ip);
      if (now != pods_.end() && now->second == entry)
        continue;
      if (Result<> done = kernel_.maps->put_pod(ip, entry); !done) {
        report.errors.push_back(
            {"pod " + pod.pod, std::move(done).error().wrap("write its map entry")});
        continue;
      }
      pods_[ip] = entry;
      report.operations++;
    }
  if (!prune)
    return;
  for (auto at = pods_.begin(); at != pods_.end();) {
    if (wanted.contains(at->first) || attached_.contains(at->first)) {
      ++at;
    } else if (Result<> done = kernel_.maps->delete_pod(at->first); !done) {
      report.errors.push_back({"pod address " + at->first.to_string(),
                               std::move(done).error().wrap("delete its map entry")});
      ++at;
    } else {
      at = pods_.erase(at);
      report.operations++;
    }
  }
}

// --- Services
// ---------------------------------------------------------------------------------------

void BpfDataPlane::run(const plan::Plan& plan, ApplyReport& report) {
  for (const plan::Issue& issue : plan.issues)
    report.errors.push_back({issue.object, issue.error});
  stack_backends_ = stack_backends_ || plan.has_stack_backends();
  if (stack_backends_ && !host_->stack_backends)
    if (Result<> done = set_host(); !done)
      report.errors.push_back({"host " + config_.node_name, std::move(done).error()});
  PlanRunner runner(*kernel_.maps, actual_, ++round_);
  runner.run(plan);
  report.operations += runner.operations();
  for (ObjectError& error : runner.errors())
    report.errors.push_back(std::move(error));
  if (actual_.waiting())
    rounds_.emplace_back(round_, clock_.now());
}

void BpfDataPlane::apply_services(const model::Desired& desired, bool prune, ApplyReport& report) {
  const plan::Plan plan = plan::plan_services(desired, actual_, {.prune = prune});
  index_of_.clear();
  for (const plan::Learned& learned : plan.learned)
    index_of_.emplace_hint(index_of_.end(), learned.name, learned.service);
  run(plan, report);
}

// Nothing when all has to be looked at.
std::optional<plan::Plan> BpfDataPlane::plan_at(const model::Desired& desired,
                                                std::span<const std::size_t> changed) const {
  if (!log_.clean() || !desired_)
    return std::nullopt;
  const bool routes_vips = overlay_options(config_, links_).vips;
  std::map<std::string, plan::ChangedService> by_id;
  for (const std::size_t at :
       changed_places(desired_->services.size(), desired.services.size(), changed)) {
    if (at < desired_->services.size()) {
      const model::ServicePort& before = desired_->services[at];
      plan::ChangedService& service = by_id[before.id()];
      const auto index = index_of_.find(before.id());
      if (std::exchange(service.before, &before) != nullptr || index == index_of_.end())
        return std::nullopt;
      service.index = index->second;
    }
    if (at < desired.services.size()) {
      const model::ServicePort& now = desired.services[at];
      if (std::exchange(by_id[now.id()].now, &now) != nullptr)
        return std::nullopt;
    }
  }
  std::vector<plan::ChangedService> services;
  for (const auto& [id, service] : by_id) {
    if (service.before != nullptr && service.now != nullptr && *service.before == *service.now)
      continue;  // only stands elsewhere
    if (service.before == nullptr && index_of_.contains(id))
      return std::nullopt;  // given twice
    if (routes_vips && changes_routes(service))
      return std::nullopt;
    services.push_back(service);
  }
  return plan::plan_changes(desired, services, actual_, {.prune = prune_allowed_});
}

// Takes over what is desired there, and which index each service has by the plan.
void BpfDataPlane::follow(const model::Desired& desired, std::span<const std::size_t> changed,
                          const plan::Plan& plan) {
  auto& services = desired_->services;
  const auto places = changed_places(services.size(), desired.services.size(), changed);
  std::map<std::string, model::ServiceIndex> before;
  for (const std::size_t at : places)
    if (at < services.size())
      before.insert(index_of_.extract(services[at].id()));
  services.resize(desired.services.size());
  for (const plan::Learned& learned : plan.learned)
    index_of_[learned.name] = learned.service;
  for (const std::size_t at : places) {
    if (at >= services.size())
      continue;
    services[at] = desired.services[at];
    if (const auto index = before.find(services[at].id()); index != before.end())
      index_of_.insert(*index);  // where the plan did not say anything of it
  }
}

void BpfDataPlane::release_after_grace() {
  std::optional<plan::Stamp> due;
  while (!rounds_.empty() && clock_.now() - rounds_.front().second >= config_.grace) {
    due = rounds_.front().first;
    rounds_.pop_front();
  }
  if (!due || !actual_.release(*due))
    return;
  const plan::Plan frees = plan::plan_frees(actual_);
  if (frees.empty())
    return;
  ApplyReport report;
  run(frees, report);
  log_.worked(report);
}

// --- Announcements
// ----------------------------------------------------------------------------------

void BpfDataPlane::apply_announcements(const model::Desired& desired, ApplyReport& report) {
  std::set<IpAddress> wanted;
  for (const IpAddress& ip : desired.announced_vips) {
    // Not before the uplink's program answers for it: an entry that could not be written is not
    // ours.
    const auto entry = actual_.vips().find(ip);
    if (entry != actual_.vips().end() && entry->second.announced)
      wanted.insert(ip);
  }
  announcements_.set(wanted, report.errors);
}

// --- All of it
// --------------------------------------------------------------------------------------

ApplyReport BpfDataPlane::apply(const model::Desired& desired, bool prune_allowed,
                                std::optional<std::span<const std::size_t>> changed) {
  ApplyReport report;
  if (auto refused = refuse_other_host(desired, config_.node_name)) {
    report.errors.push_back(std::move(*refused));
    return report;
  }
  if (changed && prune_allowed_ == prune_allowed)
    if (const auto plan = plan_at(desired, *changed)) {
      follow(desired, *changed, *plan);
      run(*plan, report);
      log_.applied(report);
      return report;
    }
  if (log_.clean() && desired_ && prune_allowed_ == prune_allowed && *desired_ == desired)
    return report;
  desired_ = desired;
  prune_allowed_ = prune_allowed;

  if (Result<> done = set_host(); !done)
    report.errors.push_back({"host " + config_.node_name, std::move(done).error()});
  const plan::OverlayPlan overlay = overlay_plan(desired);
  set_overlay(overlay, report);
  apply_pods(desired, prune_allowed, report);
  apply_services(desired, prune_allowed, report);
  delete_overlay(overlay, report);
  report.operations += masquerade_.apply(desired, prune_allowed, report.errors) ? 1 : 0;
  if (!programs_attached_ && prune_allowed)
    if (Result<> done = attach_programs(); !done)
      report.errors.push_back({"BPF programs", std::move(done).error()});
  apply_announcements(desired, report);
  // What one object lacks is no reason to have two data planes.
  if (prune_allowed && programs_attached_ && std::exchange(nftables_left_, false))
    if (Result<> done = kernel_.remove_nftables(); !done) {
      nftables_left_ = true;
      report.errors.push_back({"nftables", std::move(done).error()});
    }
  log_.applied(report);
  return report;
}

// Those to other hosts that went with a link or an address, which may be back by now. What cannot
// be set yet is looked at again with the next change, or by the audit.
void BpfDataPlane::mend_routes() {
  Result<std::set<plan::OverlayRoute>> routes = read_routes();
  if (!routes || !desired_ || std::ranges::includes(*routes, overlay_actual_.routes))
    return;
  overlay_actual_.routes = *std::move(routes);
  ApplyReport mended;
  set_overlay(overlay_plan(*desired_), mended);
  log_.mended(mended.operations);
  log_.failed(mended.errors.size());
}

bool BpfDataPlane::tick() {
  release_after_grace();
  std::vector<ObjectError> errors;
  announcements_.send_due(errors);
  log_.failed(errors.size());
  if (!census_.tick(*kernel_.maps, clock_.now()))
    log_.failed(1);
  const kernel::Stir seen =
      uplink_watch_.look(kernel_.links_stirred, *kernel_.rtnl, config_, links_, clock_);
  if (seen.routes)
    mend_routes();
  return seen.uplinks;
}

}  // namespace shoal::apply
