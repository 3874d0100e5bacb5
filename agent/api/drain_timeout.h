// SPDX-License-Identifier: Apache-2.0
// The Service annotation `shoal.dev/drain-timeout: "30s"`: how long a weight group may be at weight
// 0 before the connections that are left of it are closed. Without it they never are.
//
// A time is written as in Go, in hours, minutes and seconds: "45s", "1m30s", "1.5h"; from 1s to
// 8760h. When a group's weight became 0 is stamped by the API as it writes the Service, under
// `shoal.dev/weight-zero-since`, so that every host knows it, and knows it again after a restart:
//   GROUP "=" ... as in shoal.dev/weights: "version=blue:2026-01-02T15:04:05.123456789Z,..."
// What a client writes there counts for nothing. Pure.
#pragma once

#include "netplane/base/clock.h"
#include "netplane/base/result.h"

#include <boost/json/object.hpp>
#include <chrono>
#include <compare>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::api {

inline constexpr std::string_view kDrainTimeoutAnnotation = "shoal.dev/drain-timeout";
inline constexpr std::string_view kZeroSinceAnnotation = "shoal.dev/weight-zero-since";
inline constexpr std::chrono::seconds kDrainTimeoutMin{1};
inline constexpr std::chrono::hours kDrainTimeoutMax{8760};

Result<Duration> parse_drain_timeout(std::string_view text);
// A Service's; nothing when it has no such annotation.
Result<std::optional<Duration>> drain_timeout(const boost::json::object& service);

// Brings the stamps of `after` up to date with its weights: a group that was at 0 in `before` too
// keeps its time, one that is at 0 now has `now`, others have none. `before` is null on creation.
void stamp_zero_weights(const boost::json::object* before, boost::json::object& after,
                        WallTime now);

// A group at weight 0 whose connections are closed at that time.
struct GroupDrain {
  std::string group;  // "version=blue"
  WallTime due{};
  auto operator<=>(const GroupDrain&) const = default;
};
// By group; none without a timeout, or where something does not parse (the API refuses that).
std::vector<GroupDrain> service_drains(const boost::json::object& service);

}  // namespace shoal::api
