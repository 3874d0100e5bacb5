// SPDX-License-Identifier: Apache-2.0
// Reading objects that the schema has validated: what is absent or of another type counts as
// absent.
#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::node {

inline const boost::json::value* get(const boost::json::object& object, std::string_view key) {
  const auto it = object.find(key);
  return it == object.end() ? nullptr : &it->value();
}
inline const boost::json::object* get_object(const boost::json::object& object,
                                             std::string_view key) {
  const auto* value = get(object, key);
  return value ? value->if_object() : nullptr;
}
inline const boost::json::array* get_array(const boost::json::object& object,
                                           std::string_view key) {
  const auto* value = get(object, key);
  return value ? value->if_array() : nullptr;
}
inline std::string get_text(const boost::json::object& object, std::string_view key,
                            std::string_view fallback = {}) {
  const auto* value = get(object, key);
  const auto* text = value ? value->if_string() : nullptr;
  return text ? std::string(*text) : std::string(fallback);
}
inline std::optional<std::int64_t> get_int(const boost::json::object& object,
                                           std::string_view key) {
  const auto* value = get(object, key);
  if (value && value->is_int64())
    return value->get_int64();
  if (value && value->is_uint64() && value->get_uint64() <= INT64_MAX)
    return static_cast<std::int64_t>(value->get_uint64());
  return std::nullopt;
}
inline bool get_bool(const boost::json::object& object, std::string_view key,
                     bool fallback = false) {
  const auto* value = get(object, key);
  return value && value->is_bool() ? value->get_bool() : fallback;
}
inline std::vector<std::string> get_texts(const boost::json::object& object, std::string_view key) {
  std::vector<std::string> texts;
  if (const auto* array = get_array(object, key))
    for (const auto& value : *array)
      if (const auto* text = value.if_string())
        texts.emplace_back(*text);
  return texts;
}

}  // namespace shoal::node
