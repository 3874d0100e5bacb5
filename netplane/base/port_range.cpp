// SPDX-License-Identifier: Apache-2.0
#include "netplane/base/port_range.h"

#include "netplane/base/strings.h"

#include <fmt/format.h>

namespace shoal {

Result<PortRange> PortRange::parse(std::string_view text) {
  const std::size_t dash = text.find('-');
  const auto port = [](std::string_view part) { return parse_uint(part, 65535); };
  if (dash != std::string_view::npos)
    if (const auto first = port(text.substr(0, dash)), last = port(text.substr(dash + 1));
        first && last && *first >= 1 && *first <= *last)
      return PortRange{static_cast<std::uint16_t>(*first), static_cast<std::uint16_t>(*last)};
  return fail(Errc::kInvalid,
              fmt::format("\"{}\" is not a range of ports such as 30000-32767", printable(text)));
}

std::string PortRange::to_string() const { return fmt::format("{}-{}", first, last); }

}  // namespace shoal
