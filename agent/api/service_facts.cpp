// SPDX-License-Identifier: Apache-2.0
#include "agent/api/service_facts.h"

#include "agent/api/selector.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <fmt/format.h>

namespace shoal::api {
namespace json = boost::json;
const json::object& spec_of(const json::object& service) {
  static const json::object kNone;
  const json::object* spec = find_object(service, "spec");
  return spec ? *spec : kNone;
}

ServiceType service_type(const json::object& spec) {
  const std::string_view type = find_string(spec, "type");
  if (type == "NodePort")
    return ServiceType::kNodePort;
  if (type == "LoadBalancer")
    return ServiceType::kLoadBalancer;
  return type == "ExternalName" ? ServiceType::kExternalName : ServiceType::kClusterIp;
}

bool is_headless(const json::object& spec) {
  return has_cluster_ip(spec) && find_string(spec, "clusterIP") == kHeadless;
}

bool has_cluster_ip(const json::object& spec) {
  return service_type(spec) != ServiceType::kExternalName;
}

bool may_have_node_ports(const json::object& spec) {
  const ServiceType type = service_type(spec);
  return type == ServiceType::kNodePort || type == ServiceType::kLoadBalancer;
}

bool allots_node_ports(const json::object& spec) {
  if (service_type(spec) == ServiceType::kNodePort)
    return true;
  const json::value* allot = spec.if_contains("allocateLoadBalancerNodePorts");
  return service_type(spec) == ServiceType::kLoadBalancer &&
         !(allot && allot->is_bool() && !allot->get_bool());
}

bool has_health_check_port(const json::object& spec) {
  return service_type(spec) == ServiceType::kLoadBalancer &&
         is_local(spec, "externalTrafficPolicy");
}

bool is_externally_accessible(const json::object& spec) {
  const json::array* ips = find_array(spec, "externalIPs");
  return may_have_node_ports(spec) || (has_cluster_ip(spec) && ips && !ips->empty());
}

bool is_own_load_balancer(const json::object& spec) {
  const std::string_view name = find_string(spec, "loadBalancerClass");
  return service_type(spec) == ServiceType::kLoadBalancer &&
         (name.empty() || name == kLoadBalancerClass);
}

bool is_local(const json::object& spec, std::string_view policy) {
  return find_string(spec, policy) == "Local";
}

std::uint32_t affinity_timeout_s(const json::object& spec) {
  if (find_string(spec, "sessionAffinity") != "ClientIP")
    return 0;
  return static_cast<std::uint32_t>(
      find_int(spec, "sessionAffinityConfig.clientIP.timeoutSeconds", kAffinityTimeoutDefault_s));
}

std::optional<IpFamily> parse_ip_family(std::string_view text) {
  for (const IpFamily family : {IpFamily::kV4, IpFamily::kV6})
    if (text == to_string(family))
      return family;
  return std::nullopt;
}

std::vector<IpFamily> ip_families(const json::object& spec) {
  std::vector<IpFamily> families;
  if (const json::array* listed = find_array(spec, "ipFamilies"))
    for (const json::value& item : *listed)
      if (const auto family = item.is_string() ? parse_ip_family(item.get_string()) : std::nullopt;
          family && std::find(families.begin(), families.end(), *family) == families.end())
        families.push_back(*family);
  if (families.empty())
    families.push_back(IpFamily::kV4);
  return families;
}

Result<std::vector<IpPrefix>> load_balancer_source_ranges(const json::object& service) {
  std::vector<IpPrefix> ranges;
  const json::array* listed = find_array(spec_of(service), "loadBalancerSourceRanges");
  if (listed && !listed->empty()) {
    for (const json::value& item : *listed)
      ranges.push_back(SHOAL_TRY(
          IpPrefix::parse(item.is_string() ? trim(item.get_string()) : std::string_view("?"))));
  } else if (const json::object* annotations = annotations_of(service)) {
    const json::value* text = annotations->if_contains(kSourceRangesAnnotation);
    if (text && text->is_string() && !trim(text->get_string()).empty())
      for (const std::string_view item : split(text->get_string(), ','))
        ranges.push_back(SHOAL_TRY(IpPrefix::parse(trim(item))));
  }
  std::sort(ranges.begin(), ranges.end());
  ranges.erase(std::unique(ranges.begin(), ranges.end()), ranges.end());
  return ranges;
}

}  // namespace shoal::api
