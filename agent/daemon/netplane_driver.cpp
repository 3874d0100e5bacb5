// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/netplane_driver.h"

#include "netplane/base/hash.h"

#include <boost/asio/post.hpp>
#include <spdlog/spdlog.h>

namespace shoal::daemon {

NetplaneDriver::NetplaneDriver(boost::asio::io_context& loop, view::View& view,
                               apply::DataPlane& data_plane, api::Writer& writer,
                               const Clock& clock, desired::Inputs base, Inputs inputs)
    : loop_(loop), view_(view), data_plane_(data_plane), writer_(writer), clock_(clock),
      base_(std::move(base)), inputs_(std::move(inputs)), builder_(view, base_), tick_timer_(loop),
      retry_timer_(loop), pause_timer_(loop) {}

NetplaneDriver::~NetplaneDriver() { *alive_ = false; }

void NetplaneDriver::start() {
  changes_ = view_.subscribe([this](const view::Change& change) {
    builder_.on_change(change);
    mark_dirty();
  });
  next_audit_ = clock_.now() + kAuditInterval;
  look_at_host();
  arm_tick();
  mark_dirty();
}

void NetplaneDriver::set_local_pods(std::vector<model::LocalPod> pods) {
  builder_.set_local_pods(std::move(pods));
  mark_dirty();
}

void NetplaneDriver::local_pods_settled() {
  pods_settled_ = true;
  mark_dirty();
}

void NetplaneDriver::mark_dirty() {
  if (scheduled_)
    return;
  scheduled_ = true;
  const auto go = [this, alive = alive_] {
    if (*alive)
      run();
  };
  const MonoTime now = clock_.now();
  if (now >= not_before_) {
    boost::asio::post(loop_, go);
    return;
  }
  pause_timer_.expires_after(not_before_ - now);
  pause_timer_.async_wait([go](const boost::system::error_code& error) {
    if (!error)
      go();
  });
}

void NetplaneDriver::check_settled() {
  if (settled_ || !view_.synced())
    return;
  const MonoTime now = clock_.now();
  if (!synced_at_)
    synced_at_ = now;
  const bool complete = pods_settled_ && inputs_.statuses_arrived();
  if (!complete)
    complete_since_.reset();
  else if (!complete_since_)
    complete_since_ = now;
  const bool held = complete_since_ && now - *complete_since_ >= kSettleHold;
  const bool late = pods_settled_ && now - *synced_at_ >= kSettleMax;
  if (!held && !late)
    return;
  settled_ = true;
  if (!held)
    spdlog::warn("not every live host's statuses arrived within {} s; going on without them",
                 kSettleMax.count());
  spdlog::info("the view of the cluster is complete: what is stale in the data plane may go now");
  mark_dirty();
}

void NetplaneDriver::run() {
  scheduled_ = false;
  check_settled();
  const MonoTime began = clock_.now();
  const desired::Computed& computed = builder_.build(inputs_.members());
  // Before the view is complete an empty one says nothing.
  if (!view_.synced()) {
    applied_ = false;
    return;
  }
  std::optional<std::span<const std::size_t>> changed;
  if (applied_ && builder_.changed())
    changed = *builder_.changed();
  const apply::ApplyReport report = data_plane_.apply(computed.desired, settled_, changed);
  if (!std::exchange(applied_, true))
    inputs_.loaded();
  const MonoTime ended = clock_.now();
  not_before_ = ended + std::min<Duration>(ended - began, kApplyPauseMax);
  note_errors(report);
  // While the view is incomplete a ring may be left as it was, with backends that stop.
  if (!holds_drains(report) && settled_)
    inputs_.applied();
  inputs_.show_health(computed.health_checks);
  if (settled_)
    tell(builder_.take_found());
}

// A ring may still lead to a pod that is being stopped; or programs that have other maps run.
bool NetplaneDriver::holds_drains(const apply::ApplyReport& report) {
  const auto error = std::ranges::find_if(report.errors, [](const apply::ObjectError& each) {
    return each.object.starts_with("service") || each.object.starts_with("backend") ||
           each.object == "BPF programs";
  });
  const bool holds = error != report.errors.end();
  if (holds && !std::exchange(drains_held_, true))
    spdlog::warn(
        "pods that are being stopped may get new connections until their grace ends: {}: {}",
        error->object, error->error.message());
  drains_held_ = holds;
  return holds;
}

void NetplaneDriver::note_errors(const apply::ApplyReport& report) {
  std::vector<std::string> errors;
  for (const apply::ObjectError& error : report.errors)
    errors.push_back(fmt::format("{}: {}", error.object, error.error.message()));
  for (const std::string& error : errors)
    if (std::find(errors_.begin(), errors_.end(), error) == errors_.end())
      spdlog::error("data plane: {}", error);
  if (errors.empty() && !errors_.empty())
    spdlog::info("data plane: all objects are applied again");
  errors_ = std::move(errors);
  if (errors_.empty()) {
    retry_after_ = kApplyRetryFirst;
    return;
  }
  retry_timer_.expires_after(retry_after_);
  retry_after_ = std::min(retry_after_ * 2, kApplyRetryMax);
  retry_timer_.async_wait([this, alive = alive_](const boost::system::error_code& error) {
    if (*alive && !error)
      mark_dirty();
  });
}

// Of all hosts that compute the same finding, the one that ranks first for its object writes the
// event.
void NetplaneDriver::tell(const std::set<desired::Finding>& findings) {
  if (findings.empty())
    return;
  const std::vector<std::string> live = inputs_.members().live();
  for (const desired::Finding& finding : findings) {
    if (!finding.local &&
        rendezvous_owner(finding.about.ns + "/" + finding.about.name, live) != base_.self)
      continue;
    if (const auto object = view_.get(finding.about))
      writer_.event(*object, "Warning", desired::reason_of(finding.kind), finding.message,
                    "shoal-service-proxy");
  }
}

void NetplaneDriver::sources_changed() {
  look_at_host();
  mark_dirty();
}

void NetplaneDriver::look_at_host() {
  base_.node_addresses = inputs_.node_addresses();
  base_.snat_hosts = inputs_.snat_hosts();
  builder_.set_inputs(base_);
}

void NetplaneDriver::tick() {
  // Soon, and not with every change of many.
  if (data_plane_.tick())
    next_audit_ = std::min(next_audit_, std::max(clock_.now(), last_audit_ + kAuditPause));
  const bool was_settled = settled_;
  check_settled();
  if (builder_.dirty(inputs_.members()) || settled_ != was_settled)
    mark_dirty();
  if (const MonoTime now = clock_.now(); settled_ && now >= next_audit_) {
    next_audit_ = now + kAuditInterval;
    last_audit_ = now;
    const apply::AuditReport report = data_plane_.audit();
    look_at_host();  // as the audit has found them
    if (builder_.dirty(inputs_.members()))
      mark_dirty();
    for (const std::string& finding : report.findings)
      spdlog::warn("data plane audit: {}", finding);
    for (const apply::ObjectError& error : report.errors)
      spdlog::error("data plane audit: {}: {}", error.object, error.error.message());
  }
}

void NetplaneDriver::arm_tick() {
  tick_timer_.expires_after(kTickInterval);
  tick_timer_.async_wait([this, alive = alive_](const boost::system::error_code& error) {
    if (!*alive || error)
      return;
    tick();
    arm_tick();
  });
}

}  // namespace shoal::daemon
