// SPDX-License-Identifier: Apache-2.0
#include "runtime/rootfs/mountinfo.h"

#include "netplane/base/strings.h"

#include <algorithm>

namespace shoal::runtime {
namespace {

bool is_octal(char c) { return c >= '0' && c <= '7'; }

// Blank, tab, newline and backslash are written as \040 and so on.
std::string unescape(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && is_octal(text[i + 1]) && is_octal(text[i + 2]) &&
        is_octal(text[i + 3])) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                               (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace

std::vector<MountEntry> parse_mountinfo(std::string_view text) {
  constexpr std::size_t kMountPoint = 4;
  constexpr std::size_t kFirstOptional = 6;
  std::vector<MountEntry> out;
  for (const std::string_view line : split(text, '\n')) {
    const auto fields = split(line, ' ');
    if (fields.size() <= kFirstOptional)
      continue;
    // The optional fields end with a lone "-"; type, source and super options follow.
    const auto dash = std::find(fields.begin() + kFirstOptional, fields.end(), "-");
    if (fields.end() - dash <= 3)
      continue;
    const auto has = [&](std::string_view optional) {
      return std::any_of(fields.begin() + kFirstOptional, dash,
                         [&](std::string_view field) { return field.starts_with(optional); });
    };
    out.push_back({unescape(fields[kMountPoint]), std::string(dash[1]), std::string(dash[3]),
                   has("shared:"), has("master:")});
  }
  return out;
}

}  // namespace shoal::runtime
