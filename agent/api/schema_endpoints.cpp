// SPDX-License-Identifier: Apache-2.0
// EndpointSlice.
#include "agent/api/schema_tables.h"

namespace shoal::api {
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

const Message kEndpointSlice{"EndpointSlice", kEndpointSliceFields};

}  // namespace shoal::api
