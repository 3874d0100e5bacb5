// SPDX-License-Identifier: Apache-2.0
// The first step of admission: a document as its author wrote it, against the tables. Finds fields
// that do not exist, values of the wrong type, and fields that Shoal does not act on yet.
#include "agent/api/quantity.h"
#include "agent/api/schema.h"
#include "agent/api/schema_tables.h"
#include "agent/api/selector.h"
#include "agent/api/time_text.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>
#include <limits>

namespace shoal::api {
namespace json = boost::json;
namespace {

constexpr int kDepthMax = 32;

// Levenshtein's distance, for "did you mean".
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j)
    row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t change = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, change});
    }
  }
  return row[b.size()];
}

std::string_view nearest(const Message& message, std::string_view field) {
  std::string_view best;
  std::size_t best_distance = 3;  // more is no typing error
  if (field.size() > 64)
    return best;
  for (const Field& known : message.fields)
    if (const std::size_t d = distance(field, known.name);
        d < best_distance && d < known.name.size()) {
      best = known.name;
      best_distance = d;
    }
  return best;
}

std::string_view type_of(const json::value& value) {
  switch (value.kind()) {
  case json::kind::null:
    return "null";
  case json::kind::bool_:
    return "a boolean";
  case json::kind::int64:
  case json::kind::uint64:
  case json::kind::double_:
    return "a number";
  case json::kind::string:
    return "a string";
  case json::kind::array:
    return "a list";
  case json::kind::object:
    return "an object";
  }
  return "?";
}

bool fits(const json::value& value, std::int64_t low, std::int64_t high) {
  return value.is_int64() && value.get_int64() >= low && value.get_int64() <= high;
}

// The plain text of a scalar, for comparison with `values`.
std::string scalar_text(const json::value& value) {
  return value.is_string() ? std::string(value.get_string()) : json::serialize(value);
}

class Checker {
public:
  void message(const Message& message, json::object& body, const std::string& path, int depth) {
    if (depth > kDepthMax)
      return;  // no table is that deep: arrays of arrays cannot occur
    for (auto it = body.begin(); it != body.end();) {
      const std::string name(it->key());
      json::value& value = it->value();
      const Field* field = message.find(name);
      const std::string at = child_path(path, name);
      if (!field) {
        unknown(message, name, at);
        ++it;
      } else if (value.is_null() ||
                 (field->support == Support::kNotYet && neutral(*field, value, at))) {
        it = body.erase(it);  // moves the last one here
      } else {
        if (field->support != Support::kNotYet)
          typed(*field, value, at, depth);
        ++it;
      }
    }
  }

  std::expected<void, ApiError> result(const Kind& kind, const json::object& body) {
    if (!strict_.empty()) {
      std::string text;
      for (const Cause& cause : strict_.list())
        text += (text.empty() ? "" : ", ") + cause.message;
      return std::unexpected(bad_request(
          fmt::format(
              "{0} in version \"{1}\" cannot be handled as a {0}: strict decoding error: {2}",
              kind.kind, kind.api_version(), text),
          strict_.take()));
    }
    if (!later_.empty())
      return std::unexpected(
          invalid_error(kind, find_string(body, "metadata.name"), later_.take()));
    return {};
  }

private:
  void unknown(const Message& message, std::string_view name, const std::string& at) {
    const std::string_view known = nearest(message, name);
    strict_.add(at, "FieldValueInvalid",
                known.empty()
                    ? fmt::format("unknown field \"{}\"", at)
                    : fmt::format("unknown field \"{}\" (did you mean \"{}\"?)", at, known));
  }

  void wrong(const std::string& at, const json::value& value, std::string_view expected) {
    strict_.add(
        at, "FieldValueTypeInvalid",
        fmt::format("{}: expected {}, got {} ({})", at, expected, type_of(value), as_text(value)));
  }

  // The same of what nobody but its owner shall read.
  void secret(const std::string& at, const json::value& value, std::string_view expected) {
    strict_.add(at, "FieldValueTypeInvalid",
                fmt::format("{}: expected {}, got {}", at, expected, type_of(value)));
  }

  // A field not acted on yet may have a value that says what happens anyway.
  bool neutral(const Field& field, const json::value& value, const std::string& at) {
    if (is_neutral(value) || (value.is_primitive() && one_of(scalar_text(value), field.values)))
      return true;
    later_.not_yet(at, field.values.empty() ? fmt::format("\"{}\"", field.name)
                                            : fmt::format("other values of \"{}\" than {}",
                                                          field.name, field.values));
    return false;
  }

  void typed(const Field& field, json::value& value, const std::string& at, int depth) {
    if (field.list == ListType::kNone)
      return single(field, value, at, depth);
    if (!value.is_array())
      return wrong(at, value, "a list");
    json::array& items = value.get_array();
    for (std::size_t i = 0; i < items.size(); ++i)
      single(field, items[i], item_path(at, i), depth);
  }

  void single(const Field& field, json::value& value, const std::string& at, int depth) {
    switch (field.type) {
    case FieldType::kJson:
      return;
    case FieldType::kMessage:
      if (!value.is_object())
        return wrong(at, value, "an object");
      return message(*field.message, value.get_object(), at, depth + 1);
    case FieldType::kString:
      if (!value.is_string())
        return wrong(at, value, "a string");
      return enumerated(field, value, at);
    case FieldType::kBool:
      if (!value.is_bool())
        wrong(at, value, "true or false");
      return;
    case FieldType::kInt32:
      if (!fits(value, std::numeric_limits<std::int32_t>::min(),
                std::numeric_limits<std::int32_t>::max()))
        wrong(at, value, "a whole number of 32 bits");
      return;
    case FieldType::kInt64:
      if (!value.is_int64())
        wrong(at, value, "a whole number of 64 bits");
      return;
    case FieldType::kIntOrString:
      if (!value.is_string() && !fits(value, std::numeric_limits<std::int32_t>::min(),
                                      std::numeric_limits<std::int32_t>::max()))
        wrong(at, value, "a whole number or a string");
      return;
    case FieldType::kQuantity:
      return quantity(value, at);
    case FieldType::kTime:
      if (!value.is_string() || !parse_time(value.get_string()))
        wrong(at, value, "a time such as \"2026-01-31T12:00:00Z\"");
      return;
    case FieldType::kStringMap:
      return string_map(field, value, at);
    case FieldType::kBytesMap:
      string_map(field, value, at);
      return bytes_map(value, at);
    }
  }

  // Only what Kubernetes has and Shoal does not yet is refused here; values that nobody knows are
  // for validate(), which sees defaults too.
  void enumerated(const Field& field, const json::value& value, const std::string& at) {
    if (one_of(value.get_string(), field.values_later))
      later_.not_yet(at, as_text(value));
  }

  void quantity(json::value& value, const std::string& at) {
    if (value.is_number())
      value = json::string(json::serialize(value));
    if (!value.is_string())
      return wrong(at, value, "a quantity such as \"100m\" or \"128Mi\"");
    if (const Result<std::int64_t> parsed = parse_quantity_milli(value.get_string()); !parsed)
      strict_.add(at, "FieldValueInvalid", fmt::format("{}: {}", at, parsed.error().message()));
  }

  void string_map(const Field& field, json::value& value, const std::string& at) {
    constexpr std::string_view kExpected = "a string (quote it: \"true\", \"8080\")";
    if (!value.is_object())
      return field.secret ? secret(at, value, "an object of strings")
                          : wrong(at, value, "an object of strings");
    for (auto& [key, item] : value.get_object())
      if (item.is_null())
        item = "";  // as Kubernetes decodes it
      else if (!item.is_string() && field.secret)
        secret(fmt::format("{}[{}]", at, std::string_view(key)), item, kExpected);
      else if (!item.is_string())
        wrong(fmt::format("{}[{}]", at, std::string_view(key)), item, kExpected);
  }

  // As Go decodes it: line breaks do not count. Kept in one spelling.
  void bytes_map(json::value& value, const std::string& at) {
    if (!value.is_object())
      return;
    for (auto& [key, item] : value.get_object()) {
      if (!item.is_string())
        continue;
      json::string& text = item.get_string();
      text.erase(
          std::remove_if(text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r'; }),
          text.end());
      if (!parse_base64(text))
        strict_.add(fmt::format("{}[{}]", at, std::string_view(key)), "FieldValueInvalid",
                    fmt::format("{}[{}]: illegal base64 data at input byte {}", at,
                                std::string_view(key), first_illegal(text)));
    }
  }

  static std::size_t first_illegal(std::string_view text) {
    constexpr std::string_view kAlphabet =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    return std::min(text.find_first_not_of(kAlphabet), text.size());
  }

  Causes strict_, later_;
};

}  // namespace

bool is_neutral(const json::value& value) {
  switch (value.kind()) {
  case json::kind::null:
    return true;
  case json::kind::bool_:
    return !value.get_bool();
  case json::kind::int64:
    return value.get_int64() == 0;
  case json::kind::uint64:
    return value.get_uint64() == 0;
  case json::kind::double_:
    return value.get_double() == 0;
  case json::kind::string:
    return value.get_string().empty();
  case json::kind::array:
    return value.get_array().empty();
  case json::kind::object:
    return std::all_of(value.get_object().begin(), value.get_object().end(),
                       [](const auto& member) { return is_neutral(member.value()); });
  }
  return false;
}

std::expected<const Kind*, ApiError> kind_of(const json::object& body) {
  const json::value* api_version = body.if_contains("apiVersion");
  const json::value* name = body.if_contains("kind");
  if (!name || !name->is_string() || name->get_string().empty())
    return std::unexpected(bad_request("Object 'Kind' is missing",
                                       {{"kind", "FieldValueRequired", "Required value"}}));
  if (!api_version || !api_version->is_string() || api_version->get_string().empty())
    return std::unexpected(bad_request("Object 'apiVersion' is missing",
                                       {{"apiVersion", "FieldValueRequired", "Required value"}}));
  if (const Kind* kind = find_kind(api_version->get_string(), name->get_string()))
    return kind;
  std::string hint;
  for (const Kind* kind : all_kinds())
    if (kind->kind == std::string_view(name->get_string()))
      hint = fmt::format("; it is served in version \"{}\"", kind->api_version());
  return std::unexpected(ApiError{
      404,
      "NotFound",
      fmt::format("no matches for kind \"{}\" in version \"{}\"{}", printable(name->get_string()),
                  printable(api_version->get_string()),
                  hint.empty() ? "; Shoal does not act on this kind yet" : hint),
      {{hint.empty() ? "kind" : "apiVersion", "FieldValueNotSupported", "Unsupported value"}}});
}

std::expected<void, ApiError> check_document(const Kind& kind, json::object& body) {
  body.erase("status");
  Checker checker;
  checker.message(*kind.message, body, "", 0);
  return checker.result(kind, body);
}

std::expected<void, ApiError> admit(json::object body) {
  const std::expected<const Kind*, ApiError> kind = kind_of(body);
  if (!kind)
    return std::unexpected(kind.error());
  if (auto checked = check_document(**kind, body); !checked)
    return checked;
  fill_defaults(**kind, body);
  return validate(**kind, body);
}

}  // namespace shoal::api
