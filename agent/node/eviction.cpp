// SPDX-License-Identifier: Apache-2.0
#include "agent/node/eviction.h"

#include "agent/api/quantity.h"

#include <algorithm>
#include <fmt/format.h>
#include <tuple>

namespace shoal::node {
namespace {

Pressure::Kind kind_of(Signal signal) {
  switch (signal) {
  case Signal::kMemory:
    return Pressure::Kind::kMemory;
  case Signal::kPids:
    return Pressure::Kind::kPids;
  case Signal::kDisk:
  case Signal::kInodes:
  case Signal::kImages:
    break;
  }
  return Pressure::Kind::kDisk;
}

std::int64_t share_of(std::int64_t capacity, unsigned percent) {
  return static_cast<std::int64_t>(static_cast<__int128>(capacity) * percent / 100);
}

std::int64_t threshold_of(Signal signal, const Level& level, const Thresholds& thresholds) {
  switch (signal) {
  case Signal::kMemory:
    return thresholds.memory_bytes;
  case Signal::kDisk:
    return share_of(level.capacity, thresholds.disk_percent);
  case Signal::kInodes:
    return share_of(level.capacity, thresholds.inodes_percent);
  case Signal::kImages:
    return share_of(level.capacity, thresholds.images_percent);
  case Signal::kPids:
    return thresholds.pids;
  }
  return 0;
}

std::string amount(Signal signal, std::int64_t value) {
  const bool counted = signal == Signal::kInodes || signal == Signal::kPids;
  return counted ? std::to_string(value) : api::binary_quantity(value);
}

}  // namespace

std::string_view to_string(Signal signal) {
  switch (signal) {
  case Signal::kMemory:
    return "memory.available";
  case Signal::kDisk:
    return "nodefs.available";
  case Signal::kInodes:
    return "nodefs.inodesFree";
  case Signal::kImages:
    return "imagefs.available";
  case Signal::kPids:
    return "pid.available";
  }
  return "?";
}

std::string_view resource_of(Signal signal) {
  switch (signal) {
  case Signal::kMemory:
    return "memory";
  case Signal::kDisk:
  case Signal::kImages:
    return "ephemeral-storage";
  case Signal::kInodes:
    return "inodes";
  case Signal::kPids:
    return "pids";
  }
  return "?";
}

bool is_of_disk(Signal signal) { return kind_of(signal) == Pressure::Kind::kDisk; }

std::vector<Shortage> shortages(const Levels& levels, const Thresholds& thresholds) {
  std::vector<Shortage> out;
  for (const auto& [signal, level] : levels)
    if (const std::int64_t least = threshold_of(signal, level, thresholds); level.available < least)
      out.push_back({signal, least, level.available});
  return out;
}

std::vector<Pressure::Kind> Pressure::look(const std::vector<Shortage>& found, MonoTime now) {
  std::vector<Kind> changed;
  for (const Shortage& shortage : found) {
    const auto [it, fresh] = on_.insert_or_assign(kind_of(shortage.signal), now);
    if (fresh)
      changed.push_back(it->first);
  }
  std::erase_if(on_, [&](const auto& on) {
    const bool over = on.second != now && now - on.second >= transition_;
    if (over)
      changed.push_back(on.first);
    return over;
  });
  return changed;
}

std::optional<std::string> choose_victim(Signal signal, const std::vector<Candidate>& pods) {
  // The smaller, the sooner.
  const auto rank = [signal](const Candidate& pod) {
    const bool within = signal != Signal::kPids && pod.used <= pod.request;
    return std::tuple(within, pod.priority, -(pod.used - pod.request), std::string_view(pod.uid));
  };
  const Candidate* first = nullptr;
  for (const Candidate& pod : pods)
    if (pod.priority < kCriticalPriority && (!first || rank(pod) < rank(*first)))
      first = &pod;
  return first ? std::optional(first->uid) : std::nullopt;
}

std::string eviction_message(const Shortage& shortage, const std::vector<Consumer>& containers) {
  const std::string_view resource = resource_of(shortage.signal);
  std::string out = fmt::format(
      "The node was low on resource: {}. Threshold quantity: {}, available: {}. ", resource,
      amount(shortage.signal, shortage.threshold), amount(shortage.signal, shortage.available));
  for (const Consumer& one : containers)
    if (one.used > one.request)
      out += fmt::format("Container {} was using {}, request is {}, has larger consumption of {}. ",
                         one.container, amount(shortage.signal, one.used),
                         amount(shortage.signal, one.request), resource);
  return out;
}

}  // namespace shoal::node
