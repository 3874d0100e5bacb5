// SPDX-License-Identifier: Apache-2.0
#include "agent/api/time_text.h"

#include "netplane/base/strings.h"

#include <fmt/format.h>

namespace shoal::api {
namespace {

// Takes `digits` decimal digits from the front.
std::optional<unsigned> take_number(std::string_view& text, std::size_t digits) {
  if (text.size() < digits)
    return std::nullopt;
  const auto number = parse_uint(text.substr(0, digits));
  text.remove_prefix(digits);
  return number ? std::optional<unsigned>(static_cast<unsigned>(*number)) : std::nullopt;
}

bool take(std::string_view& text, std::string_view any_of) {
  if (text.empty() || any_of.find(text.front()) == any_of.npos)
    return false;
  text.remove_prefix(1);
  return true;
}

}  // namespace

std::optional<WallTime> parse_time(std::string_view text) {
  using namespace std::chrono;
  const auto y = take_number(text, 4);
  if (!y || !take(text, "-"))
    return std::nullopt;
  const auto m = take_number(text, 2);
  if (!m || !take(text, "-"))
    return std::nullopt;
  const auto d = take_number(text, 2);
  if (!d || !take(text, "Tt "))
    return std::nullopt;
  const auto h = take_number(text, 2);
  if (!h || !take(text, ":"))
    return std::nullopt;
  const auto min = take_number(text, 2);
  if (!min || !take(text, ":"))
    return std::nullopt;
  const auto s = take_number(text, 2);
  const year_month_day date{year(static_cast<int>(*y)), month(*m), day(*d)};
  // Years that fit into 64 bits of nanoseconds.
  if (!s || !date.ok() || *y < 1970 || *y > 2200 || *h > 23 || *min > 59 || *s > 60)
    return std::nullopt;
  Duration fraction{0};
  if (take(text, ".")) {
    std::size_t digits = 0;
    std::int64_t value = 0;
    for (; !text.empty() && text.front() >= '0' && text.front() <= '9'; ++digits) {
      if (digits < 9)
        value = value * 10 + (text.front() - '0');
      text.remove_prefix(1);
    }
    if (digits == 0)
      return std::nullopt;
    for (std::size_t i = digits; i < 9; ++i)
      value *= 10;
    fraction = nanoseconds(value);
  }
  Duration offset{0};
  if (!take(text, "Zz")) {
    const bool minus = !text.empty() && text.front() == '-';
    if (!take(text, "+-"))
      return std::nullopt;
    const auto offset_h = take_number(text, 2);
    if (!offset_h || !take(text, ":"))
      return std::nullopt;
    const auto offset_min = take_number(text, 2);
    if (!offset_min || *offset_h > 23 || *offset_min > 59)
      return std::nullopt;
    offset = hours(*offset_h) + minutes(*offset_min);
    if (minus)
      offset = -offset;
  }
  if (!text.empty())
    return std::nullopt;
  return WallTime(sys_days(date).time_since_epoch() + hours(*h) + minutes(*min) + seconds(*s) +
                  fraction - offset);
}

std::string human_duration(Duration duration) {
  using namespace std::chrono;
  const std::int64_t s = duration_cast<seconds>(duration).count();
  const std::int64_t m = s / 60, h = s / 3600, d = s / 86'400, y = d / 365;
  if (s < -1)
    return "<invalid>";
  if (s < 0)
    return "0s";
  if (s < 120)
    return fmt::format("{}s", s);
  if (m < 10)
    return s % 60 == 0 ? fmt::format("{}m", m) : fmt::format("{}m{}s", m, s % 60);
  if (m < 180)
    return fmt::format("{}m", m);
  if (h < 8)
    return m % 60 == 0 ? fmt::format("{}h", h) : fmt::format("{}h{}m", h, m % 60);
  if (h < 48)
    return fmt::format("{}h", h);
  if (d < 8)
    return h % 24 == 0 ? fmt::format("{}d", d) : fmt::format("{}d{}h", d, h % 24);
  if (y < 2)
    return fmt::format("{}d", d);
  if (y < 8)
    return d % 365 == 0 ? fmt::format("{}y", y) : fmt::format("{}y{}d", y, d % 365);
  return fmt::format("{}y", y);
}

std::string age_of(std::string_view text, WallTime now) {
  const std::optional<WallTime> then = parse_time(text);
  return then ? human_duration(now - *then) : "<unknown>";
}

}  // namespace shoal::api
