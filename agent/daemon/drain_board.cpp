// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/drain_board.h"

#include "agent/view/facts.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <spdlog/spdlog.h>
#include <utility>

namespace shoal::daemon {

DrainBoard::DrainBoard(std::string self, view::View& view, Publish publish,
                       std::function<void()> retry_later,
                       std::function<void(store::Revision)> when_complete)
    : self_(std::move(self)), view_(view), publish_(std::move(publish)),
      retry_later_(std::move(retry_later)), when_complete_(std::move(when_complete)) {
  for (const auto& pod : view_.list(view::kPods))
    note(*pod);
  changes_ = view_.subscribe([this](const view::Change& change) {
    if (change.object->resource == view::kPods)
      on_pod(change);
  });
}

bool DrainBoard::balanced(const store::Object& pod) const {
  return !view_.services_selecting(pod).empty() ||
         (!view::host_ports(pod).empty() && !view::in_host_network(pod));
}

void DrainBoard::on_pod(const view::Change& change) {
  if (change.before && change.before->uid != change.object->uid)
    stopping_.erase(change.before->uid);
  if (change.kind == store::ChangeKind::kDeleted)
    stopping_.erase(change.object->uid);
  else
    note(*change.object);
}

void DrainBoard::note(const store::Object& pod) {
  if (!view::is_terminating(pod))
    return;
  Stop& stop = stopping_.try_emplace(pod.uid, Stop{pod.revision, pod.revision}).first->second;
  stop.last = std::max(stop.last, pod.revision);
}

void DrainBoard::applied() {
  const bool news = std::exchange(applied_, view_.revision()) != view_.revision();
  store::Revision last = 0;
  for (const auto& [uid, stop] : stopping_)
    last = std::max(last, stop.last);
  if (last > applied_ && last > awaited_) {
    awaited_ = last;
    when_complete_(last);
  }
  tell();
  if (news && news_)
    news_();
}

void DrainBoard::tell() {
  const bool wanted = std::ranges::any_of(stopping_, [&](const auto& item) {
    if (item.second.last <= published_ || item.second.last > applied_)
      return false;
    const auto pod = view_.by_uid(item.first);
    return pod && balanced(*pod);
  });
  if (!wanted)
    return;
  if (auto told = publish_(fmt::format("{}", applied_)); told) {
    published_ = applied_;
  } else if (!std::exchange(retrying_, true)) {
    spdlog::error("tell which pods are drained (again in {} s): {}", kDrainRetry.count(),
                  told.error().message());
    retry_later_();
  }
}

void DrainBoard::retry() {
  retrying_ = false;
  tell();
}

void DrainBoard::told(std::string_view host, const std::string* value) {
  const auto revision = value ? parse_uint(*value, UINT64_MAX) : std::nullopt;
  told_.insert_or_assign(std::string(host), revision.value_or(0));
  if (news_)
    news_();
}

bool DrainBoard::drained(std::string_view uid, const view::Members& members) const {
  const auto pod = view_.by_uid(uid);
  if (!pod || !balanced(*pod))
    return true;
  const auto stop = stopping_.find(uid);
  if (stop == stopping_.end() || applied_ < stop->second.first)
    return false;
  const std::vector<std::string> live = members.live();
  return std::ranges::all_of(live, [&](const std::string& host) {
    const auto at = told_.find(host);
    return host == self_ || (at != told_.end() && at->second >= stop->second.first);
  });
}

}  // namespace shoal::daemon
