// SPDX-License-Identifier: Apache-2.0
// What becomes of a Service's earlier values when it is written anew.
#include "agent/api/schema_tables.h"
#include "agent/api/selector.h"
#include "agent/api/service_facts.h"
#include "agent/api/writer_plan.h"

#include <set>

namespace shoal::api {
namespace json = boost::json;
namespace {

// A second family that was not asked to go goes with the policy that allowed it.
void trim_families(const json::object& before, json::object& after) {
  if (find_string(after, "ipFamilyPolicy") != kSingleStack ||
      find_string(before, "ipFamilyPolicy") == kSingleStack)
    return;
  for (const std::string_view field : {"ipFamilies", "clusterIPs"}) {
    json::value* now = after.if_contains(field);
    const json::value* old = before.if_contains(field);
    if (now && old && now->is_array() && *now == *old && now->get_array().size() == 2)
      now->get_array().pop_back();
  }
}

bool is_given(const json::object& spec, std::string_view field) {
  const json::value* value = spec.if_contains(field);
  return value && !is_neutral(*value);
}

void keep(const json::object& before, json::object& after, std::string_view field) {
  if (const json::value* value = before.if_contains(field); value && !is_given(after, field))
    after[field] = *value;
}

// What is the same as before was sent back, not asked for.
void drop(const json::object& before, json::object& after, std::string_view field) {
  const json::value* old_value = before.if_contains(field);
  const json::value* new_value = after.if_contains(field);
  if (old_value && new_value && *old_value == *new_value)
    after.erase(field);
}

// The earlier form of a port: of the same name, or else of the same number.
const json::object* earlier(const json::array& ports, const json::object& port) {
  const json::object* found = nullptr;
  const auto protocol = [](const json::object& p) {
    const std::string_view text = find_string(p, "protocol");
    return text.empty() ? std::string_view("TCP") : text;
  };
  for (const json::value& item : ports) {
    const json::object* old_port = item.if_object();
    if (!old_port || protocol(*old_port) != protocol(port))
      continue;
    if (find_string(*old_port, "name") == find_string(port, "name"))
      return old_port;
    if (find_int(*old_port, "port", 0) == find_int(port, "port", -1))
      found = old_port;
  }
  return found;
}

json::array* ports_of(json::object& spec) {
  json::value* ports = spec.if_contains("ports");
  return ports ? ports->if_array() : nullptr;
}

void keep_node_ports(const json::object& before, json::object& after) {
  const json::array* old_ports = find_array(before, "ports");
  json::array* ports = ports_of(after);
  if (!old_ports || !ports)
    return;
  std::set<std::pair<std::string, std::int64_t>> used;
  const auto use = [&](const json::object& port, std::int64_t number) {
    return used.emplace(find_string(port, "protocol"), number).second;
  };
  for (const json::value& port : *ports)
    if (port.is_object())
      if (const std::int64_t number = find_int(port.get_object(), "nodePort", 0))
        use(port.get_object(), number);
  for (json::value& item : *ports) {
    json::object* port = item.if_object();
    if (!port || find_int(*port, "nodePort", 0) != 0)
      continue;
    const json::object* old_port = earlier(*old_ports, *port);
    if (const std::int64_t number = old_port ? find_int(*old_port, "nodePort", 0) : 0;
        number != 0 && use(*port, number))
      (*port)["nodePort"] = number;
  }
}

void drop_node_ports(const json::object& before, json::object& after) {
  std::set<std::int64_t> had;
  if (const json::array* ports = find_array(before, "ports"))
    for (const json::value& port : *ports)
      if (port.is_object())
        had.insert(find_int(port.get_object(), "nodePort", 0));
  if (json::array* ports = ports_of(after))
    for (json::value& port : *ports)
      if (port.is_object() && had.contains(find_int(port.get_object(), "nodePort", 0)))
        port.get_object().erase("nodePort");
}

}  // namespace

void carry_over(const json::object& before_object, json::object& after_object) {
  json::value* value = after_object.if_contains("spec");
  if (!value || !value->is_object())
    return;
  const json::object& before = spec_of(before_object);
  json::object& after = value->get_object();

  if (has_cluster_ip(before) && has_cluster_ip(after)) {
    keep(before, after, "clusterIP");
    keep(before, after, "clusterIPs");
    keep(before, after, "ipFamilies");
    keep(before, after, "ipFamilyPolicy");
    trim_families(before, after);
  } else if (has_cluster_ip(before)) {
    for (const std::string_view field :
         {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"})
      drop(before, after, field);
  }
  if (may_have_node_ports(before) && may_have_node_ports(after))
    keep_node_ports(before, after);
  else if (may_have_node_ports(before))
    drop_node_ports(before, after);
  if (has_health_check_port(before) && has_health_check_port(after))
    keep(before, after, "healthCheckNodePort");
  else if (has_health_check_port(before))
    drop(before, after, "healthCheckNodePort");
  if (service_type(before) == ServiceType::kLoadBalancer &&
      service_type(after) != ServiceType::kLoadBalancer)
    for (const std::string_view field : {"allocateLoadBalancerNodePorts", "loadBalancerClass",
                                         "loadBalancerIP", "loadBalancerSourceRanges"})
      drop(before, after, field);
  if (is_externally_accessible(before) && !is_externally_accessible(after))
    drop(before, after, "externalTrafficPolicy");
}

}  // namespace shoal::api
