// SPDX-License-Identifier: Apache-2.0
// Times as the API has them: RFC 3339 in, ages out as kubectl prints them ("45s", "3m12s", "5d").
#pragma once

#include "netplane/base/clock.h"

#include <optional>
#include <string>
#include <string_view>

namespace shoal::api {

// RFC 3339 with or without a fraction, "Z" or an offset. Nothing for anything else.
std::optional<WallTime> parse_time(std::string_view text);
std::string human_duration(Duration duration);
// "<unknown>" when text is no time.
std::string age_of(std::string_view text, WallTime now);

}  // namespace shoal::api
