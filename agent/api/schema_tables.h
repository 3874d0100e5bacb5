// SPDX-License-Identifier: Apache-2.0
// The tables behind schema.h, shared by the files that hold them. Internal to agent/api.
#pragma once

#include "agent/api/schema.h"

namespace shoal::api {

// ---- rows that occur often
constexpr Field later(std::string_view name, std::string_view neutral = {}) {
  return {.name = name, .type = FieldType::kJson, .support = Support::kNotYet, .values = neutral};
}
constexpr Field hint(std::string_view name, FieldType type = FieldType::kString) {
  return {.name = name, .type = type, .support = Support::kHint};
}
constexpr Field hints(std::string_view name, FieldType type = FieldType::kString) {
  return {.name = name, .type = type, .list = ListType::kAtomic, .support = Support::kHint};
}
constexpr Field part(std::string_view name, const Message& message, bool required = false) {
  return {.name = name, .type = FieldType::kMessage, .message = &message, .required = required};
}

// ---- messages
extern const Message kObjectMeta;  // schema_meta.cpp
extern const Message kClaimMeta;
extern const Message kTemplateMeta;
extern const Message kSelector;
extern const Message kObjectReference;
extern const Message kProbe;  // schema_probe.cpp
extern const Message kReadinessProbe;
extern const Message kLifecycle;
extern const Message kHostAlias;  // schema_pod_names.cpp
extern const Message kDnsConfig;
extern const Message kPodSpec;  // schema_pod.cpp
extern const Message kPodTemplate;
extern const Message kPod;
extern const Message kNamespace;  // schema_core.cpp
extern const Message kNode;
extern const Message kService;        // schema_service.cpp
extern const Message kEndpointSlice;  // schema_endpoints.cpp
extern const Message kEndpoints;
extern const Message kEvent;
extern const Message kDeployment;  // schema_apps.cpp
extern const Message kReplicaSet;
extern const Message kEnv;  // schema_env.cpp
extern const Message kEnvFrom;
extern const Message kResourceFieldRef;
extern const Message kVolume;  // schema_volume.cpp
extern const Message kVolumeMount;
extern const Message kPersistentVolumeClaim;  // schema_claim.cpp
extern const Message kConfigMap;              // schema_config.cpp
extern const Message kSecret;

// ---- columns: columns.cpp
extern const std::span<const Column> kPodColumns, kDeploymentColumns, kReplicaSetColumns,
    kServiceColumns, kEndpointsColumns, kEndpointSliceColumns, kNodeColumns, kNamespaceColumns,
    kEventColumns, kConfigMapColumns, kSecretColumns, kPersistentVolumeClaimColumns;

// ---- value checks
std::string check_dns_label(const boost::json::value& value);
std::string check_dns_subdomain(const boost::json::value& value);
std::string check_dns_1035_label(const boost::json::value& value);
std::string check_port_name(const boost::json::value& value);  // RFC 6335, with a letter
std::string check_port(const boost::json::value& value);       // 1..65535
std::string check_port_or_name(const boost::json::value& value);
std::string check_not_negative(const boost::json::value& value);
std::string check_positive(const boost::json::value& value);
std::string check_count_or_percent(const boost::json::value& value);
std::string check_ip(const boost::json::value& value);
std::string check_ip_or_empty(const boost::json::value& value);
std::string check_absolute_path(const boost::json::value& value);  // schema_probe.cpp
std::string check_user_id(const boost::json::value& value);
std::string check_label_key(const boost::json::value& value);
// Of ConfigMaps and Secrets. Empty: fine.
std::string config_key_problem(std::string_view key);

// ---- walking
std::string child_path(std::string_view path, std::string_view field);
std::string item_path(std::string_view path, std::size_t index);
std::string as_text(const boost::json::value& value);  // for messages: serialized, cut

// Message checks that several kinds share.
void check_selector(const boost::json::object& selector, std::string_view path, Causes& causes);
void check_label_map(const boost::json::object& labels, std::string_view path, Causes& causes);
// The annotations about restarts, of a pod or a template.
void check_backoff(const boost::json::object& object, std::string_view path, Causes& causes);
void check_pod_names(const boost::json::object& spec, std::string_view path, Causes& causes);
// A container's volumeMounts against the volumes of its pod.
void check_container_mounts(const boost::json::object& spec, const boost::json::object& container,
                            std::string_view path, Causes& causes);
void check_pod_spec(const boost::json::object& spec, std::string_view path, Causes& causes);
// spec.selector against spec.template, for workloads.
void check_workload_selector(const boost::json::object& spec, std::string_view path,
                             std::string_view kind, Causes& causes);

// Updates of ConfigMaps and Secrets that are marked immutable.
void compare_config(const boost::json::object& before, const boost::json::object& after,
                    Causes& causes);
// Updates of PersistentVolumeClaims.
void compare_claims(const boost::json::object& before, const boost::json::object& after,
                    Causes& causes);

bool condition_true(const boost::json::object& body, std::string_view type);  // status.conditions
// Null, false, 0, "", [], {} and objects of nothing else.
bool is_neutral(const boost::json::value& value);
bool one_of(std::string_view value, std::string_view choices);  // "a|b|c"

}  // namespace shoal::api
