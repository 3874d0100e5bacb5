// SPDX-License-Identifier: Apache-2.0
// ConfigMap and Secret. Messages about a Secret name its keys and never show a value.
#include "agent/api/schema_tables.h"
#include "agent/api/selector.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <boost/json/parse.hpp>
#include <fmt/format.h>

namespace shoal::api {
namespace json = boost::json;
namespace {

constexpr std::size_t kDataBytesMax = 1 << 20;  // Kubernetes' total of all values, decoded
constexpr std::string_view kRedacted = "<secret contents redacted>";

std::string key_path(std::string_view path, std::string_view key) {
  return fmt::format("{}[{}]", path, key);
}

std::size_t decoded_bytes(const json::value& value) {
  const json::string* text = value.if_string();
  if (!text || text->size() < 4)
    return 0;
  return text->size() / 4 * 3 - (text->ends_with("==") ? 2 : text->ends_with('=') ? 1 : 0);
}

void check_keys(const json::object& data, std::string_view path, Causes& causes) {
  for (const auto& member : data)
    if (std::string problem = config_key_problem(member.key()); !problem.empty())
      causes.invalid(key_path(path, member.key()), json::string(member.key()), problem);
}

void too_long(std::string_view path, Causes& causes) {
  causes.add(std::string(path), "FieldValueTooLong",
             fmt::format("Too long: must have at most {} bytes", kDataBytesMax));
}

// ---- ConfigMap
constexpr Field kConfigMapFields[] = {
    {.name = "apiVersion"},
    {.name = "kind"},
    part("metadata", kObjectMeta, true),
    {.name = "data", .type = FieldType::kStringMap},
    {.name = "binaryData", .type = FieldType::kBytesMap},
    {.name = "immutable", .type = FieldType::kBool},
};

void check_config_map(const json::object& body, std::string_view, Causes& causes) {
  std::size_t bytes = 0;
  const json::object* data = find_object(body, "data");
  const json::object* binary = find_object(body, "binaryData");
  if (data) {
    check_keys(*data, "data", causes);
    for (const auto& [key, value] : *data) {
      bytes += value.is_string() ? value.get_string().size() : 0;
      if (binary && binary->contains(key))
        causes.invalid(key_path("data", key), json::string(key),
                       "duplicate of key present in binaryData");
    }
  }
  if (binary) {
    check_keys(*binary, "binaryData", causes);
    for (const auto& [key, value] : *binary) {
      bytes += decoded_bytes(value);
      if (data && data->contains(key))
        causes.invalid(key_path("binaryData", key), json::string(key),
                       "duplicate of key present in data");
    }
  }
  if (bytes > kDataBytesMax)
    too_long("", causes);
}

// ---- Secret
constexpr Field kSecretFields[] = {
    {.name = "apiVersion"},
    {.name = "kind"},
    part("metadata", kObjectMeta, true),
    {.name = "type", .immutable = true, .fallback = "\"Opaque\""},
    {.name = "data", .type = FieldType::kBytesMap, .secret = true},
    // For writing: what it holds is put into data, and it is never stored or shown.
    {.name = "stringData", .type = FieldType::kStringMap, .secret = true},
    {.name = "immutable", .type = FieldType::kBool},
};

void fill_secret(json::object& body) {
  if (find_string(body, "type").empty())
    body["type"] = "Opaque";
  const json::object* given = find_object(body, "stringData");
  if (given && !given->empty()) {
    const json::object texts = *given;  // a new member may move the old ones
    json::value& data = body["data"];
    if (!data.is_object())
      data.emplace_object();
    for (const auto& [key, value] : texts)
      if (value.is_string())
        data.get_object()[key] = base64(std::string_view(value.get_string()));
  }
  body.erase("stringData");
}

void check_json_key(const json::object* data, std::string_view key, Causes& causes) {
  const json::value* value = data ? data->if_contains(key) : nullptr;
  if (!value || !value->is_string()) {
    causes.required(key_path("data", key));
    return;
  }
  const auto text = parse_base64(value->get_string());
  boost::system::error_code error;
  if (text)
    json::parse(*text, error);
  if (!text || error)
    causes.add(
        key_path("data", key), "FieldValueInvalid",
        fmt::format("Invalid value: \"{}\": {}", kRedacted, text ? error.message() : "no JSON"));
}

// What programs that use a Secret of this type count on.
void check_secret_type(const json::object& body, const json::object* data, Causes& causes) {
  const std::string_view type = find_string(body, "type");
  const auto has = [&](std::string_view key) { return data && data->contains(key); };
  const auto need = [&](std::string_view key) {
    if (!has(key))
      causes.required(key_path("data", key));
  };
  if (type == "kubernetes.io/service-account-token") {
    constexpr std::string_view kAccount = "kubernetes.io/service-account.name";
    const json::object* annotations = annotations_of(body);
    const json::value* account = annotations ? annotations->if_contains(kAccount) : nullptr;
    if (!account || !account->is_string() || account->get_string().empty())
      causes.required(key_path("metadata.annotations", kAccount));
  } else if (type == "kubernetes.io/dockercfg") {
    check_json_key(data, ".dockercfg", causes);
  } else if (type == "kubernetes.io/dockerconfigjson") {
    check_json_key(data, ".dockerconfigjson", causes);
  } else if (type == "kubernetes.io/basic-auth") {
    if (!has("username") && !has("password")) {
      need("username");
      need("password");
    }
  } else if (type == "kubernetes.io/ssh-auth") {
    const json::value* key = data ? data->if_contains("ssh-privatekey") : nullptr;
    if (!key || decoded_bytes(*key) == 0)
      causes.required(key_path("data", "ssh-privatekey"));
  } else if (type == "kubernetes.io/tls") {
    need("tls.crt");
    need("tls.key");
  }
}

void check_secret(const json::object& body, std::string_view, Causes& causes) {
  const json::object* data = find_object(body, "data");
  std::size_t bytes = 0;
  if (data) {
    check_keys(*data, "data", causes);
    for (const auto& member : *data)
      bytes += decoded_bytes(member.value());
  }
  if (bytes > kDataBytesMax)
    too_long("data", causes);
  check_secret_type(body, data, causes);
}

bool is_true(const json::object& body, std::string_view field) {
  const json::value* value = body.if_contains(field);
  return value && value->is_bool() && value->get_bool();
}

// Absent and empty are the same.
bool same_data(const json::object& a, const json::object& b, std::string_view field) {
  const json::object* x = find_object(a, field);
  const json::object* y = find_object(b, field);
  if (!x || !y)
    return (!x || x->empty()) && (!y || y->empty());
  return *x == *y;
}

}  // namespace

void compare_config(const json::object& before, const json::object& after, Causes& causes) {
  if (!is_true(before, "immutable"))
    return;
  const auto forbidden = [&](std::string_view field) {
    causes.add(std::string(field), "FieldValueForbidden",
               "Forbidden: field is immutable when `immutable` is set");
  };
  if (!is_true(after, "immutable"))
    forbidden("immutable");
  for (const std::string_view field : {"data", "binaryData"})
    if (!same_data(before, after, field))
      forbidden(field);
}

std::string config_key_problem(std::string_view key) {
  constexpr std::size_t kKeyMax = 253;
  if (key.size() > kKeyMax)
    return fmt::format("must be no more than {} characters", kKeyMax);
  const bool shape = !key.empty() && std::all_of(key.begin(), key.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  });
  if (!shape)
    return "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. "
           "'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is "
           "'[-._a-zA-Z0-9]+')";
  if (key == "." || key == "..")
    return fmt::format("must not be '{}'", key);
  if (key.starts_with(".."))
    return "must not start with '..'";
  return {};
}

const Message kConfigMap{
    .name = "ConfigMap", .fields = kConfigMapFields, .check = check_config_map};
const Message kSecret{
    .name = "Secret", .fields = kSecretFields, .fill = fill_secret, .check = check_secret};

}  // namespace shoal::api
