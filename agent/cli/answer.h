// SPDX-License-Identifier: Apache-2.0
// Reading what Shoal's own endpoints answer. What is absent or of another type reads as empty: the
// daemon may be of another version.
#pragma once

#include "agent/cli/commands.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <cstdint>
#include <string>
#include <string_view>

namespace shoal::cli {

Result<boost::json::object> ask(const Context& context, const Request& request);
const boost::json::array& list_at(const boost::json::object& object, std::string_view key);
const boost::json::object& object_of(const boost::json::value& value);
const boost::json::object& object_at(const boost::json::object& object, std::string_view key);
std::uint64_t number_at(const boost::json::object& object, std::string_view key);
std::string percent(const boost::json::object& object, std::string_view key);  // "45.0%"
void print_json(const Context& context, const boost::json::object& object);

}  // namespace shoal::cli
