// SPDX-License-Identifier: Apache-2.0
// Service and EndpointSlice.
#include "agent/api/schema_tables.h"
#include "agent/api/selector.h"
#include "agent/api/weights.h"

#include <fmt/format.h>
#include <set>

namespace shoal::api {
namespace json = boost::json;
namespace {

constexpr Field kServicePortFields[] = {
    {.name = "name", .check = check_dns_label},
    {.name = "port", .type = FieldType::kInt32, .required = true, .check = check_port},
    {.name = "targetPort", .type = FieldType::kIntOrString, .check = check_port_or_name},
    {.name = "protocol", .fallback = "\"TCP\"", .values = "TCP|UDP", .values_later = "SCTP"},
    later("nodePort"),
    hint("appProtocol"),
};
void fill_service_port(json::object& port) {
  const json::value* number = port.if_contains("port");
  if (!number || port.contains("targetPort"))
    return;
  const json::value same = *number;
  port["targetPort"] = same;
}
const Message kServicePort{
    .name = "ServicePort", .fields = kServicePortFields, .fill = fill_service_port};

constexpr Field kServiceSpecFields[] = {
    {.name = "type",
     .fallback = "\"ClusterIP\"",
     .values = "ClusterIP|LoadBalancer",
     .values_later = "NodePort|ExternalName"},
    {.name = "selector", .type = FieldType::kStringMap},
    {.name = "ports",
     .type = FieldType::kMessage,
     .message = &kServicePort,
     .list = ListType::kMap,
     .list_keys = "port,protocol",
     .required = true},
    // The server allots it when it is absent; the writer compares it with the present one.
    {.name = "clusterIP", .values_later = "None", .check = check_ip_or_empty},
    {.name = "clusterIPs",
     .list = ListType::kAtomic,
     .values_later = "None",
     .check = check_ip_or_empty},
    {.name = "loadBalancerIP", .check = check_ip_or_empty},
    later("loadBalancerClass", "shoal.dev/announce"),
    {.name = "sessionAffinity",
     .fallback = "\"None\"",
     .values = "None",
     .values_later = "ClientIP"},
    {.name = "externalTrafficPolicy", .values = "Cluster", .values_later = "Local"},
    {.name = "internalTrafficPolicy",
     .fallback = "\"Cluster\"",
     .values = "Cluster",
     .values_later = "Local"},
    {.name = "ipFamilies",
     .list = ListType::kAtomic,
     .fallback = "[\"IPv4\"]",
     .values = "IPv4",
     .values_later = "IPv6"},
    {.name = "ipFamilyPolicy",
     .fallback = "\"SingleStack\"",
     .values = "SingleStack",
     .values_later = "PreferDualStack|RequireDualStack"},
    later("allocateLoadBalancerNodePorts"),
    later("externalIPs"),
    later("externalName"),
    later("healthCheckNodePort"),
    later("loadBalancerSourceRanges"),
    later("publishNotReadyAddresses"),
    later("sessionAffinityConfig"),
    later("trafficDistribution"),
};
void fill_service_spec(json::object& spec) {
  if (find_string(spec, "type") == "LoadBalancer" && !spec.contains("externalTrafficPolicy"))
    spec["externalTrafficPolicy"] = "Cluster";
}
void check_service_ports(const json::array& ports, std::string_view path, Causes& causes) {
  if (ports.empty())
    causes.required(std::string(path));
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
void check_service_spec(const json::object& spec, std::string_view path, Causes& causes) {
  if (const json::array* ports = find_array(spec, "ports"))
    check_service_ports(*ports, child_path(path, "ports"), causes);
  if (const json::object* selector = find_object(spec, "selector"))
    check_label_map(*selector, child_path(path, "selector"), causes);
  const std::string_view vip = find_string(spec, "loadBalancerIP");
  if (!vip.empty() && find_string(spec, "type") != "LoadBalancer")
    causes.add(child_path(path, "loadBalancerIP"), "FieldValueForbidden",
               "Forbidden: may only be used when `type` is 'LoadBalancer'");
  const json::array* ips = find_array(spec, "clusterIPs");
  if (!ips || ips->empty())
    return;
  const std::string_view ip = find_string(spec, "clusterIP");
  if (ips->size() > 1)
    causes.not_yet(child_path(path, "clusterIPs"), "more than one cluster IP");
  else if (!ips->front().is_string() || ips->front().get_string() != ip)
    causes.invalid(child_path(path, "clusterIPs"), *ips, "first value must match `clusterIP`");
}
const Message kServiceSpec{.name = "ServiceSpec",
                           .fields = kServiceSpecFields,
                           .fill = fill_service_spec,
                           .check = check_service_spec};

constexpr Field kServiceFields[] = {
    {.name = "apiVersion"},
    {.name = "kind"},
    part("metadata", kObjectMeta, true),
    part("spec", kServiceSpec, true),
    hint("status", FieldType::kJson),
};
void check_service(const json::object& service, std::string_view, Causes& causes) {
  const std::string field = fmt::format("metadata.annotations[{}]", kWeightsAnnotation);
  const Result<std::vector<LabelWeight>> weights = service_weights(service);
  const json::object* annotations = annotations_of(service);
  if (!weights)
    causes.invalid(field, annotations->at(kWeightsAnnotation), weights.error().message());
  const json::object* selector = find_object(service, "spec.selector");
  if (weights && !weights->empty() && (!selector || selector->empty()))
    causes.invalid(
        field, annotations->at(kWeightsAnnotation),
        "weights share connections among selected pods, and this service has no selector");
}

// ---- EndpointSlice
constexpr Field kConditionsFields[] = {
    {.name = "ready", .type = FieldType::kBool},
    {.name = "serving", .type = FieldType::kBool},
    {.name = "terminating", .type = FieldType::kBool},
};
const Message kConditions{"EndpointConditions", kConditionsFields};
constexpr Field kEndpointFields[] = {
    {.name = "addresses", .list = ListType::kSet, .required = true, .check = check_ip},
    part("conditions", kConditions),
    {.name = "nodeName"},
    part("targetRef", kObjectReference),
    hint("hostname"),
    hint("zone"),
    hint("hints", FieldType::kJson),
    hint("deprecatedTopology", FieldType::kStringMap),
};
const Message kEndpoint{"Endpoint", kEndpointFields};
constexpr Field kEndpointPortFields[] = {
    {.name = "name", .fallback = "\"\""},
    {.name = "port", .type = FieldType::kInt32, .required = true, .check = check_port},
    {.name = "protocol", .fallback = "\"TCP\"", .values = "TCP|UDP", .values_later = "SCTP"},
    hint("appProtocol"),
};
const Message kEndpointPort{"EndpointPort", kEndpointPortFields};
constexpr Field kEndpointSliceFields[] = {
    {.name = "apiVersion"},
    {.name = "kind"},
    part("metadata", kObjectMeta, true),
    {.name = "addressType",
     .required = true,
     .immutable = true,
     .values = "IPv4",
     .values_later = "IPv6|FQDN"},
    {.name = "endpoints",
     .type = FieldType::kMessage,
     .message = &kEndpoint,
     .list = ListType::kAtomic},
    {.name = "ports",
     .type = FieldType::kMessage,
     .message = &kEndpointPort,
     .list = ListType::kAtomic},
};

}  // namespace

const Message kService{.name = "Service", .fields = kServiceFields, .check = check_service};
const Message kEndpointSlice{"EndpointSlice", kEndpointSliceFields};

}  // namespace shoal::api
