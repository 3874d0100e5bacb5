// SPDX-License-Identifier: Apache-2.0
// WorkQueue: what is to be looked at, each item once, at the earliest time asked for. Bounded: what
// does not fit is refused, and the owner finds it again by a resync.
#pragma once

#include "agent/view/view.h"
#include "netplane/base/clock.h"

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>

namespace shoal::controllers {

enum class ControllerId : std::uint8_t {
  kDeployment,
  kReplicaSet,
  kPlacement,
  kNode,
  kService,
  kLoadBalancer,
  kGarbage,
  kNamespace,
  kClaim,
};
std::string_view to_string(ControllerId id);

struct Item {
  ControllerId controller;
  view::Ref ref;  // empty for kPlacement: one item for the cluster
  auto operator<=>(const Item&) const = default;
  std::string key() const;  // what members are ranked by
};

class WorkQueue {
public:
  explicit WorkQueue(std::size_t items_max) : items_max_(items_max) {}
  // False: full, and the item was not in it.
  bool add(const Item& item, MonoTime due);
  // The item that is due first, if any is.
  std::optional<Item> pop(MonoTime now);
  std::optional<MonoTime> next_due() const;
  std::size_t size() const { return due_.size(); }

private:
  const std::size_t items_max_;
  std::map<Item, MonoTime> due_;
  std::set<std::pair<MonoTime, Item>> order_;
};

}  // namespace shoal::controllers
