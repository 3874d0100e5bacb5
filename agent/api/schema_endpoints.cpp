// SPDX-License-Identifier: Apache-2.0
// EndpointSlice, and Endpoints before it.
#include "agent/api/schema_tables.h"
#include "agent/api/selector.h"
#include "agent/api/service_facts.h"

#include <fmt/format.h>

namespace shoal::api {
namespace json = boost::json;
namespace {

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
// The same, but that no name is no name.
constexpr Field kSubsetPortFields[] = {
    {.name = "name", .check = check_dns_label},
    {.name = "port", .type = FieldType::kInt32, .required = true, .check = check_port},
    {.name = "protocol", .fallback = "\"TCP\"", .values = "TCP|UDP", .values_later = "SCTP"},
    hint("appProtocol"),
};
const Message kSubsetPort{"EndpointPort", kSubsetPortFields};
constexpr Field kEndpointSliceFields[] = {
    {.name = "apiVersion"},
    {.name = "kind"},
    part("metadata", kObjectMeta, true),
    {.name = "addressType",
     .required = true,
     .immutable = true,
     .values = "IPv4|IPv6",
     .values_later = "FQDN"},
    {.name = "endpoints",
     .type = FieldType::kMessage,
     .message = &kEndpoint,
     .list = ListType::kAtomic},
    {.name = "ports",
     .type = FieldType::kMessage,
     .message = &kEndpointPort,
     .list = ListType::kAtomic},
};

void check_endpoint_slice(const json::object& slice, std::string_view path, Causes& causes) {
  const auto family = parse_ip_family(find_string(slice, "addressType"));
  const json::array* endpoints = find_array(slice, "endpoints");
  if (!family || !endpoints)
    return;
  for (std::size_t i = 0; i < endpoints->size(); ++i) {
    const json::object* endpoint = (*endpoints)[i].if_object();
    const json::array* addresses = endpoint ? find_array(*endpoint, "addresses") : nullptr;
    for (std::size_t j = 0; addresses && j < addresses->size(); ++j) {
      const json::value& address = (*addresses)[j];
      const auto ip = IpAddress::parse(address.is_string() ? std::string_view(address.get_string())
                                                           : std::string_view());
      if (ip && ip->family() != *family)
        causes.invalid(
            item_path(child_path(item_path(child_path(path, "endpoints"), i), "addresses"), j),
            address, fmt::format("must be an {} address", to_string(*family)));
    }
  }
}

// ---- Endpoints
constexpr Field kAddressFields[] = {
    {.name = "ip", .required = true, .check = check_ip},
    hint("hostname"),
    {.name = "nodeName"},
    part("targetRef", kObjectReference),
};
const Message kAddress{"EndpointAddress", kAddressFields};
constexpr Field kSubsetFields[] = {
    {.name = "addresses",
     .type = FieldType::kMessage,
     .message = &kAddress,
     .list = ListType::kAtomic},
    {.name = "notReadyAddresses",
     .type = FieldType::kMessage,
     .message = &kAddress,
     .list = ListType::kAtomic},
    {.name = "ports",
     .type = FieldType::kMessage,
     .message = &kSubsetPort,
     .list = ListType::kAtomic},
};
void check_subset(const boost::json::object& subset, std::string_view path, Causes& causes) {
  const auto any = [&](std::string_view name) {
    const boost::json::array* list = find_array(subset, name);
    return list && !list->empty();
  };
  if (!any("addresses") && !any("notReadyAddresses"))
    causes.required(std::string(path), "must specify `addresses` or `notReadyAddresses`");
}
const Message kSubset{.name = "EndpointSubset", .fields = kSubsetFields, .check = check_subset};
constexpr Field kEndpointsFields[] = {
    {.name = "apiVersion"},
    {.name = "kind"},
    part("metadata", kObjectMeta, true),
    {.name = "subsets",
     .type = FieldType::kMessage,
     .message = &kSubset,
     .list = ListType::kAtomic},
};

}  // namespace

const Message kEndpoints{"Endpoints", kEndpointsFields};
const Message kEndpointSlice{
    .name = "EndpointSlice", .fields = kEndpointSliceFields, .check = check_endpoint_slice};

}  // namespace shoal::api
