// SPDX-License-Identifier: Apache-2.0
// PortRange: ports `first` to `last`, both included. Text: "30000-32767", as Kubernetes' flags have
// it.
#pragma once

#include "netplane/base/result.h"

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

namespace shoal {

struct PortRange {
  std::uint16_t first = 0;
  std::uint16_t last = 0;

  // kInvalid: not two ports from 1 to 65535 in their order.
  static Result<PortRange> parse(std::string_view text);
  std::uint32_t size() const { return std::uint32_t{last} - first + 1; }
  bool contains(std::uint16_t port) const { return port >= first && port <= last; }
  std::string to_string() const;
  auto operator<=>(const PortRange&) const = default;
};

// Kubernetes' default for the ports of NodePort Services.
inline constexpr PortRange kNodePortsDefault{30000, 32767};

}  // namespace shoal
