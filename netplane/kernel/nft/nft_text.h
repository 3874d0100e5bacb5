// SPDX-License-Identifier: Apache-2.0
// The parts of a table as values, and how they are written: shared by render(), dump() and the real
// and the fake Nft. Private to nft/ and to tests.
#pragma once

#include "netplane/kernel/nft/nft.h"

#include <compare>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::kernel {

inline constexpr std::string_view kNftChain = "postrouting";
inline constexpr std::string_view kNftTunnelInChain = "prerouting";
inline constexpr std::string_view kNftTunnelOutChain = "output";
inline constexpr std::string_view kNftPodsSet = "pods";
inline constexpr std::string_view kNftClusterSet = "cluster";
inline constexpr std::string_view kNftNodesSet = "nodes";

// IPv4 addresses from first to last, both included; host byte order.
struct AddressRange {
  std::uint32_t first = 0;
  std::uint32_t last = 0;
  auto operator<=>(const AddressRange&) const = default;
};

// Sorted; what overlaps or touches is one range.
std::vector<AddressRange> merge_ranges(const std::vector<IpPrefix>& prefixes);
std::string to_string(const AddressRange& range);  // "10.0.0.0/8", or "10.0.0.1-10.0.0.9"

// Sorted, without doubles, bounded; kUnsupported for IPv6 prefixes, kExhausted above
// kNftSetElementsMax, kInvalid for a link name that is none.
Result<NftRules> normalize(NftRules rules);

std::string set_line(std::string_view set, std::string_view element);
std::string chain_line();
std::string rule_line(const std::vector<std::string>& internal_links);
std::vector<std::string> tunnel_lines(std::uint16_t port);  // chains and rules of both directions
std::string join_sorted(std::vector<std::string> lines);

}  // namespace shoal::kernel
