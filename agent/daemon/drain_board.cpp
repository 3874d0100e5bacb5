// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/drain_board.h"

#include "agent/view/facts.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>
#include <utility>

namespace shoal::daemon {

DrainBoard::DrainBoard(std::string self, view::View& view, Publish publish,
                       std::function<void()> retry_later)
    : self_(std::move(self)), view_(view), publish_(std::move(publish)),
      retry_later_(std::move(retry_later)) {
  for (const auto& pod : view_.list(view::kPods))
    if (view::is_terminating(*pod) && balanced(*pod))
      stopping_.insert(pod->uid);
  changes_ = view_.subscribe([this](const view::Change& change) {
    if (change.object->resource == view::kPods)
      on_pod(change);
  });
}

bool DrainBoard::balanced(const store::Object& pod) const {
  return !view_.services_selecting(pod).empty() || !view::host_ports(pod).empty();
}

void DrainBoard::on_pod(const view::Change& change) {
  const store::Object& pod = *change.object;
  if (change.before && change.before->uid != pod.uid)
    stopping_.erase(change.before->uid);
  if (change.kind == store::ChangeKind::kDeleted)
    stopping_.erase(pod.uid);
  else if (view::is_terminating(pod) && balanced(pod))
    stopping_.insert(pod.uid);
}

void DrainBoard::applied() {
  const bool news = applied_ != stopping_;
  applied_ = stopping_;
  tell();
  if (news && news_)
    news_();
}

void DrainBoard::tell() {
  if (published_ == applied_)
    return;
  std::optional<std::string> value;
  if (!applied_.empty())
    value = fmt::format("{}", fmt::join(applied_, "\n"));
  if (auto told = publish_(std::move(value)); told) {
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
  Uids uids;
  if (value)
    for (const std::string_view uid : split(*value, '\n'))
      uids.emplace(uid);
  told_.insert_or_assign(std::string(host), std::move(uids));
  if (news_)
    news_();
}

bool DrainBoard::drained(std::string_view uid, const view::Members& members) const {
  const auto pod = view_.by_uid(uid);
  if (!pod || !balanced(*pod))
    return true;
  if (!applied_.contains(uid))
    return false;
  const std::vector<std::string> live = members.live();
  return std::all_of(live.begin(), live.end(), [&](const std::string& host) {
    const auto at = told_.find(host);
    return host == self_ || (at != told_.end() && at->second.contains(uid));
  });
}

}  // namespace shoal::daemon
