// SPDX-License-Identifier: Apache-2.0
#include "agent/cli/answer.h"

#include "agent/cli/manifest.h"
#include "agent/cli/output.h"

#include <boost/json.hpp>
#include <fmt/format.h>

namespace shoal::cli {

namespace json = boost::json;

Result<json::object> ask(const Context& context, const Request& request) {
  const Response response = SHOAL_TRY(context.client.send(request));
  json::value value = SHOAL_TRY(parse_body(response));
  if (!value.is_object())
    return fail(Errc::kCorrupt, "shoald's answer is no object");
  return std::move(value.get_object());
}

const json::array& list_at(const json::object& object, std::string_view key) {
  static const json::array kEmpty;
  const json::value* value = object.if_contains(key);
  return value && value->is_array() ? value->get_array() : kEmpty;
}

const json::object& object_of(const json::value& value) {
  static const json::object kEmpty;
  return value.is_object() ? value.get_object() : kEmpty;
}

const json::object& object_at(const json::object& object, std::string_view key) {
  static const json::value kNull;
  const json::value* value = object.if_contains(key);
  return object_of(value ? *value : kNull);
}

std::uint64_t number_at(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  boost::system::error_code error;
  const auto number = value ? value->to_number<std::uint64_t>(error) : 0;
  return error ? 0 : number;
}

void print_json(const Context& context, const json::object& object) {
  context.streams.out(to_pretty_json(object));
}

std::string percent(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  boost::system::error_code error;
  const double share = value ? value->to_number<double>(error) : 0.0;
  return !value || error ? "" : fmt::format("{:.1f}%", share * 100);
}

}  // namespace shoal::cli
