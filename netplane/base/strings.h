// SPDX-License-Identifier: Apache-2.0
// Small text helpers. Parsers are strict: the whole text or nothing, no locale, no leading blanks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal {

std::vector<std::string_view> split(std::string_view text, char separator);  // "" gives {""}
std::string_view trim(std::string_view text);                                // ASCII blanks
std::string to_lower(std::string_view text);                                 // ASCII
// '*' in the pattern stands for any characters, none included; all else for itself.
bool matches_wildcard(std::string_view pattern, std::string_view text);

// Decimal, no sign; nothing when not a number or above max.
std::optional<std::uint64_t> parse_uint(std::string_view text, std::uint64_t max = UINT64_MAX);
std::optional<std::int64_t> parse_int(std::string_view text);

// For a path segment or a query value (RFC 3986): all but unreserved characters as %XX.
std::string percent_encode(std::string_view text);

std::string hex(std::string_view bytes);
std::optional<std::string> parse_hex(std::string_view text);
// The bytes of text's first character in UTF-8; 0 when it begins with none.
std::size_t utf8_char(std::string_view text);
bool is_utf8(std::string_view text);
std::string base64(std::string_view bytes);  // RFC 4648 with padding
std::optional<std::string> parse_base64(std::string_view text);

// For error messages: control characters escaped, cut at `max` bytes with "...".
std::string printable(std::string_view text, std::size_t max = 80);

// RFC 1123 names, as Kubernetes requires them of object names and hosts.
bool is_dns_label(std::string_view text);      // at most 63, [a-z0-9-], alphanumeric at both ends
bool is_dns_subdomain(std::string_view text);  // labels joined by '.', at most 253

}  // namespace shoal
