// SPDX-License-Identifier: Apache-2.0
// Names of children. They are functions of what two actors agree on, so that both make the same
// child and compare-and-create lets one of them win.
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <string>
#include <string_view>

namespace shoal::controllers {

// `length` characters of an alphabet without vowels and look-alikes, as Kubernetes has it: no words
// come out.
std::string name_suffix(std::uint64_t hash, std::size_t length);
// "web-7b9c4d" from "web" and "7b9c4d"; the first part is cut so that the whole fits into `max`
// characters.
std::string child_name(std::string_view parent, std::string_view suffix, std::size_t max = 253);
// A hash of a JSON value that does not depend on the order of an object's members.
std::uint64_t hash_json(const boost::json::value& value);

}  // namespace shoal::controllers
