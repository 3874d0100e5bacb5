// SPDX-License-Identifier: Apache-2.0
// Namespace, Node and Event.
#include "agent/api/schema_tables.h"
#include "agent/api/selector.h"

namespace shoal::api {
namespace json = boost::json;
namespace {

constexpr Field kNamespaceSpecFields[] = {
    hints("finalizers"),  // Kubernetes' own entry; contents always go before their namespace here
};
const Message kNamespaceSpec{"NamespaceSpec", kNamespaceSpecFields};
constexpr Field kNamespaceFields[] = {
    {.name = "apiVersion"},
    {.name = "kind"},
    part("metadata", kObjectMeta, true),
    part("spec", kNamespaceSpec),
    hint("status", FieldType::kJson),
};

constexpr Field kNodeSpecFields[] = {
    {.name = "podCIDR", .immutable = true},
    {.name = "podCIDRs", .list = ListType::kSet, .immutable = true},
    {.name = "unschedulable", .type = FieldType::kBool},
    hint("providerID"),
    later("taints"),
    later("configSource"),
    later("externalID"),
};
const Message kNodeSpec{"NodeSpec", kNodeSpecFields};
constexpr Field kNodeFields[] = {
    {.name = "apiVersion"},
    {.name = "kind"},
    part("metadata", kObjectMeta, true),
    part("spec", kNodeSpec),
    hint("status", FieldType::kJson),
};

constexpr Field kEventSourceFields[] = {{.name = "component"}, {.name = "host"}};
const Message kEventSource{"EventSource", kEventSourceFields};
constexpr Field kEventFields[] = {
    {.name = "apiVersion"},
    {.name = "kind"},
    part("metadata", kObjectMeta, true),
    part("involvedObject", kObjectReference, true),
    {.name = "reason"},
    {.name = "message"},
    part("source", kEventSource),
    {.name = "firstTimestamp", .type = FieldType::kTime},
    {.name = "lastTimestamp", .type = FieldType::kTime},
    {.name = "eventTime", .type = FieldType::kTime},
    {.name = "count", .type = FieldType::kInt32},
    {.name = "type", .values = "Normal|Warning"},
    {.name = "action"},
    part("related", kObjectReference),
    {.name = "reportingComponent"},
    {.name = "reportingInstance"},
    hint("series", FieldType::kJson),
};

}  // namespace

const Message kNamespace{"Namespace", kNamespaceFields};
const Message kNode{"Node", kNodeFields};
const Message kEvent{"Event", kEventFields};

}  // namespace shoal::api
