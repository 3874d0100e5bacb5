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

// The sets of one family, by name.
struct NftSetNames {
  IpFamily family = IpFamily::kV4;
  const char* keyword;  // "ip", "ip6"
  const char* pods;
  const char* cluster;
  const char* nodes;
};
inline constexpr NftSetNames kNftSets4{IpFamily::kV4, "ip", "pods", "cluster", "nodes"};
inline constexpr NftSetNames kNftSets6{IpFamily::kV6, "ip6", "pods6", "cluster6", "nodes6"};

// Addresses of one family from first to last, both included.
struct AddressRange {
  IpAddress first;
  IpAddress last;
  auto operator<=>(const AddressRange&) const = default;
};

IpAddress last_address(IpFamily family);  // 255.255.255.255, or all ones
// Those of one family, sorted; what overlaps or touches is one range.
std::vector<AddressRange> merge_ranges(const std::vector<IpPrefix>& prefixes, IpFamily family);
std::vector<IpAddress> only(const std::vector<IpAddress>& addresses, IpFamily family);
std::string to_string(const AddressRange& range);  // "10.0.0.0/8", or "10.0.0.1-10.0.0.9"

// The families that the table has sets and a rule of: IPv6 when there are such pods.
std::vector<NftSetNames> set_names(const NftRules& rules);

// Sorted, without doubles, bounded; kExhausted above kNftSetElementsMax, kInvalid for a link name
// that is none.
Result<NftRules> normalize(NftRules rules);

std::string set_line(std::string_view set, std::string_view element);
std::string chain_line();
std::string rule_line(const NftSetNames& sets, const std::vector<std::string>& internal_links);
std::vector<std::string> mark_lines(const NftRules& rules);
std::vector<std::string> tunnel_lines(std::uint16_t port);  // chains and rules of both directions
std::string join_sorted(std::vector<std::string> lines);

}  // namespace shoal::kernel
