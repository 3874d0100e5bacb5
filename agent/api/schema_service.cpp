// SPDX-License-Identifier: Apache-2.0
// Service.
#include "agent/api/drain_timeout.h"
#include "agent/api/schema_tables.h"
#include "agent/api/selector.h"
#include "agent/api/service_facts.h"
#include "agent/api/weights.h"
#include "netplane/base/strings.h"
#include "netplane/model/model.h"

#include <boost/json/serialize.hpp>
#include <fmt/format.h>
#include <optional>
#include <set>

namespace shoal::api {
namespace json = boost::json;
namespace {

bool is_zero_or_empty(const json::object& body, std::string_view name) {
  const json::value* value = body.if_contains(name);
  return value && is_neutral(*value);
}

// ---- ports
constexpr Field kServicePortFields[] = {
    {.name = "name", .check = check_dns_label},
    {.name = "port", .type = FieldType::kInt32, .required = true, .check = check_port},
    {.name = "targetPort", .type = FieldType::kIntOrString, .check = check_port_or_name},
    {.name = "protocol", .fallback = "\"TCP\"", .values = "TCP|UDP", .values_later = "SCTP"},
    // Which ones may be asked for is a matter of the cluster's range: said when it is allotted.
    {.name = "nodePort", .type = FieldType::kInt32, .check = check_port},
    hint("appProtocol"),
};
void fill_service_port(json::object& port) {
  if (is_zero_or_empty(port, "nodePort"))
    port.erase("nodePort");
  const json::value* number = port.if_contains("port");
  if (!number || (port.contains("targetPort") && !is_zero_or_empty(port, "targetPort")))
    return;
  const json::value same = *number;
  port["targetPort"] = same;
}
const Message kServicePort{
    .name = "ServicePort", .fields = kServicePortFields, .fill = fill_service_port};

// ---- affinity
std::string check_affinity_timeout(const json::value& value) {
  const bool good = value.is_int64() && value.get_int64() > 0 &&
                    value.get_int64() <= std::int64_t{model::kAffinityMax_s};
  return good ? std::string()
              : fmt::format("must be greater than 0 and less than or equal to {}",
                            model::kAffinityMax_s);
}
constexpr Field kClientIpFields[] = {
    {.name = "timeoutSeconds",
     .type = FieldType::kInt32,
     .fallback = "10800",
     .check = check_affinity_timeout},
};
const Message kClientIp{"ClientIPConfig", kClientIpFields};
constexpr Field kAffinityFields[] = {
    {.name = "clientIP", .type = FieldType::kMessage, .message = &kClientIp, .fallback = "{}"},
};
const Message kAffinity{"SessionAffinityConfig", kAffinityFields};

// ---- spec
std::string check_cluster_ip(const json::value& value) {
  return value.is_string() && value.get_string() == kHeadless ? "" : check_ip_or_empty(value);
}
std::string check_external_ip(const json::value& value) {
  if (std::string problem = check_ip(value); !problem.empty())
    return problem;
  const IpAddress ip = *IpAddress::parse(value.get_string());
  if (ip.is_unspecified())
    return "may not be unspecified (0.0.0.0 or ::)";
  if (ip.is_loopback())
    return "may not be in the loopback range (127.0.0.0/8, ::1/128)";
  if (ip.is_multicast())
    return "may not be a multicast address";
  if (ip.is_link_local())
    return "may not be in the link-local range (169.254.0.0/16, fe80::/10)";
  return ip == IpAddress::v4(UINT32_MAX) ? "may not be the broadcast address" : "";
}
std::string check_external_name(const json::value& value) {
  std::string_view name = value.get_string();
  if (name.ends_with('.'))
    name.remove_suffix(1);
  return check_dns_subdomain(json::string(name));
}
constexpr Field kServiceSpecFields[] = {
    {.name = "type",
     .fallback = "\"ClusterIP\"",
     .values = "ClusterIP|NodePort|LoadBalancer|ExternalName"},
    {.name = "selector", .type = FieldType::kStringMap},
    {.name = "ports",
     .type = FieldType::kMessage,
     .message = &kServicePort,
     .list = ListType::kMap,
     .list_keys = "port,protocol"},
    // The server allots it when it is absent; the writer compares it with the present one.
    {.name = "clusterIP", .check = check_cluster_ip},
    {.name = "clusterIPs", .list = ListType::kAtomic, .check = check_cluster_ip},
    {.name = "externalIPs", .list = ListType::kSet, .check = check_external_ip},
    {.name = "externalName", .check = check_external_name},
    {.name = "loadBalancerIP", .check = check_ip_or_empty},
    {.name = "loadBalancerClass", .check = check_label_key},
    {.name = "loadBalancerSourceRanges", .list = ListType::kAtomic},
    {.name = "allocateLoadBalancerNodePorts", .type = FieldType::kBool},
    {.name = "healthCheckNodePort", .type = FieldType::kInt32, .check = check_port},
    {.name = "sessionAffinity", .fallback = "\"None\"", .values = "None|ClientIP"},
    part("sessionAffinityConfig", kAffinity),
    {.name = "externalTrafficPolicy", .values = "Cluster|Local"},
    {.name = "internalTrafficPolicy", .values = "Cluster|Local"},
    {.name = "trafficDistribution", .values = "PreferClose|PreferSameZone|PreferSameNode"},
    {.name = "publishNotReadyAddresses", .type = FieldType::kBool},
    // Which families the cluster has is the writer's to know.
    {.name = "ipFamilies", .list = ListType::kAtomic, .values = "IPv4|IPv6"},
    {.name = "ipFamilyPolicy", .values = "SingleStack|PreferDualStack|RequireDualStack"},
};

// The families of the addresses that are asked for, in their order.
json::array families_of_cluster_ips(const json::object& spec) {
  json::array families;
  const auto add = [&](std::string_view text) {
    if (const auto ip = IpAddress::parse(text))
      families.emplace_back(to_string(ip->family()));
  };
  const json::array* ips = find_array(spec, "clusterIPs");
  if (ips && !ips->empty())
    for (const json::value& ip : *ips)
      add(ip.is_string() ? std::string_view(ip.get_string()) : std::string_view());
  else
    add(find_string(spec, "clusterIP"));
  return families;
}

// Kubernetes' defaults. Of a service without pods or address of its own (headless, and its
// endpoints are made by hand) nobody needs to know what the cluster has.
void fill_families(json::object& spec) {
  for (const std::string_view name : {"ipFamilies", "ipFamilyPolicy"})
    if (is_zero_or_empty(spec, name))
      spec.erase(name);
  const json::object* selector = find_object(spec, "selector");
  const bool by_hand = is_headless(spec) && (!selector || selector->empty());
  if (!spec.contains("ipFamilyPolicy"))
    spec["ipFamilyPolicy"] = by_hand ? "RequireDualStack" : "SingleStack";
  if (!spec.contains("ipFamilies"))
    spec["ipFamilies"] = families_of_cluster_ips(spec);
  json::value& families = spec["ipFamilies"];
  if (!families.is_array())
    return;  // refused for that
  if (families.get_array().empty())
    families.get_array().emplace_back(to_string(IpFamily::kV4));
  if (by_hand && families.get_array().size() == 1 &&
      find_string(spec, "ipFamilyPolicy") != kSingleStack)
    families.get_array().emplace_back(
        to_string(ip_families(spec).front() == IpFamily::kV4 ? IpFamily::kV6 : IpFamily::kV4));
}

// Kubernetes fills these in by type, and takes an empty value for none.
void fill_service_spec(json::object& spec) {
  for (const std::string_view name :
       {"externalName", "externalIPs", "loadBalancerIP", "loadBalancerClass",
        "loadBalancerSourceRanges", "healthCheckNodePort", "externalTrafficPolicy",
        "internalTrafficPolicy", "trafficDistribution"})
    if (is_zero_or_empty(spec, name))
      spec.erase(name);
  const auto missing = [&](std::string_view name, json::value value) {
    if (!spec.contains(name))
      spec[name] = std::move(value);
  };
  if (find_string(spec, "sessionAffinity") == "ClientIP")
    missing(
        "sessionAffinityConfig",
        json::object{{"clientIP", json::object{{"timeoutSeconds", kAffinityTimeoutDefault_s}}}});
  else
    spec.erase("sessionAffinityConfig");
  if (is_externally_accessible(spec))
    missing("externalTrafficPolicy", "Cluster");
  if (service_type(spec) == ServiceType::kLoadBalancer)
    missing("allocateLoadBalancerNodePorts", true);
  if (!has_cluster_ip(spec)) {
    for (const std::string_view name : {"clusterIP", "clusterIPs"})
      if (is_zero_or_empty(spec, name))
        spec.erase(name);
    return;
  }
  missing("internalTrafficPolicy", "Cluster");
  fill_families(spec);
}

void forbid(const json::object& spec, std::string_view path, std::string_view field,
            std::string_view why, Causes& causes) {
  if (const json::value* value = spec.if_contains(field); value && !value->is_null())
    causes.add(child_path(path, field), "FieldValueForbidden", fmt::format("Forbidden: {}", why));
}

void check_port_names(const json::array& ports, std::string_view path, Causes& causes) {
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < ports.size(); ++i) {
    const json::object* port = ports[i].if_object();
    if (!port)
      continue;
    const std::string field = child_path(item_path(path, i), "name");
    const std::string_view name = find_string(*port, "name");
    if (name.empty() && ports.size() > 1)
      causes.required(field, "a service with more than one port needs a name for each");
    else if (!name.empty() && !names.insert(name).second)
      causes.add(field, "FieldValueDuplicate", fmt::format("Duplicate value: \"{}\"", name));
  }
}

void check_node_ports(const json::object& spec, const json::array& ports, std::string_view path,
                      Causes& causes) {
  std::set<std::pair<std::string_view, std::int64_t>> seen;
  for (std::size_t i = 0; i < ports.size(); ++i) {
    const json::object* port = ports[i].if_object();
    const std::int64_t number = port ? find_int(*port, "nodePort", 0) : 0;
    if (number == 0)
      continue;
    const std::string field = child_path(item_path(path, i), "nodePort");
    if (!may_have_node_ports(spec))
      causes.add(
          field, "FieldValueForbidden",
          fmt::format("Forbidden: may not be used when `type` is '{}'", find_string(spec, "type")));
    else if (!seen.emplace(find_string(*port, "protocol"), number).second)
      causes.add(field, "FieldValueDuplicate", fmt::format("Duplicate value: {}", number));
  }
}

std::optional<IpFamily> family_of(const json::value& address) {
  const auto ip = IpAddress::parse(address.is_string() ? std::string_view(address.get_string())
                                                       : std::string_view());
  return ip ? std::optional(ip->family()) : std::nullopt;
}

void check_cluster_ip_pair(const json::array& ips, const std::string& field, Causes& causes) {
  for (std::size_t i = 0; i < ips.size(); ++i)
    if (ips[i].is_string() && ips[i].get_string() == kHeadless)
      return causes.invalid(field, ips, "'None' must be the first and only value");
  if (const auto first = family_of(ips[0]); first && first == family_of(ips[1]))
    causes.invalid(field, ips, "may specify no more than one IP for each IP family");
}

void check_cluster_ip_families(const json::object& spec, const json::array& ips,
                               const std::string& field, Causes& causes) {
  const json::array* families = find_array(spec, "ipFamilies");
  for (std::size_t i = 0; families && i < std::min(ips.size(), families->size()); ++i)
    if (const auto family = family_of(ips[i]);
        family && (*families)[i].is_string() && (*families)[i].get_string() != to_string(*family))
      causes.invalid(item_path(field, i), ips[i],
                     fmt::format("expected an {} value as indicated by `ipFamilies[{}]`",
                                 std::string_view((*families)[i].get_string()), i));
}

void check_cluster_ips(const json::object& spec, std::string_view path, Causes& causes) {
  const std::string_view ip = find_string(spec, "clusterIP");
  const json::array* ips = find_array(spec, "clusterIPs");
  const std::string field = child_path(path, "clusterIPs");
  if (is_headless(spec) && may_have_node_ports(spec))
    causes.invalid(
        child_path(path, "clusterIP"), json::string(ip),
        fmt::format("may not be set to 'None' for {} services", find_string(spec, "type")));
  if (!ips || ips->empty())
    return;
  if (!ips->front().is_string() || ips->front().get_string() != ip)
    causes.invalid(field, *ips, "first value must match `clusterIP`");
  if (ips->size() > 2)
    causes.invalid(field, *ips, "may only hold up to 2 values");
  else if (ips->size() == 2)
    check_cluster_ip_pair(*ips, field, causes);
  check_cluster_ip_families(spec, *ips, field, causes);
}

void check_families(const json::object& spec, std::string_view path, Causes& causes) {
  const json::array* families = find_array(spec, "ipFamilies");
  const json::array* ips = find_array(spec, "clusterIPs");
  const std::string field = child_path(path, "ipFamilies");
  if (families && families->size() > 2)
    causes.invalid(field, *families, "may only hold up to 2 values");
  else if (families && families->size() == 2 && (*families)[0] == (*families)[1])
    causes.add(item_path(field, 1), "FieldValueDuplicate",
               fmt::format("Duplicate value: {}", json::serialize((*families)[1])));
  if (find_string(spec, "ipFamilyPolicy") != kSingleStack)
    return;
  for (const auto& [list, name] : {std::pair(families, "ipFamilies"), {ips, "clusterIPs"}})
    if (list && list->size() == 2)
      causes.invalid(child_path(path, "ipFamilyPolicy"), json::string(kSingleStack),
                     fmt::format("must be 'RequireDualStack' or 'PreferDualStack' when multiple "
                                 "{} are specified",
                                 name));
}

void check_external_name_spec(const json::object& spec, std::string_view path, Causes& causes) {
  constexpr std::string_view kWhy = "may not be set when `type` is 'ExternalName'";
  forbid(spec, path, "clusterIP", kWhy, causes);
  forbid(spec, path, "clusterIPs", kWhy, causes);
  forbid(spec, path, "ipFamilies", kWhy, causes);
  forbid(spec, path, "ipFamilyPolicy", kWhy, causes);
  if (find_string(spec, "externalName").empty())
    causes.required(child_path(path, "externalName"));
}

void check_traffic_spec(const json::object& spec, std::string_view path, Causes& causes) {
  if (service_type(spec) != ServiceType::kLoadBalancer)
    for (const std::string_view field :
         {"loadBalancerIP", "loadBalancerClass", "loadBalancerSourceRanges",
          "allocateLoadBalancerNodePorts"})
      forbid(spec, path, field, "may only be used when `type` is 'LoadBalancer'", causes);
  const std::string_view policy = find_string(spec, "externalTrafficPolicy");
  if (!policy.empty() && !is_externally_accessible(spec))
    causes.invalid(child_path(path, "externalTrafficPolicy"), json::string(policy),
                   "may only be set for externally-accessible services");
  if (const std::int64_t port = find_int(spec, "healthCheckNodePort", 0);
      port != 0 && !has_health_check_port(spec))
    causes.invalid(child_path(path, "healthCheckNodePort"), port,
                   "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is "
                   "'Local'");
}

void check_service_spec(const json::object& spec, std::string_view path, Causes& causes) {
  const json::array* ports = find_array(spec, "ports");
  const std::string ports_path = child_path(path, "ports");
  if ((!ports || ports->empty()) && has_cluster_ip(spec) && !is_headless(spec))
    causes.required(ports_path);
  if (ports) {
    check_port_names(*ports, ports_path, causes);
    check_node_ports(spec, *ports, ports_path, causes);
  }
  if (const json::object* selector = find_object(spec, "selector"))
    check_label_map(*selector, child_path(path, "selector"), causes);
  check_traffic_spec(spec, path, causes);
  if (has_cluster_ip(spec)) {
    check_cluster_ips(spec, path, causes);
    check_families(spec, path, causes);
  } else {
    check_external_name_spec(spec, path, causes);
  }
}
const Message kServiceSpec{.name = "ServiceSpec",
                           .fields = kServiceSpecFields,
                           .fill = fill_service_spec,
                           .check = check_service_spec};

// ---- the whole
constexpr Field kServiceFields[] = {
    {.name = "apiVersion"},
    {.name = "kind"},
    part("metadata", kObjectMeta, true),
    part("spec", kServiceSpec, true),
    hint("status", FieldType::kJson),
};

// Why this service's connections cannot be shared out by weight; empty: they can.
std::string_view why_no_weights(const json::object& spec) {
  const json::object* selector = find_object(spec, "selector");
  if (!selector || selector->empty())
    return "weights share connections among selected pods, and this service has no selector";
  if (is_headless(spec))
    return "a headless service is not balanced: its clients choose among the pods themselves";
  if (!has_cluster_ip(spec))
    return "a service of type ExternalName is not balanced: its clients connect to another name";
  return {};
}

void check_weights(const json::object& service, Causes& causes) {
  const std::string field = fmt::format("metadata.annotations[{}]", kWeightsAnnotation);
  const Result<std::vector<LabelWeight>> weights = service_weights(service);
  const json::object* annotations = annotations_of(service);
  if (!weights)
    causes.invalid(field, annotations->at(kWeightsAnnotation), weights.error().message());
  else if (const std::string_view why = why_no_weights(spec_of(service));
           !weights->empty() && !why.empty())
    causes.invalid(field, annotations->at(kWeightsAnnotation), why);
}

void check_drain_timeout(const json::object& service, Causes& causes) {
  if (const auto timeout = drain_timeout(service); !timeout)
    causes.invalid(fmt::format("metadata.annotations[{}]", kDrainTimeoutAnnotation),
                   annotations_of(service)->at(kDrainTimeoutAnnotation), timeout.error().message());
}

void check_service(const json::object& service, std::string_view, Causes& causes) {
  check_weights(service, causes);
  check_drain_timeout(service, causes);
  const Result<std::vector<IpPrefix>> ranges = load_balancer_source_ranges(service);
  if (ranges)
    return;
  if (const json::array* listed = find_array(spec_of(service), "loadBalancerSourceRanges");
      listed && !listed->empty())
    causes.invalid("spec.loadBalancerSourceRanges", *listed, ranges.error().message());
  else
    causes.invalid(fmt::format("metadata.annotations[{}]", kSourceRangesAnnotation),
                   annotations_of(service)->at(kSourceRangesAnnotation), ranges.error().message());
}

}  // namespace

const Message kService{.name = "Service", .fields = kServiceFields, .check = check_service};

}  // namespace shoal::api
