// SPDX-License-Identifier: Apache-2.0
#include "agent/controllers/names.h"

#include "netplane/base/hash.h"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <vector>

namespace shoal::controllers {

namespace json = boost::json;

std::string name_suffix(std::uint64_t hash, std::size_t length) {
  static constexpr std::string_view kAlphabet = "bcdfghjklmnpqrstvwxz2456789";
  std::string out;
  for (std::size_t i = 0; i < length; ++i) {
    out.push_back(kAlphabet[hash % kAlphabet.size()]);
    hash /= kAlphabet.size();
  }
  return out;
}

std::string child_name(std::string_view parent, std::string_view suffix, std::size_t max) {
  std::string_view head = parent.substr(0, max - suffix.size() - 1);
  while (!head.empty() && (head.back() == '-' || head.back() == '.'))
    head.remove_suffix(1);
  return std::string(head) + "-" + std::string(suffix);
}

std::uint64_t hash_json(const json::value& value) {
  if (const auto* object = value.if_object()) {
    std::vector<std::pair<std::string_view, const json::value*>> members;
    for (const auto& [key, member] : *object)
      members.emplace_back(key, &member);
    std::sort(members.begin(), members.end());
    std::uint64_t h = hash64("{}");
    for (const auto& [key, member] : members)
      h = mix64(hash64(key, h) ^ hash_json(*member));
    return h;
  }
  if (const auto* array = value.if_array()) {
    std::uint64_t h = hash64("[]");
    for (const auto& element : *array)
      h = mix64(h + hash_json(element));
    return h;
  }
  return hash64(json::serialize(value));
}

}  // namespace shoal::controllers
