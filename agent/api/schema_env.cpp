// SPDX-License-Identifier: Apache-2.0
// The environment of a container: values, and what they are taken from.
#include "agent/api/schema_tables.h"
#include "agent/api/selector.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::api {
namespace json = boost::json;
namespace {

std::string check_env_name(const json::value& value) {
  const std::string_view name = value.get_string();
  if (name.empty() || name.find('=') != name.npos || name.find('\0') != name.npos)
    return "a valid environment variable name must not be empty and must not contain '='";
  return {};
}

std::string check_config_key(const json::value& value) {
  return config_key_problem(value.get_string());
}

std::string check_field_path(const json::value& value) {
  const std::string_view path = value.get_string();
  constexpr std::string_view kFields[] = {"metadata.name",
                                          "metadata.namespace",
                                          "metadata.uid",
                                          "spec.nodeName",
                                          "spec.serviceAccountName",
                                          "status.hostIP",
                                          "status.hostIPs",
                                          "status.podIP",
                                          "status.podIPs"};
  if (std::ranges::find(kFields, path) != std::end(kFields))
    return {};
  for (const std::string_view map : {"metadata.labels['", "metadata.annotations['"})
    if (path.starts_with(map) && path.ends_with("']") && path.size() > map.size() + 2)
      return {};
  return "a field that variables can be taken from: metadata.name, metadata.namespace, "
         "metadata.uid, metadata.labels['KEY'], metadata.annotations['KEY'], spec.nodeName, "
         "spec.serviceAccountName, status.hostIP, status.hostIPs, status.podIP, status.podIPs";
}

constexpr Field kKeyRefFields[] = {
    {.name = "name", .required = true},
    {.name = "key", .required = true, .check = check_config_key},
    {.name = "optional", .type = FieldType::kBool},
};
const Message kConfigMapKey{"ConfigMapKeySelector", kKeyRefFields};
const Message kSecretKey{"SecretKeySelector", kKeyRefFields};
constexpr Field kFieldRefFields[] = {
    {.name = "apiVersion", .fallback = "\"v1\"", .values = "v1"},
    {.name = "fieldPath", .required = true, .check = check_field_path},
};
const Message kFieldRef{"ObjectFieldSelector", kFieldRefFields};
constexpr Field kResourceRefFields[] = {
    {.name = "containerName"},
    {.name = "resource",
     .required = true,
     .values = "limits.cpu|limits.memory|limits.ephemeral-storage|requests.cpu|requests.memory|"
               "requests.ephemeral-storage"},
    {.name = "divisor", .type = FieldType::kQuantity},
};

constexpr Field kValueFromFields[] = {
    part("fieldRef", kFieldRef),
    part("resourceFieldRef", kResourceFieldRef),
    part("configMapKeyRef", kConfigMapKey),
    part("secretKeyRef", kSecretKey),
    later("fileKeyRef"),
};
const Message kValueFrom{"EnvVarSource", kValueFromFields};

constexpr Field kEnvFields[] = {
    {.name = "name", .required = true, .check = check_env_name},
    {.name = "value"},
    part("valueFrom", kValueFrom),
};

void check_env(const json::object& variable, std::string_view path, Causes& causes) {
  const json::object* from = find_object(variable, "valueFrom");
  if (!from)
    return;
  const std::string at = child_path(path, "valueFrom");
  std::size_t sources = 0;
  for (const Field& field : kValueFromFields)
    if (from->contains(field.name))
      ++sources;
  if (!find_string(variable, "value").empty())
    causes.invalid(at, json::string(""), "may not be specified when `value` is not empty");
  if (sources == 0)
    causes.invalid(at, json::string(""),
                   "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or "
                   "`secretKeyRef`");
  if (sources > 1)
    causes.invalid(at, json::string(""), "may not have more than one field specified at a time");
}

constexpr Field kRefFields[] = {
    {.name = "name", .required = true},
    {.name = "optional", .type = FieldType::kBool},
};
const Message kConfigMapRef{"ConfigMapEnvSource", kRefFields};
const Message kSecretRef{"SecretEnvSource", kRefFields};
std::string check_prefix(const json::value& value) {
  return value.get_string().empty() ? "" : check_env_name(value);
}
constexpr Field kEnvFromFields[] = {
    {.name = "prefix", .check = check_prefix},
    part("configMapRef", kConfigMapRef),
    part("secretRef", kSecretRef),
};
void check_env_from(const json::object& from, std::string_view path, Causes& causes) {
  const bool map = from.contains("configMapRef"), secret = from.contains("secretRef");
  if (!map && !secret)
    causes.invalid(std::string(path), json::string(""),
                   "must specify one of: `configMapRef` or `secretRef`");
  if (map && secret)
    causes.invalid(std::string(path), json::string(""),
                   "may not have more than one field specified at a time");
}

}  // namespace

const Message kResourceFieldRef{"ResourceFieldSelector", kResourceRefFields};
const Message kEnv{.name = "EnvVar", .fields = kEnvFields, .check = check_env};
const Message kEnvFrom{.name = "EnvFromSource", .fields = kEnvFromFields, .check = check_env_from};

}  // namespace shoal::api
