// SPDX-License-Identifier: Apache-2.0
#include "agent/api/weights.h"

#include "agent/api/selector.h"
#include "netplane/base/strings.h"
#include "netplane/model/model.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::api {
namespace {

std::unexpected<Error> bad(std::string_view group, std::string_view why) {
  return fail(Errc::kInvalid,
              fmt::format("\"{}\": {}; expected label=value:weight, joined by commas",
                          printable(group), why));
}

Result<LabelWeight> parse_group(std::string_view text) {
  if (text.empty())
    return bad(text, "empty group");
  const std::size_t colon = text.rfind(':');
  if (colon == text.npos)
    return bad(text, "no weight");
  const std::string_view label = text.substr(0, colon);
  const std::string_view weight = text.substr(colon + 1);
  const std::size_t equals = label.find('=');
  if (equals == label.npos)
    return bad(text, "no \"=\" between label and value");
  LabelWeight group{std::string(label.substr(0, equals)), std::string(label.substr(equals + 1)), 0};
  if (std::string problem = label_key_problem(group.label); !problem.empty())
    return bad(text, fmt::format("label \"{}\": {}", printable(group.label), problem));
  if (std::string problem = label_value_problem(group.value); !problem.empty())
    return bad(text, fmt::format("value \"{}\": {}", printable(group.value), problem));
  const auto number = parse_int(weight);
  if (!number)
    return bad(text, fmt::format("weight \"{}\" is not a whole number", printable(weight)));
  if (*number < 0 || *number > static_cast<std::int64_t>(model::kWeightMax))
    return bad(text, fmt::format("weight {} is not in 0..{}", *number, model::kWeightMax));
  group.weight = static_cast<std::uint32_t>(*number);
  return group;
}

}  // namespace

Result<std::vector<LabelWeight>> parse_weights(std::string_view text) {
  if (trim(text).empty())
    return bad(text, "no group");
  const std::vector<std::string_view> parts = split(text, ',');
  if (parts.size() > kWeightGroupsMax)
    return fail(Errc::kInvalid,
                fmt::format("{} groups: at most {}", parts.size(), kWeightGroupsMax));
  std::vector<LabelWeight> groups;
  for (const std::string_view part : parts) {
    LabelWeight group = SHOAL_TRY(parse_group(trim(part)));
    const bool twice = std::any_of(groups.begin(), groups.end(), [&](const LabelWeight& g) {
      return g.label == group.label && g.value == group.value;
    });
    if (twice)
      return bad(trim(part), fmt::format("{} is listed twice", group.group()));
    groups.push_back(std::move(group));
  }
  if (std::all_of(groups.begin(), groups.end(), [](const LabelWeight& g) { return g.weight == 0; }))
    return fail(Errc::kInvalid, "every weight is 0: no connection could be made; give at least one "
                                "group a weight above 0");
  return groups;
}

Result<std::vector<LabelWeight>> service_weights(const boost::json::object& service) {
  const boost::json::object* annotations = annotations_of(service);
  const boost::json::value* text =
      annotations ? annotations->if_contains(kWeightsAnnotation) : nullptr;
  if (!text)
    return std::vector<LabelWeight>{};
  if (!text->is_string())
    return fail(Errc::kInvalid, fmt::format("annotation {} is not a string", kWeightsAnnotation));
  return parse_weights(text->get_string());
}

const LabelWeight* weight_group_of(const std::vector<LabelWeight>& weights,
                                   const boost::json::object* labels) {
  if (!labels)
    return nullptr;
  for (const LabelWeight& group : weights)
    if (const auto* value = labels->if_contains(group.label);
        value && value->is_string() && value->get_string() == group.value)
      return &group;
  return nullptr;
}

}  // namespace shoal::api
