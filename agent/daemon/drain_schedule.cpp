// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/drain_schedule.h"

#include <algorithm>

namespace shoal::daemon {
namespace {

bool is_of(const model::DrainGroup& group, std::string_view ns, std::string_view name) {
  return group.ns == ns && group.name == name;
}

// Groups of one Service lie together, the one with no name first.
template <class Map>
auto first_of(Map& map, std::string_view ns, std::string_view name) {
  return map.lower_bound({std::string(ns), std::string(name), {}});
}

}  // namespace

void DrainSchedule::set(std::string_view ns, std::string_view name,
                        std::vector<api::GroupDrain> drains) {
  for (auto at = first_of(entries_, ns, name);
       at != entries_.end() && is_of(at->first, ns, name);) {
    const auto wanted = std::ranges::find(drains, at->first.group, &api::GroupDrain::group);
    // With another time it begins anew.
    if (wanted != drains.end() && wanted->due == at->second.due)
      ++at;
    else
      at = entries_.erase(at);
  }
  for (api::GroupDrain& drain : drains)
    entries_.try_emplace({std::string(ns), std::string(name), std::move(drain.group)},
                         Entry{.due = drain.due});
}

void DrainSchedule::remove(std::string_view ns, std::string_view name) {
  set(ns, name, {});
  for (auto at = first_of(closed_, ns, name); at != closed_.end() && is_of(at->first, ns, name);)
    at = closed_.erase(at);
}

std::vector<model::DrainGroup> DrainSchedule::due(WallTime wall, MonoTime now) const {
  std::vector<model::DrainGroup> out;
  for (const auto& [group, entry] : entries_)
    if (entry.due <= wall && entry.next_pass <= now)
      out.push_back(group);
  return out;
}

void DrainSchedule::passed(const model::DrainGroup& group, std::uint64_t closed, MonoTime now) {
  if (closed > 0)
    closed_[group] += closed;
  const auto at = entries_.find(group);
  if (at == entries_.end())
    return;
  Entry& entry = at->second;
  entry.closed += closed;
  entry.passes = closed > 0 ? 1 : entry.passes + 1;
  entry.next_pass =
      now + (entry.passes < kDrainPassesSoon ? Duration(kDrainPassSoon) : kDrainPassLater);
}

std::optional<Duration> DrainSchedule::until_next(WallTime wall, MonoTime now) const {
  std::optional<Duration> out;
  for (const auto& [group, entry] : entries_) {
    const Duration left = std::max(Duration(entry.due - wall), Duration(entry.next_pass - now));
    out = std::min(out.value_or(Duration(kDrainLookMax)), left);
  }
  return out ? std::optional(std::max(*out, Duration(kDrainLookMin))) : std::nullopt;
}

std::vector<DrainSchedule::Status> DrainSchedule::status(std::string_view ns, std::string_view name,
                                                         WallTime wall) const {
  std::vector<Status> out;
  for (auto at = first_of(entries_, ns, name); at != entries_.end() && is_of(at->first, ns, name);
       ++at)
    out.push_back({at->first.group, std::max(Duration(0), Duration(at->second.due - wall)),
                   at->second.closed});
  return out;
}

}  // namespace shoal::daemon
