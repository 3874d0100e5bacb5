// SPDX-License-Identifier: Apache-2.0
// Deployment and ReplicaSet.
#include "agent/api/schema_tables.h"
#include "agent/api/selector.h"

namespace shoal::api {
namespace json = boost::json;
namespace {

constexpr Field kRollingUpdateFields[] = {
    {.name = "maxSurge",
     .type = FieldType::kIntOrString,
     .fallback = "\"25%\"",
     .check = check_count_or_percent},
    {.name = "maxUnavailable",
     .type = FieldType::kIntOrString,
     .fallback = "\"25%\"",
     .check = check_count_or_percent},
};
bool is_zero(const json::value* value) {
  if (!value)
    return false;
  if (value->is_int64())
    return value->get_int64() == 0;
  return value->is_string() && (value->get_string() == "0%" || value->get_string() == "0");
}
void check_rolling_update(const json::object& rolling, std::string_view path, Causes& causes) {
  const json::value* unavailable = rolling.if_contains("maxUnavailable");
  if (is_zero(unavailable) && is_zero(rolling.if_contains("maxSurge")))
    causes.invalid(child_path(path, "maxUnavailable"), *unavailable,
                   "may not be 0 when `maxSurge` is 0");
  if (unavailable && unavailable->is_string() && unavailable->get_string().size() > 3 &&
      unavailable->get_string() != "100%")
    causes.invalid(child_path(path, "maxUnavailable"), *unavailable,
                   "must not be greater than 100%");
}
const Message kRollingUpdate{.name = "RollingUpdateDeployment",
                             .fields = kRollingUpdateFields,
                             .check = check_rolling_update};
constexpr Field kStrategyFields[] = {
    {.name = "type",
     .fallback = "\"RollingUpdate\"",
     .values = "RollingUpdate",
     .values_later = "Recreate"},
    {.name = "rollingUpdate",
     .type = FieldType::kMessage,
     .message = &kRollingUpdate,
     .fallback = "{}"},
};
const Message kStrategy{"DeploymentStrategy", kStrategyFields};

constexpr Field kReplicas{
    .name = "replicas", .type = FieldType::kInt32, .fallback = "1", .check = check_not_negative};
constexpr Field kMinReady{
    .name = "minReadySeconds", .type = FieldType::kInt32, .check = check_not_negative};
constexpr Field kSelectorField{.name = "selector",
                               .type = FieldType::kMessage,
                               .message = &kSelector,
                               .required = true,
                               .immutable = true};

constexpr Field kDeploymentSpecFields[] = {
    kReplicas,
    kSelectorField,
    part("template", kPodTemplate, true),
    {.name = "strategy", .type = FieldType::kMessage, .message = &kStrategy, .fallback = "{}"},
    kMinReady,
    {.name = "revisionHistoryLimit",
     .type = FieldType::kInt32,
     .fallback = "10",
     .check = check_not_negative},
    {.name = "paused", .type = FieldType::kBool},
    {.name = "progressDeadlineSeconds",
     .type = FieldType::kInt32,
     .fallback = "600",
     .check = check_positive},
};
void check_deployment_spec(const json::object& spec, std::string_view path, Causes& causes) {
  check_workload_selector(spec, path, "deployment", causes);
  const json::value* deadline = spec.if_contains("progressDeadlineSeconds");
  if (deadline &&
      find_int(spec, "progressDeadlineSeconds", 600) <= find_int(spec, "minReadySeconds", 0))
    causes.invalid(child_path(path, "progressDeadlineSeconds"), *deadline,
                   "must be greater than minReadySeconds");
}
const Message kDeploymentSpec{
    .name = "DeploymentSpec", .fields = kDeploymentSpecFields, .check = check_deployment_spec};

constexpr Field kReplicaSetSpecFields[] = {
    kReplicas,
    kSelectorField,
    part("template", kPodTemplate, true),
    kMinReady,
};
void check_replica_set_spec(const json::object& spec, std::string_view path, Causes& causes) {
  check_workload_selector(spec, path, "replicaset", causes);
}
const Message kReplicaSetSpec{
    .name = "ReplicaSetSpec", .fields = kReplicaSetSpecFields, .check = check_replica_set_spec};

constexpr Field kDeploymentFields[] = {
    {.name = "apiVersion"},
    {.name = "kind"},
    part("metadata", kObjectMeta, true),
    part("spec", kDeploymentSpec, true),
    hint("status", FieldType::kJson),
};
constexpr Field kReplicaSetFields[] = {
    {.name = "apiVersion"},
    {.name = "kind"},
    part("metadata", kObjectMeta, true),
    part("spec", kReplicaSetSpec, true),
    hint("status", FieldType::kJson),
};

}  // namespace

const Message kDeployment{.name = "Deployment", .fields = kDeploymentFields};
const Message kReplicaSet{.name = "ReplicaSet", .fields = kReplicaSetFields};

}  // namespace shoal::api
