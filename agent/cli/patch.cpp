// SPDX-License-Identifier: Apache-2.0
#include "agent/cli/patch.h"

#include <boost/json.hpp>
#include <fmt/format.h>

namespace shoal::cli {
namespace {

namespace json = boost::json;

const json::object& object_in(const json::object& object, std::string_view key) {
  static const json::object kEmpty;
  const json::value* value = object.if_contains(key);
  return value && value->is_object() ? value->get_object() : kEmpty;
}

bool holds(const json::value& live, const json::value& wanted);

bool holds_object(const json::object& live, const json::object& wanted) {
  for (const auto& field : wanted) {
    const json::value* there = live.if_contains(field.key());
    if (!there ? !field.value().is_null() : !holds(*there, field.value()))
      return false;
  }
  return true;
}

// Whether live says all that wanted says; the server's defaults may say more.
bool holds(const json::value& live, const json::value& wanted) {
  if (wanted.is_object())
    return live.is_object() && holds_object(live.get_object(), wanted.get_object());
  if (wanted.is_array()) {
    if (!live.is_array() || live.get_array().size() != wanted.get_array().size())
      return false;
    for (std::size_t i = 0; i < wanted.get_array().size(); ++i)
      if (!holds(live.get_array()[i], wanted.get_array()[i]))
        return false;
    return true;
  }
  return live == wanted;
}

json::object diff(const json::object& last, const json::object& now, const json::object& live) {
  json::object patch;
  for (const auto& field : last)
    if (!now.contains(field.key()) && live.contains(field.key()))
      patch[field.key()] = nullptr;
  for (const auto& field : now) {
    const std::string_view key(field.key().data(), field.key().size());
    const json::value* there = live.if_contains(key);
    if (field.value().is_null())
      continue;
    if (field.value().is_object() && there && there->is_object()) {
      json::object inner =
          diff(object_in(last, key), field.value().get_object(), there->get_object());
      if (!inner.empty())
        patch[key] = std::move(inner);
      continue;
    }
    // A list that lost a field in the manifest still "holds" the rest: compare with what was
    // applied, too.
    const json::value* before = last.if_contains(key);
    const bool same_as_before = !field.value().is_array() || !before || *before == field.value();
    if (!there || !holds(*there, field.value()) || !same_as_before)
      patch[key] = field.value();
  }
  return patch;
}

}  // namespace

json::object with_last_applied(const json::object& manifest) {
  json::object clean = manifest;
  clean.erase("status");
  if (json::value* metadata = clean.if_contains("metadata"); metadata && metadata->is_object())
    if (json::value* annotations = metadata->get_object().if_contains("annotations");
        annotations && annotations->is_object())
      annotations->get_object().erase(kLastApplied);
  const std::string text = json::serialize(clean) + "\n";
  json::value& metadata = clean["metadata"];
  if (!metadata.is_object())
    metadata.emplace_object();
  json::value& annotations = metadata.get_object()["annotations"];
  if (!annotations.is_object())
    annotations.emplace_object();
  annotations.get_object()[kLastApplied] = text;
  return clean;
}

Result<json::object> last_applied(const json::object& live) {
  const json::object& annotations = object_in(object_in(live, "metadata"), "annotations");
  const json::value* text = annotations.if_contains(kLastApplied);
  if (!text || !text->is_string())
    return json::object();
  boost::system::error_code error;
  json::value value = json::parse(text->get_string(), error);
  if (error || !value.is_object())
    return fail(
        Errc::kCorrupt,
        fmt::format("the annotation {} is not JSON: remove it and apply again", kLastApplied));
  return std::move(value.get_object());
}

json::object three_way_patch(const json::object& last, const json::object& now,
                             const json::object& live) {
  json::object wanted = with_last_applied(now);
  json::object clean = wanted;
  clean.at("metadata").get_object().at("annotations").get_object().erase(kLastApplied);
  if (clean.at("metadata").get_object().at("annotations").get_object().empty() &&
      !object_in(now, "metadata").contains("annotations"))
    clean.at("metadata").get_object().erase("annotations");
  // Another order of the same fields is no change, though the annotation's text differs.
  const json::object changes = diff(last, clean, live);
  if (changes.empty() && last == clean)
    return {};
  return diff(last, wanted, live);
}

}  // namespace shoal::cli
