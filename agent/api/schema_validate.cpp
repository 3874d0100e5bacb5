// SPDX-License-Identifier: Apache-2.0
// The later steps of admission: defaults, then the values of a complete object, then what an update
// may change.
#include "agent/api/schema.h"
#include "agent/api/schema_tables.h"
#include "agent/api/selector.h"
#include "netplane/base/ip.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>
#include <set>

namespace shoal::api {
namespace json = boost::json;
namespace {

constexpr std::size_t kNameMax = 253;

// ---- defaults
void fill_message(const Message& message, json::object& body) {
  for (const Field& field : message.fields) {
    if (field.support == Support::kNotYet)
      continue;
    json::value* value = body.if_contains(field.name);
    if (!value && !field.fallback.empty())
      value = &(body[field.name] = json::parse(field.fallback));
    if (!value || field.type != FieldType::kMessage)
      continue;
    if (json::object* part = value->if_object())
      fill_message(*field.message, *part);
    if (json::array* items = value->if_array())
      for (json::value& item : *items)
        if (json::object* part = item.if_object())
          fill_message(*field.message, *part);
  }
  if (message.fill)
    message.fill(body);
}

// ---- values
class Validator {
public:
  void message(const Message& message, const json::object& body, std::string_view path) {
    for (const Field& field : message.fields) {
      const json::value* value = body.if_contains(field.name);
      const std::string at = child_path(path, field.name);
      if (!value) {
        if (field.required)
          causes.required(at);
      } else {
        present(field, *value, at);
      }
    }
    if (message.check)
      message.check(body, path, causes);
  }

  Causes causes;

private:
  void present(const Field& field, const json::value& value, const std::string& at) {
    const json::array* items = field.list == ListType::kNone ? nullptr : value.if_array();
    if (!items)
      return single(field, value, at);
    for (std::size_t i = 0; i < items->size(); ++i)
      single(field, (*items)[i], item_path(at, i));
    unique(field, *items, at);
  }

  void single(const Field& field, const json::value& value, const std::string& at) {
    if (field.type == FieldType::kMessage) {
      if (const json::object* part = value.if_object())
        message(*field.message, *part, at);
      return;
    }
    const json::string* text = value.if_string();
    if (text && text->empty() && field.required) {
      causes.required(at);
      return;
    }
    // An empty string is Kubernetes' "not given".
    if (text && !text->empty() && !field.values.empty() && field.support != Support::kNotYet &&
        !one_of(*text, field.values)) {
      causes.not_supported(at, value, field.values);
      return;
    }
    if (field.check && !(text && text->empty()))
      if (std::string problem = field.check(value); !problem.empty())
        causes.invalid(at, value, problem);
  }

  void unique(const Field& field, const json::array& items, const std::string& at) {
    if (field.list != ListType::kMap && field.list != ListType::kSet)
      return;
    std::set<std::string> seen;
    for (std::size_t i = 0; i < items.size(); ++i) {
      const std::string key =
          field.list == ListType::kSet ? json::serialize(items[i]) : key_of(field, items[i]);
      if (key.empty() || seen.insert(key).second)
        continue;
      if (const json::object* part = field.duplicate.empty() ? nullptr : items[i].if_object())
        causes.invalid(child_path(item_path(at, i), field.list_keys), part->at(field.list_keys),
                       field.duplicate);
      else
        causes.add(item_path(at, i), "FieldValueDuplicate",
                   fmt::format("Duplicate value: {}", key));
    }
  }

  static std::string key_of(const Field& field, const json::value& item) {
    const json::object* part = item.if_object();
    if (!part)
      return {};
    json::object key;
    for (const std::string_view name : split(field.list_keys, ','))
      if (const json::value* value = part->if_contains(name))
        key[name] = *value;
    if (key.size() == 1 && key.begin()->value().is_string())
      return json::serialize(key.begin()->value());
    return key.empty() ? std::string() : json::serialize(key);
  }
};

// ---- immutable fields
void compare_immutable(const Message& message, const json::object& before,
                       const json::object& after, std::string_view path, Causes& causes) {
  for (const Field& field : message.fields) {
    const json::value* old_value = before.if_contains(field.name);
    const json::value* new_value = after.if_contains(field.name);
    const std::string at = child_path(path, field.name);
    if (field.immutable) {
      // What was never set may be set once.
      if (old_value && !is_neutral(*old_value) && (!new_value || *old_value != *new_value))
        causes.invalid(at, new_value ? *new_value : json::value(), "field is immutable");
    } else if (field.type == FieldType::kMessage && field.list == ListType::kNone && old_value &&
               new_value && old_value->is_object() && new_value->is_object()) {
      compare_immutable(*field.message, old_value->get_object(), new_value->get_object(), at,
                        causes);
    }
  }
}

// A pod runs what it was made with: only its host may be filled in, once, by the scheduler.
void compare_pods(const json::object& before, const json::object& after, Causes& causes) {
  json::object old_spec, new_spec;
  if (const json::object* spec = find_object(before, "spec"))
    old_spec = *spec;
  if (const json::object* spec = find_object(after, "spec"))
    new_spec = *spec;
  const std::string_view node = find_string(before, "spec.nodeName");
  if (!node.empty() && node != find_string(after, "spec.nodeName"))
    causes.invalid("spec.nodeName", json::string(find_string(after, "spec.nodeName")),
                   "field is immutable: the pod is bound");
  old_spec.erase("nodeName");
  new_spec.erase("nodeName");
  if (old_spec == new_spec)
    return;
  for (const auto& [name, value] : new_spec)
    if (const json::value* old_value = old_spec.if_contains(name);
        !old_value || *old_value != value)
      causes.add(child_path("spec", name), "FieldValueForbidden",
                 "Forbidden: pod updates may not change fields other than `spec.nodeName` of a pod "
                 "that has none");
  for (const auto& member : old_spec)
    if (!new_spec.contains(member.key()))
      causes.add(child_path("spec", member.key()), "FieldValueForbidden",
                 "Forbidden: pod updates may not remove fields");
}

void check_name(const Kind& kind, const json::object& body, Causes& causes) {
  const std::string_view name = find_string(body, "metadata.name");
  const json::string shown(name);
  std::string problem;
  if (name.size() > kNameMax)
    problem = fmt::format("must be no more than {} characters", kNameMax);
  else if (name.empty())
    return;  // said by ObjectMeta's check
  else if (kind.kind == "Service")
    problem = check_dns_1035_label(shown);
  else if (kind.kind == "Namespace")
    problem = check_dns_label(shown);
  else
    problem = check_dns_subdomain(shown);
  if (!problem.empty())
    causes.invalid("metadata.name", shown, problem);
  if (const std::string_view ns = find_string(body, "metadata.namespace"); !ns.empty()) {
    if (!kind.namespaced)
      causes.add("metadata.namespace", "FieldValueForbidden",
                 "Forbidden: not allowed on this type");
    else if (!is_dns_label(ns))
      causes.invalid("metadata.namespace", json::string(ns), check_dns_label(json::string(ns)));
  }
}

bool is_port_number(const json::value& value) {
  return value.is_int64() && value.get_int64() >= 1 && value.get_int64() <= 65535;
}

}  // namespace

void fill_defaults(const Kind& kind, json::object& body) { fill_message(*kind.message, body); }

std::expected<void, ApiError> validate(const Kind& kind, const json::object& body) {
  Validator validator;
  check_name(kind, body, validator.causes);
  validator.message(*kind.message, body, "");
  if (validator.causes.empty())
    return {};
  return std::unexpected(
      invalid_error(kind, find_string(body, "metadata.name"), validator.causes.take()));
}

std::expected<void, ApiError> validate_update(const Kind& kind, const json::object& before,
                                              const json::object& after) {
  Causes causes;
  compare_immutable(*kind.message, before, after, "", causes);
  if (kind.message == &kPod)
    compare_pods(before, after, causes);
  if (kind.message == &kConfigMap || kind.message == &kSecret)
    compare_config(before, after, causes);
  if (kind.message == &kPersistentVolumeClaim)
    compare_claims(before, after, causes);
  if (causes.empty())
    return {};
  return std::unexpected(invalid_error(kind, find_string(after, "metadata.name"), causes.take()));
}

// ---- value checks

std::string check_dns_label(const json::value& value) {
  if (value.is_string() && is_dns_label(value.get_string()))
    return {};
  return "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
         "start and end with an alphanumeric character, and have at most 63 characters";
}

std::string check_dns_subdomain(const json::value& value) {
  if (value.is_string() && is_dns_subdomain(value.get_string()))
    return {};
  return "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' "
         "or "
         "'.', and must start and end with an alphanumeric character";
}

std::string check_dns_1035_label(const json::value& value) {
  if (value.is_string() && is_dns_label(value.get_string()) && value.get_string().front() >= 'a')
    return {};
  return "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with "
         "an "
         "alphabetic character, end with an alphanumeric character, and have at most 63 characters";
}

std::string check_port_name(const json::value& value) {
  const std::string_view name = value.get_string();
  const bool shape =
      !name.empty() && name.size() <= 15 && is_dns_label(name) && name.find("--") == name.npos;
  const bool letter = std::any_of(name.begin(), name.end(), [](char c) { return c >= 'a'; });
  if (shape && letter)
    return {};
  return "must have at most 15 characters, only lower case letters, digits and single '-', with a "
         "letter among them";
}

std::string check_port(const json::value& value) {
  return is_port_number(value) ? "" : "must be between 1 and 65535, inclusive";
}

std::string check_port_or_name(const json::value& value) {
  return value.is_string() ? check_port_name(value) : check_port(value);
}

std::string check_not_negative(const json::value& value) {
  return value.is_int64() && value.get_int64() >= 0 ? "" : "must be greater than or equal to 0";
}

std::string check_positive(const json::value& value) {
  return value.is_int64() && value.get_int64() >= 1 ? "" : "must be greater than 0";
}

std::string check_count_or_percent(const json::value& value) {
  if (!value.is_string())
    return check_not_negative(value);
  std::string_view text = value.get_string();
  if (text.ends_with('%')) {
    text.remove_suffix(1);
    if (parse_uint(text, 1'000'000))
      return {};
  }
  return "must be a whole number or a percentage (e.g. \"25%\")";
}

std::string check_ip(const json::value& value) {
  if (value.is_string())
    if (IpAddress::parse(value.get_string()))
      return {};
  return "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
}

std::string check_ip_or_empty(const json::value& value) {
  return value.is_string() && value.get_string().empty() ? "" : check_ip(value);
}

std::string check_user_id(const json::value& value) {
  return value.is_int64() && value.get_int64() >= 0 && value.get_int64() <= 2147483647
             ? ""
             : "must be between 0 and 2147483647, inclusive";
}

std::string check_label_key(const json::value& value) {
  return value.is_string() ? label_key_problem(value.get_string()) : "must be a string";
}

}  // namespace shoal::api
