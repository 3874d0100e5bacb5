// SPDX-License-Identifier: Apache-2.0
// How long a pod's containers wait before they are started again, where the pod says it itself, by
// annotations: "500ms", "10s", "2m". Pure.
#pragma once

#include "netplane/base/result.h"

#include <boost/json/object.hpp>
#include <chrono>
#include <optional>
#include <string_view>

namespace shoal::api {

inline constexpr std::string_view kBackoffBaseAnnotation = "shoal.dev/restart-backoff-base";
inline constexpr std::string_view kBackoffCapAnnotation = "shoal.dev/restart-backoff-cap";
inline constexpr std::chrono::milliseconds kBackoffLowest{100};
inline constexpr std::chrono::hours kBackoffHighest{1};

struct RestartBackoff {
  std::optional<std::chrono::milliseconds> first;
  std::optional<std::chrono::milliseconds> max;
};
// From an object's metadata. kInvalid names the annotation.
Result<RestartBackoff> restart_backoff(const boost::json::object& metadata);

}  // namespace shoal::api
