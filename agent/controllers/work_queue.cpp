// SPDX-License-Identifier: Apache-2.0
#include "agent/controllers/work_queue.h"

#include <fmt/format.h>

namespace shoal::controllers {

std::string_view to_string(ControllerId id) {
  switch (id) {
  case ControllerId::kDeployment:
    return "deployment";
  case ControllerId::kReplicaSet:
    return "replicaset";
  case ControllerId::kPlacement:
    return "placement";
  case ControllerId::kNode:
    return "node";
  case ControllerId::kService:
    return "service";
  case ControllerId::kLoadBalancer:
    return "load-balancer";
  case ControllerId::kGarbage:
    return "garbage";
  case ControllerId::kNamespace:
    return "namespace";
  case ControllerId::kClaim:
    return "claim";
  }
  return "?";
}

std::string Item::key() const {
  return fmt::format("{}:{}/{}/{}", to_string(controller), ref.resource, ref.ns, ref.name);
}

bool WorkQueue::add(const Item& item, MonoTime due) {
  const auto found = due_.find(item);
  if (found == due_.end()) {
    if (due_.size() >= items_max_)
      return false;
    due_.emplace(item, due);
    order_.emplace(due, item);
    return true;
  }
  if (found->second <= due)
    return true;
  order_.erase({found->second, item});
  found->second = due;
  order_.emplace(due, item);
  return true;
}

std::optional<Item> WorkQueue::pop(MonoTime now) {
  if (order_.empty() || order_.begin()->first > now)
    return std::nullopt;
  Item item = order_.begin()->second;
  order_.erase(order_.begin());
  due_.erase(item);
  return item;
}

std::optional<MonoTime> WorkQueue::next_due() const {
  return order_.empty() ? std::nullopt : std::optional(order_.begin()->first);
}

}  // namespace shoal::controllers
