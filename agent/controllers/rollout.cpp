// SPDX-License-Identifier: Apache-2.0
#include "agent/controllers/rollout.h"

#include "agent/api/selector.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <boost/json/value.hpp>
#include <numeric>

namespace shoal::controllers {

namespace json = boost::json;

std::int64_t resolve_int_or_percent(const json::value* value, std::int64_t total, bool round_up,
                                    std::int64_t otherwise) {
  if (!value || value->is_null())
    return otherwise;
  if (value->is_int64())
    return std::max<std::int64_t>(value->get_int64(), 0);
  if (!value->is_string())
    return 0;
  std::string_view text = value->get_string();
  const bool percent = text.ends_with('%');
  if (percent)
    text.remove_suffix(1);
  const auto number = parse_uint(text, 1'000'000);
  if (!number)
    return 0;
  const auto amount = static_cast<std::int64_t>(*number);
  if (!percent)
    return amount;
  return (amount * total + (round_up ? 99 : 0)) / 100;
}

Rollout rollout_of(const json::object& deployment) {
  Rollout out;
  out.replicas = api::find_int(deployment, "spec.replicas", 1);
  out.recreate = api::find_string(deployment, "spec.strategy.type") == "Recreate";
  if (out.recreate) {
    out.max_unavailable = out.replicas;
    return out;
  }
  const json::value quarter("25%");
  const auto* surge = api::find_path(deployment, "spec.strategy.rollingUpdate.maxSurge");
  const auto* away = api::find_path(deployment, "spec.strategy.rollingUpdate.maxUnavailable");
  out.max_surge = resolve_int_or_percent(surge ? surge : &quarter, out.replicas, true, 0);
  out.max_unavailable = resolve_int_or_percent(away ? away : &quarter, out.replicas, false, 0);
  // Percentages of a small Deployment may both come to 0: it could never move then.
  if (out.max_surge == 0 && out.max_unavailable == 0)
    out.max_unavailable = 1;
  out.max_unavailable = std::min(out.max_unavailable, out.replicas);
  return out;
}

namespace {

std::int64_t wanted_total(const std::vector<SetSize>& sets) {
  return std::accumulate(sets.begin(), sets.end(), std::int64_t{0},
                         [](std::int64_t sum, const SetSize& set) { return sum + set.wanted; });
}

// A set that was just made smaller may still have more pods than it wants: those are as good as
// gone.
std::int64_t available_of(const SetSize& set) { return std::min(set.available, set.wanted); }

std::int64_t next_newest_size(const Rollout& rollout, const std::vector<SetSize>& sets,
                              std::size_t newest) {
  const std::int64_t wanted = sets[newest].wanted;
  if (wanted >= rollout.replicas)
    return rollout.replicas;
  // A set that shrinks takes up room until its pods have been told to go.
  std::int64_t room = rollout.replicas + rollout.max_surge;
  for (const SetSize& set : sets)
    room -= std::max(set.wanted, set.active);
  if (room <= 0)
    return wanted;
  return wanted + std::min(room, rollout.replicas - wanted);
}

void shrink_old(const Rollout& rollout, const std::vector<SetSize>& sets, std::size_t newest,
                std::vector<std::int64_t>& sizes) {
  const std::int64_t must_stay = rollout.replicas - rollout.max_unavailable;
  const std::int64_t newest_missing = sets[newest].wanted - available_of(sets[newest]);
  std::int64_t may_go = wanted_total(sets) - must_stay - newest_missing;
  // Pods that serve nobody go first: they cost no availability.
  for (std::size_t i = 0; i < sets.size() && may_go > 0; ++i) {
    if (i == newest)
      continue;
    const std::int64_t take = std::min(may_go, sets[i].wanted - available_of(sets[i]));
    sizes[i] -= take;
    may_go -= take;
  }
  if (may_go <= 0)
    return;
  std::int64_t available = 0;
  for (const SetSize& set : sets)
    available += available_of(set);
  std::int64_t spare = std::min(available - must_stay, may_go);
  for (std::size_t i = 0; i < sets.size() && spare > 0; ++i) {
    if (i == newest)
      continue;
    const std::int64_t take = std::min(spare, sizes[i]);
    sizes[i] -= take;
    spare -= take;
  }
}

}  // namespace

std::vector<std::int64_t> next_sizes(const Rollout& rollout, const std::vector<SetSize>& sets,
                                     std::size_t newest) {
  std::vector<std::int64_t> sizes;
  for (const SetSize& set : sets)
    sizes.push_back(set.wanted);
  if (rollout.recreate) {
    bool old_pods = false;
    for (std::size_t i = 0; i < sets.size(); ++i) {
      if (i == newest)
        continue;
      sizes[i] = 0;
      old_pods |= sets[i].pods > 0 || sets[i].wanted > 0;
    }
    if (!old_pods)
      sizes[newest] = rollout.replicas;
    return sizes;
  }
  sizes[newest] = next_newest_size(rollout, sets, newest);
  // One direction a look: what is decided on must have happened before the other end moves.
  if (sizes[newest] == sets[newest].wanted)
    shrink_old(rollout, sets, newest, sizes);
  return sizes;
}

bool was_scaled(const Rollout& rollout, const std::vector<SetSize>& sets) {
  return std::any_of(sets.begin(), sets.end(), [&](const SetSize& set) {
    return set.wanted > 0 && set.asked_replicas && *set.asked_replicas != rollout.replicas;
  });
}

namespace {

// Grows or shrinks the sets in proportion to their sizes, the rest going to the largest.
void scale_in_proportion(const Rollout& rollout, const std::vector<SetSize>& sets,
                         std::vector<std::int64_t>& sizes) {
  const std::int64_t limit = rollout.replicas > 0 ? rollout.replicas + rollout.max_surge : 0;
  const std::int64_t total = wanted_total(sets);
  const std::int64_t to_add = limit - total;
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < sets.size(); ++i)
    if (sets[i].wanted > 0)
      order.push_back(i);
  if (order.empty() || to_add == 0)
    return;
  // Largest first; of equals the newest first when growing, the oldest first when shrinking.
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    if (sets[a].wanted != sets[b].wanted)
      return sets[a].wanted > sets[b].wanted;
    return to_add > 0 ? a > b : a < b;
  });
  std::int64_t added = 0;
  for (const std::size_t i : order) {
    const std::int64_t before = std::max<std::int64_t>(sets[i].asked_max.value_or(total), 1);
    const std::int64_t share = (2 * sets[i].wanted * limit + before) / (2 * before);  // rounded
    std::int64_t step = share - sets[i].wanted;
    step = to_add > 0 ? std::clamp<std::int64_t>(step, 0, to_add - added)
                      : std::clamp<std::int64_t>(step, to_add - added, 0);
    sizes[i] += step;
    added += step;
  }
  sizes[order.front()] = std::max<std::int64_t>(sizes[order.front()] + to_add - added, 0);
}

}  // namespace

std::vector<std::int64_t> scaled_sizes(const Rollout& rollout, const std::vector<SetSize>& sets,
                                       std::optional<std::size_t> newest) {
  std::vector<std::int64_t> sizes;
  std::vector<std::size_t> active;
  for (std::size_t i = 0; i < sets.size(); ++i) {
    sizes.push_back(sets[i].wanted);
    if (sets[i].wanted > 0)
      active.push_back(i);
  }
  if (sets.empty())
    return sizes;
  if (active.size() <= 1) {
    const std::size_t only = !active.empty() ? active.front() : newest.value_or(sets.size() - 1);
    sizes[only] = rollout.replicas;
    return sizes;
  }
  if (newest && sets[*newest].wanted == rollout.replicas &&
      available_of(sets[*newest]) == rollout.replicas) {
    for (const std::size_t i : active)
      if (i != *newest)
        sizes[i] = 0;
    return sizes;
  }
  if (!rollout.recreate)
    scale_in_proportion(rollout, sets, sizes);
  return sizes;
}

}  // namespace shoal::controllers
