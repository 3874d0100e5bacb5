// SPDX-License-Identifier: Apache-2.0
#include "agent/api/drain_timeout.h"

#include "agent/api/selector.h"
#include "agent/api/time_text.h"
#include "agent/api/weights.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <fmt/format.h>
#include <map>

namespace shoal::api {
namespace {

namespace json = boost::json;

constexpr std::size_t kTimeDigitsMax = 9;

std::optional<Duration> take_unit(std::string_view& text) {
  if (text.empty())
    return std::nullopt;
  const char unit = text.front();
  text.remove_prefix(1);
  switch (unit) {
  case 's':
    return std::chrono::seconds(1);
  case 'm':
    return std::chrono::minutes(1);
  case 'h':
    return std::chrono::hours(1);
  default:
    return std::nullopt;
  }
}

// Takes the digits at the front; nothing where there are none, or more than can be meant.
std::optional<std::string_view> take_digits(std::string_view& text) {
  const std::size_t end = std::min(text.find_first_not_of("0123456789"), text.size());
  const std::string_view digits = text.substr(0, end);
  if (digits.size() > kTimeDigitsMax)
    return std::nullopt;
  text.remove_prefix(end);
  return digits;
}

// One number with its unit, from the front.
std::optional<Duration> take_part(std::string_view& text) {
  const auto whole = take_digits(text);
  if (!whole || whole->empty())
    return std::nullopt;
  std::string_view fraction;
  if (text.starts_with('.')) {
    text.remove_prefix(1);
    const auto digits = take_digits(text);
    if (!digits || digits->empty())
      return std::nullopt;
    fraction = *digits;
  }
  const auto unit = take_unit(text);
  const auto number = parse_uint(*whole);
  // Beyond what any timeout may be, and what 64 bits of nanoseconds hold.
  if (!unit || !number || *number > static_cast<std::uint64_t>(kDrainTimeoutMax / *unit))
    return std::nullopt;
  Duration out = *unit * static_cast<std::int64_t>(*number);
  std::int64_t place = unit->count();
  for (const char digit : fraction)
    out += Duration((place /= 10) * (digit - '0'));
  return out;
}

const json::string* annotation(const json::object& service, std::string_view name) {
  const json::object* annotations = annotations_of(service);
  const json::value* value = annotations ? annotations->if_contains(name) : nullptr;
  return value ? value->if_string() : nullptr;
}

using Stamps = std::map<std::string, WallTime, std::less<>>;

// What does not parse is skipped: nobody knows since when then.
Stamps stamps_of(const json::object& service) {
  Stamps out;
  const json::string* text = annotation(service, kZeroSinceAnnotation);
  if (!text)
    return out;
  for (const std::string_view part : split(*text, ',')) {
    // Neither a label nor its value has a colon.
    const std::size_t colon = part.find(':');
    if (colon == part.npos)
      continue;
    if (const auto since = parse_time(part.substr(colon + 1)))
      out.emplace(part.substr(0, colon), *since);
  }
  return out;
}

std::vector<std::string> zero_groups(const json::object& service) {
  std::vector<std::string> out;
  if (const auto weights = service_weights(service))
    for (const LabelWeight& group : *weights)
      if (group.weight == 0)
        out.push_back(group.group());
  std::ranges::sort(out);
  return out;
}

}  // namespace

Result<Duration> parse_drain_timeout(std::string_view text) {
  std::string_view left = text;
  std::optional<Duration> sum;
  while (!left.empty() && (!sum || *sum <= kDrainTimeoutMax)) {
    const auto part = take_part(left);
    sum = part ? std::optional(sum.value_or(Duration(0)) + *part) : std::nullopt;
    if (!part)
      break;
  }
  if (!sum || *sum < kDrainTimeoutMin || *sum > kDrainTimeoutMax)
    return fail(Errc::kInvalid,
                fmt::format("\"{}\" must be a time from {}s to {}h, like 30s, 5m or 1h30m; without "
                            "the annotation no connection is closed",
                            printable(text), kDrainTimeoutMin.count(), kDrainTimeoutMax.count()));
  return *sum;
}

Result<std::optional<Duration>> drain_timeout(const json::object& service) {
  const json::object* annotations = annotations_of(service);
  const json::value* value =
      annotations ? annotations->if_contains(kDrainTimeoutAnnotation) : nullptr;
  if (!value)
    return std::optional<Duration>();
  if (!value->is_string())
    return fail(Errc::kInvalid,
                fmt::format("annotation {} is not a string", kDrainTimeoutAnnotation));
  return std::optional(SHOAL_TRY(parse_drain_timeout(value->get_string())));
}

void stamp_zero_weights(const json::object* before, json::object& after, WallTime now) {
  const std::vector<std::string> zero = zero_groups(after);
  json::value* metadata = after.if_contains("metadata");
  if (!metadata || !metadata->is_object())
    return;
  json::value* annotations = metadata->get_object().if_contains("annotations");
  if (!annotations || !annotations->is_object())
    return;  // no weights either
  if (zero.empty()) {
    annotations->get_object().erase(kZeroSinceAnnotation);
    return;
  }
  Stamps known;
  if (before) {
    const std::vector<std::string> were = zero_groups(*before);
    for (const auto& [group, since] : stamps_of(*before))
      if (std::ranges::binary_search(were, group))
        known.emplace(group, since);
  }
  std::string text;
  for (const std::string& group : zero) {
    const auto since = known.find(group);
    text += fmt::format("{}{}:{}", text.empty() ? "" : ",", group,
                        rfc3339_nano(since == known.end() ? now : since->second));
  }
  annotations->get_object()[kZeroSinceAnnotation] = text;
}

std::vector<GroupDrain> service_drains(const json::object& service) {
  std::vector<GroupDrain> out;
  const auto timeout = drain_timeout(service);
  if (!timeout || !*timeout)
    return out;
  const Stamps stamps = stamps_of(service);
  for (const std::string& group : zero_groups(service))
    if (const auto since = stamps.find(group); since != stamps.end())
      out.push_back({group, since->second + **timeout});
  return out;
}

}  // namespace shoal::api
