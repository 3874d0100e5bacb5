// SPDX-License-Identifier: Apache-2.0
// Label and field selectors, as Kubernetes writes them.
//   LabelSelector::parse("app=web,tier!=db,env in (a,b),!old")   kubectl's -l
//   LabelSelector::from_labels(service.spec.selector)             plain equality; an empty one
//   selects nothing here LabelSelector::from_json(deployment.spec.selector)            matchLabels
//   + matchExpressions
#pragma once

#include "netplane/base/result.h"

#include <boost/json/object.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::api {

class LabelSelector {
public:
  enum class Operator : std::uint8_t { kIn, kNotIn, kExists, kDoesNotExist };
  struct Requirement {
    std::string key;
    Operator op = Operator::kIn;
    std::vector<std::string> values;
  };

  LabelSelector() = default;  // everything
  static LabelSelector nothing();
  static Result<LabelSelector> parse(std::string_view text);
  static LabelSelector from_labels(const boost::json::object* labels);
  static Result<LabelSelector> from_json(const boost::json::object& selector);

  // labels may be null: no labels.
  bool matches(const boost::json::object* labels) const;
  bool selects_all() const { return !nothing_ && requirements_.empty(); }
  const std::vector<Requirement>& requirements() const { return requirements_; }

private:
  std::vector<Requirement> requirements_;
  bool nothing_ = false;
};

// "metadata.name=web,spec.nodeName!=h1". Which fields a kind knows is in its schema
// (Kind::field_selectors).
struct FieldRequirement {
  std::string field;
  std::string value;
  bool negate = false;
};
Result<std::vector<FieldRequirement>> parse_field_selector(std::string_view text);

// "metadata.labels" of an object, and other nested parts; nullptr when absent or of another type.
const boost::json::object* labels_of(const boost::json::object& body);
const boost::json::object* annotations_of(const boost::json::object& body);
// find_path(body, "spec.nodeName"); dots separate, no indexes.
const boost::json::value* find_path(const boost::json::object& body, std::string_view dotted);
std::string_view find_string(const boost::json::object& body,
                             std::string_view dotted);  // "" when absent
std::int64_t find_int(const boost::json::object& body, std::string_view dotted,
                      std::int64_t otherwise);
const boost::json::object* find_object(const boost::json::object& body, std::string_view dotted);
const boost::json::array* find_array(const boost::json::object& body, std::string_view dotted);

// Kubernetes' syntax: [prefix/]name. Empty string: fine; otherwise what is wrong.
std::string label_key_problem(std::string_view key);
std::string label_value_problem(std::string_view value);

}  // namespace shoal::api
