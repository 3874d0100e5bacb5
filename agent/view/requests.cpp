// SPDX-License-Identifier: Apache-2.0
#include "agent/view/requests.h"

#include "agent/api/quantity.h"
#include "agent/api/selector.h"

#include <algorithm>
#include <boost/json.hpp>

namespace shoal::view {
namespace json = boost::json;
namespace {

std::int64_t add(std::int64_t a, std::int64_t b) {
  std::int64_t sum = 0;
  return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}
Requests operator+(const Requests& a, const Requests& b) {
  return {add(a.cpu_milli, b.cpu_milli), add(a.memory_bytes, b.memory_bytes),
          add(a.storage_bytes, b.storage_bytes)};
}
Requests larger(const Requests& a, const Requests& b) {
  return {std::max(a.cpu_milli, b.cpu_milli), std::max(a.memory_bytes, b.memory_bytes),
          std::max(a.storage_bytes, b.storage_bytes)};
}

std::int64_t quantity(const json::object* from, std::string_view key,
                      Result<std::int64_t> (*parse)(std::string_view), std::int64_t otherwise) {
  const json::value* value = from ? from->if_contains(key) : nullptr;
  if (!value)
    return otherwise;
  const auto parsed = value->is_string() ? parse(std::string_view(value->get_string()))
                                         : parse(json::serialize(*value));
  return parsed ? *parsed : otherwise;
}

Requests read(const json::object* from, std::int64_t otherwise) {
  return {quantity(from, "cpu", api::parse_quantity_milli, otherwise),
          quantity(from, "memory", api::parse_quantity, otherwise),
          quantity(from, "ephemeral-storage", api::parse_quantity, otherwise)};
}

}  // namespace

Requests pod_requests(const Object& pod) {
  Requests most, sidecars, sum;
  if (const json::array* list = api::find_array(pod.body, "spec.initContainers"))
    for (const json::value& value : *list)
      if (const json::object* container = value.if_object()) {
        const Requests one = read(api::find_object(*container, "resources.requests"), 0);
        most = larger(most, sidecars + one);
        if (api::find_string(*container, "restartPolicy") == "Always")
          sidecars = sidecars + one;
      }
  if (const json::array* list = api::find_array(pod.body, "spec.containers"))
    for (const json::value& value : *list)
      if (const json::object* container = value.if_object())
        sum = sum + read(api::find_object(*container, "resources.requests"), 0);
  return larger(most, sum + sidecars);
}

bool is_best_effort(const Object& pod) {
  const auto asks = [](const json::object& container) {
    for (const std::string_view part : {"resources.requests", "resources.limits"}) {
      const Requests asked = read(api::find_object(container, part), 0);
      if (asked.cpu_milli > 0 || asked.memory_bytes > 0)
        return true;
    }
    return false;
  };
  for (const std::string_view list : {"spec.initContainers", "spec.containers"})
    if (const json::array* containers = api::find_array(pod.body, list))
      for (const json::value& value : *containers)
        if (const json::object* container = value.if_object(); container && asks(*container))
          return false;
  return true;
}

Requests node_allocatable(const Object& node) {
  return read(api::find_object(node.body, "status.allocatable"), INT64_MAX);
}

}  // namespace shoal::view
