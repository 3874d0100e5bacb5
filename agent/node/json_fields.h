// SPDX-License-Identifier: Apache-2.0
// Members of objects that the API has validated; what is not there, or is something else after
// all, reads as nothing.
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::node {

inline const boost::json::object* object_at(const boost::json::object& parent,
                                            std::string_view key) {
  const boost::json::value* value = parent.if_contains(key);
  return value ? value->if_object() : nullptr;
}

inline const boost::json::array* array_at(const boost::json::object& parent, std::string_view key) {
  const boost::json::value* value = parent.if_contains(key);
  return value ? value->if_array() : nullptr;
}

inline std::string text_at(const boost::json::object& parent, std::string_view key) {
  const boost::json::value* value = parent.if_contains(key);
  return value && value->is_string() ? std::string(value->as_string()) : std::string();
}

inline std::optional<std::int64_t> number_at(const boost::json::object& parent,
                                             std::string_view key) {
  const boost::json::value* value = parent.if_contains(key);
  if (!value || !value->is_number())
    return std::nullopt;
  boost::system::error_code error;
  const auto number = value->to_number<std::int64_t>(error);
  return error ? std::nullopt : std::optional(number);
}

inline bool flag_at(const boost::json::object& parent, std::string_view key) {
  const boost::json::value* value = parent.if_contains(key);
  return value && value->is_bool() && value->as_bool();
}

inline std::vector<std::string> texts_at(const boost::json::object& parent, std::string_view key) {
  std::vector<std::string> out;
  if (const boost::json::array* list = array_at(parent, key))
    for (const boost::json::value& value : *list)
      if (value.is_string())
        out.emplace_back(value.as_string());
  return out;
}

}  // namespace shoal::node
