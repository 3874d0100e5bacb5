// SPDX-License-Identifier: Apache-2.0
#include "agent/api/quantity.h"

#include "netplane/base/strings.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <limits>

namespace shoal::api {
namespace {

__extension__ using Wide = unsigned __int128;
constexpr Wide kWideMax = ~Wide{0};
constexpr std::size_t kDigitsMax = 20;  // before the point; as many are looked at behind it

// numerator / denominator, exactly.
struct Fraction {
  Wide numerator = 0;
  Wide denominator = 1;
};

struct Suffix {
  std::string_view text;
  unsigned base;
  int exponent;
};
constexpr std::array kSuffixes = {
    Suffix{"n", 10, -9}, Suffix{"u", 10, -6}, Suffix{"m", 10, -3}, Suffix{"", 10, 0},
    Suffix{"k", 10, 3},  Suffix{"M", 10, 6},  Suffix{"G", 10, 9},  Suffix{"T", 10, 12},
    Suffix{"P", 10, 15}, Suffix{"E", 10, 18}, Suffix{"Ki", 2, 10}, Suffix{"Mi", 2, 20},
    Suffix{"Gi", 2, 30}, Suffix{"Ti", 2, 40}, Suffix{"Pi", 2, 50}, Suffix{"Ei", 2, 60},
};

bool multiply(Wide& value, unsigned by, int times) {
  for (; times > 0; --times) {
    if (value > kWideMax / by)
      return false;
    value *= by;
  }
  return true;
}

std::unexpected<Error> bad(std::string_view text, std::string_view why) {
  return fail(Errc::kInvalid, fmt::format("\"{}\" is not a quantity: {}", printable(text), why));
}

Result<Fraction> parse(std::string_view text) {
  const std::string_view whole = text;
  if (text.starts_with('-'))
    return bad(whole, "must not be negative");
  if (text.starts_with('+'))
    text.remove_prefix(1);
  Fraction fraction;
  std::size_t digits = 0;
  const auto is_digit = [&] { return !text.empty() && text.front() >= '0' && text.front() <= '9'; };
  const auto digit = [&] { return static_cast<unsigned>(text.front() - '0'); };
  for (; is_digit(); text.remove_prefix(1), ++digits)
    if (!multiply(fraction.numerator, 10, 1) || digits >= kDigitsMax)
      return bad(whole, "too many digits");
    else
      fraction.numerator += digit();
  std::size_t behind = 0;
  bool rest = false;
  if (text.starts_with('.')) {
    text.remove_prefix(1);
    for (; is_digit(); text.remove_prefix(1), ++behind) {
      if (behind >= 9) {  // finer than a nano: rounded up, as Kubernetes does
        rest = rest || digit() != 0;
        continue;
      }
      fraction.numerator = fraction.numerator * 10 + digit();
      fraction.denominator *= 10;
    }
  }
  if (rest)
    fraction.numerator += 1;
  if (digits + behind == 0)
    return bad(whole, "a number with a suffix such as m, k, M, G, Ki, Mi or Gi is expected");
  unsigned base = 10;
  int exponent = 0;
  if (text.size() >= 2 && (text.front() == 'e' || text.front() == 'E')) {
    const auto power = parse_int(text.substr(text[1] == '+' ? 2 : 1));
    if (!power || *power < -18 || *power > 18)
      return bad(whole, "bad exponent");
    exponent = static_cast<int>(*power);
  } else {
    const auto* found = std::find_if(kSuffixes.begin(), kSuffixes.end(),
                                     [&](const Suffix& s) { return s.text == text; });
    if (found == kSuffixes.end())
      return bad(whole,
                 "unknown suffix; known are n, u, m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei");
    base = found->base;
    exponent = found->exponent;
  }
  if (!multiply(exponent >= 0 ? fraction.numerator : fraction.denominator, base,
                exponent >= 0 ? exponent : -exponent))
    return bad(whole, "too large");
  return fraction;
}

Result<std::int64_t> scaled(std::string_view text, unsigned by) {
  Fraction fraction = SHOAL_TRY(parse(text));
  if (!multiply(fraction.numerator, by, 1))
    return bad(text, "too large");
  const Wide value = fraction.numerator / fraction.denominator +
                     (fraction.numerator % fraction.denominator != 0 ? 1 : 0);
  if (value > static_cast<Wide>(std::numeric_limits<std::int64_t>::max()))
    return bad(text, "too large");
  return static_cast<std::int64_t>(value);
}

}  // namespace

Result<std::int64_t> parse_quantity_milli(std::string_view text) { return scaled(text, 1000); }
Result<std::int64_t> parse_quantity(std::string_view text) { return scaled(text, 1); }

std::string binary_quantity(std::int64_t bytes) {
  constexpr std::string_view kUnits[] = {"", "Ki", "Mi", "Gi", "Ti", "Pi"};
  std::size_t unit = 0;
  for (; bytes > 0 && bytes % 1024 == 0 && unit + 1 < std::size(kUnits); bytes /= 1024)
    ++unit;
  return fmt::format("{}{}", bytes, kUnits[unit]);
}

}  // namespace shoal::api
