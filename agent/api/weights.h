// SPDX-License-Identifier: Apache-2.0
// The Service annotation `shoal.dev/weights`: shares of new connections by label, e.g.
//   shoal.dev/weights: "version=blue:90,version=green:10"
// Grammar: GROUP *("," GROUP); GROUP = LABEL "=" VALUE ":" WEIGHT; blanks around a GROUP are
// allowed. LABEL and VALUE follow Kubernetes' label syntax (so neither holds ':' or ','), WEIGHT is
// a decimal in 0..1000000. A group's share is its weight divided by the sum of all weights; 0 means
// no new connection. The same group twice is an error, as are an empty list and weights that are
// all 0 (that would be a service nobody can reach). One parser for everybody: the API validates
// with it, the node agent computes rings from it.
#pragma once

#include "netplane/base/result.h"

#include <boost/json/object.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::api {

inline constexpr std::string_view kWeightsAnnotation = "shoal.dev/weights";
inline constexpr std::size_t kWeightGroupsMax = 64;

struct LabelWeight {
  std::string label;
  std::string value;
  std::uint32_t weight = 0;
  std::string group() const { return label + "=" + value; }  // model::WeightGroup's name
  bool operator==(const LabelWeight&) const = default;
};

// In the order written. kInvalid says which group is wrong and why.
Result<std::vector<LabelWeight>> parse_weights(std::string_view text);

// A Service's weights; an empty list when it has no such annotation.
Result<std::vector<LabelWeight>> service_weights(const boost::json::object& service);

// The first listed group that the labels belong to; nullptr: none.
const LabelWeight* weight_group_of(const std::vector<LabelWeight>& weights,
                                   const boost::json::object* labels);

}  // namespace shoal::api
