// SPDX-License-Identifier: Apache-2.0
#include "agent/api/restart_backoff.h"

#include "agent/api/selector.h"
#include "netplane/base/strings.h"

#include <array>
#include <fmt/format.h>

namespace shoal::api {
namespace {

using std::chrono::milliseconds;

std::optional<milliseconds> parse_time_span(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, int>, 4> kUnits{
      {{"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}}};
  for (const auto& [unit, ms] : kUnits) {
    if (!text.ends_with(unit))
      continue;
    if (const auto number = parse_uint(text.substr(0, text.size() - unit.size()), 3'600'000))
      return milliseconds(static_cast<std::int64_t>(*number) * ms);
  }
  return std::nullopt;
}

Result<std::optional<milliseconds>> read(const boost::json::object* annotations,
                                         std::string_view name) {
  const boost::json::value* value = annotations ? annotations->if_contains(name) : nullptr;
  if (!value || !value->is_string())
    return std::nullopt;
  const auto time = parse_time_span(value->get_string());
  if (!time || *time < kBackoffLowest || *time > kBackoffHighest)
    return fail(Errc::kInvalid,
                fmt::format("annotation {}: '{}' must be a time from 100ms to 1h, like 500ms, 10s "
                            "or 2m",
                            name, printable(std::string_view(value->get_string()))));
  return time;
}

}  // namespace

Result<RestartBackoff> restart_backoff(const boost::json::object& metadata) {
  const boost::json::object* annotations = find_object(metadata, "annotations");
  RestartBackoff out;
  out.first = SHOAL_TRY(read(annotations, kBackoffBaseAnnotation));
  out.max = SHOAL_TRY(read(annotations, kBackoffCapAnnotation));
  if (out.first && out.max && *out.first > *out.max)
    return fail(Errc::kInvalid, fmt::format("annotation {} is more than {}", kBackoffBaseAnnotation,
                                            kBackoffCapAnnotation));
  return out;
}

}  // namespace shoal::api
