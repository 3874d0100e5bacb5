// SPDX-License-Identifier: Apache-2.0
// Causes and errors, in Kubernetes' words.
#include "agent/api/schema.h"
#include "agent/api/schema_tables.h"
#include "netplane/base/strings.h"

#include <boost/json/serialize.hpp>
#include <fmt/format.h>

namespace shoal::api {
namespace json = boost::json;
namespace {

constexpr std::size_t kValueTextMax = 200;

std::string join_choices(std::string_view choices) {
  std::string text;
  for (const std::string_view choice : split(choices, '|'))
    text += fmt::format("{}\"{}\"", text.empty() ? "" : ", ", choice);
  return text;
}

}  // namespace

std::string as_text(const json::value& value) {
  return printable(json::serialize(value), kValueTextMax);
}

std::string child_path(std::string_view path, std::string_view field) {
  return path.empty() ? std::string(field) : fmt::format("{}.{}", path, field);
}

std::string item_path(std::string_view path, std::size_t index) {
  return fmt::format("{}[{}]", path, index);
}

void Causes::add(std::string field, std::string_view reason, std::string message) {
  if (list_.size() < kCausesMax)
    list_.push_back({std::move(field), std::string(reason), std::move(message)});
}

void Causes::required(std::string field, std::string_view detail) {
  add(std::move(field), "FieldValueRequired",
      detail.empty() ? "Required value" : fmt::format("Required value: {}", detail));
}

void Causes::invalid(std::string field, const json::value& value, std::string_view detail) {
  add(std::move(field), "FieldValueInvalid",
      fmt::format("Invalid value: {}: {}", as_text(value), detail));
}

void Causes::not_supported(std::string field, const json::value& value,
                           std::string_view supported) {
  add(std::move(field), "FieldValueNotSupported",
      fmt::format("Unsupported value: {}: supported values: {}", as_text(value),
                  join_choices(supported)));
}

void Causes::not_yet(std::string field, std::string_view what) {
  add(std::move(field), "FieldValueNotSupported",
      fmt::format("Unsupported value: Shoal does not act on {} yet", what));
}

ApiError invalid_error(const Kind& kind, std::string_view name, std::vector<Cause> causes) {
  std::string what = fmt::format("{}{}{} \"{}\" is invalid", kind.kind,
                                 kind.group.empty() ? "" : ".", kind.group, name);
  std::string list;
  for (const Cause& cause : causes)
    list += fmt::format("{}{}{}{}", list.empty() ? "" : ", ", cause.field,
                        cause.field.empty() ? "" : ": ", cause.message);
  what += causes.size() > 1 ? fmt::format(": [{}]", list) : fmt::format(": {}", list);
  return ApiError{422, "Invalid", std::move(what), std::move(causes)};
}

ApiError not_found_error(const Kind& kind, std::string_view name) {
  return ApiError{404, "NotFound", fmt::format("{} \"{}\" not found", kind.resource(), name), {}};
}

ApiError bad_request(std::string message, std::vector<Cause> causes) {
  return ApiError{400, "BadRequest", std::move(message), std::move(causes)};
}

ApiError api_error(const Error& error) {
  switch (error.code()) {
  case Errc::kInvalid:
    return {400, "BadRequest", error.message(), {}};
  case Errc::kNotFound:
    return {404, "NotFound", error.message(), {}};
  case Errc::kExists:
    return {409, "AlreadyExists", error.message(), {}};
  case Errc::kConflict:
    return {409, "Conflict", error.message(), {}};
  case Errc::kExhausted:
    return {507, "InsufficientStorage", error.message(), {}};
  case Errc::kUnavailable:
  case Errc::kCancelled:
    return {503, "ServiceUnavailable", error.message(), {}};
  case Errc::kTimeout:
    return {504, "Timeout", error.message(), {}};
  case Errc::kPermission:
    return {403, "Forbidden", error.message(), {}};
  case Errc::kUnsupported:
    return {501, "NotImplemented", error.message(), {}};
  default:
    return {500, "InternalError", error.message(), {}};
  }
}

json::object status_object(const ApiError& error, const Kind* kind, std::string_view name) {
  json::object status{{"kind", "Status"},           {"apiVersion", "v1"},
                      {"metadata", json::object()}, {"status", "Failure"},
                      {"message", error.message},   {"reason", error.reason}};
  json::object details;
  if (!name.empty())
    details["name"] = name;
  if (kind) {
    if (!kind->group.empty())
      details["group"] = kind->group;
    // Kubernetes names the resource here, but for invalid objects their kind.
    details["kind"] = error.code == 422 ? kind->kind : kind->plural;
  }
  if (!error.causes.empty()) {
    json::array causes;
    for (const Cause& cause : error.causes)
      causes.push_back(json::object{
          {"reason", cause.reason}, {"message", cause.message}, {"field", cause.field}});
    details["causes"] = std::move(causes);
  }
  if (!details.empty())
    status["details"] = std::move(details);
  status["code"] = error.code;
  return status;
}

}  // namespace shoal::api
