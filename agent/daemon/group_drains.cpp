// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/group_drains.h"

#include <boost/asio/post.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace shoal::daemon {
namespace {

constexpr std::chrono::seconds kUnsettledPause{1};

std::string text_of(const model::DrainGroup& group) {
  return fmt::format("group {} of Service {}/{}", group.group, group.ns, group.name);
}

}  // namespace

GroupDrains::GroupDrains(boost::asio::io_context& loop, boost::asio::thread_pool& workers,
                         view::View& view, const apply::DataPlane& data_plane, api::Writer& writer,
                         const Clock& clock, Inputs inputs)
    : loop_(loop), workers_(workers), view_(view), data_plane_(data_plane), writer_(writer),
      clock_(clock), inputs_(std::move(inputs)), timer_(loop) {}

GroupDrains::~GroupDrains() { *alive_ = false; }

void GroupDrains::start() {
  changes_ = view_.subscribe([this](const view::Change& change) {
    if (change.object->resource != view::kServices)
      return;
    if (change.kind == store::ChangeKind::kDeleted)
      schedule_.remove(change.object->ns, change.object->name);
    else
      take(*change.object);
    look();
  });
  for (const view::ObjectPtr& service : view_.list(view::kServices))
    take(*service);
  look();
}

void GroupDrains::take(const view::Object& service) {
  schedule_.set(service.ns, service.name, api::service_drains(service.body));
}

void GroupDrains::arm(Duration after) {
  timer_.expires_after(after);
  timer_.async_wait([this, alive = alive_](const boost::system::error_code& error) {
    if (*alive && !error)
      look();
  });
}

// Also where a change of the view, or of the clock, has made it early.
void GroupDrains::look() {
  if (running_)
    return;
  const WallTime wall = clock_.wall();
  const MonoTime now = clock_.now();
  auto groups = schedule_.due(wall, now);
  if (groups.empty()) {
    if (const auto next = schedule_.until_next(wall, now))
      arm(*next);
    return;
  }
  if (inputs_.settled())
    run(std::move(groups));
  else
    arm(kUnsettledPause);
}

void GroupDrains::run(std::vector<model::DrainGroup> groups) {
  running_ = true;
  apply::DrainJob job = data_plane_.drain(groups);
  boost::asio::post(workers_, [this, alive = alive_, job = std::move(job), due = std::move(groups),
                               &loop = loop_]() mutable {
    apply::DrainReport report = job();
    boost::asio::post(
        loop, [this, alive = std::move(alive), due = std::move(due), report = std::move(report)] {
          if (*alive)
            passed(due, report);
        });
  });
}

void GroupDrains::passed(const std::vector<model::DrainGroup>& groups,
                         const apply::DrainReport& report) {
  running_ = false;
  const MonoTime now = clock_.now();
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const std::uint64_t closed = i < report.closed.size() ? report.closed[i] : 0;
    schedule_.passed(groups[i], closed, now);
    if (closed > 0)
      tell(groups[i], closed);
  }
  tell_of_errors(groups, report.errors);
  look();
}

void GroupDrains::tell(const model::DrainGroup& group, std::uint64_t closed) {
  spdlog::info("closed {} connections to {}: its drain timeout is over", closed, text_of(group));
  if (const auto service = view_.get(view::kServices, group.ns, group.name))
    writer_.event(
        *service, "Normal", "GroupDrained",
        fmt::format("closed {} connection{} to group {} on {}: its weight has been 0 for the time "
                    "that {} gives",
                    closed, closed == 1 ? "" : "s", group.group, inputs_.self,
                    api::kDrainTimeoutAnnotation),
        "shoal-service-proxy");
}

// What goes on failing is told once.
void GroupDrains::tell_of_errors(const std::vector<model::DrainGroup>& groups,
                                 const std::vector<Error>& errors) {
  std::set<std::string> now;
  for (const Error& error : errors)
    now.insert(error.message());
  for (const std::string& error : now) {
    if (told_errors_.contains(error))
      continue;
    for (const model::DrainGroup& group : groups) {
      spdlog::error("connections to {} are not all closed: {}", text_of(group), error);
      if (const auto service = view_.get(view::kServices, group.ns, group.name))
        writer_.event(*service, "Warning", "GroupNotDrained",
                      fmt::format("connections to group {} on {} are not all closed: {}",
                                  group.group, inputs_.self, error),
                      "shoal-service-proxy");
    }
  }
  told_errors_ = std::move(now);
}

}  // namespace shoal::daemon
