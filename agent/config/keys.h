// SPDX-License-Identifier: Apache-2.0
// The table of configuration keys: schema as data.
#pragma once

#include "agent/config/config.h"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>

namespace shoal::config {

enum class Type : std::uint8_t {
  kName,     // a DNS subdomain
  kPath,     // absolute
  kProgram,  // a name found in PATH, or an absolute path
  kNumber,
  kAddress,
  kPrefixes,   // one or more, joined by commas or as a YAML list
  kPortRange,  // "30000-32767"
  kChoice,
  kUplink,      // a device's name or an IP address
  kUplinks,     // devices' names, '*' for any characters; joined by commas or as a YAML list
  kRegistries,  // mappings; in the file only (registries.h)
  kNotYet,      // known, and refused by name
};

// What a setter gets: the text of the scalar, checked against the type; numbers also as such.
// "auto" and "none" arrive as an empty text.
struct Value {
  std::string text;
  std::uint64_t number = 0;
  IpAddress address;
  std::vector<IpPrefix> prefixes;
  std::vector<std::string> words;
  PortRange ports;
  std::vector<Registry> registries;
};

struct Key {
  std::string_view path;  // "gossip.port"
  Type type;
  std::string_view default_value;  // as it would be written
  std::string_view special;  // a word beside the type's values: "auto" or "none"; may be empty
  std::uint64_t min = 0;     // kNumber
  std::uint64_t max = 0;
  std::string_view choices;  // kChoice: "auto off"
  std::string_view help;     // sentences; lines are broken for the example
  void (*set)(Config&, const Value&);
  bool is_list() const { return type == Type::kPrefixes || type == Type::kUplinks; }
};

bool is_node_name(std::string_view text);

std::span<const Key> keys();  // in the order of the example; keys of one section stand together
const Key* find_key(std::string_view path);
std::string allowed(const Key& key);  // "a whole number from 1 to 65535"

// Checks a scalar against its key. The error is what is wrong and what is allowed.
Result<Value> read_value(const Key& key, std::string_view text);

// Relations between keys, of a Config that is whole. Problems name the key to change.
Problems check_relations(const Config& config);

}  // namespace shoal::config
