// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/nft/nft_text.h"

#include <algorithm>
#include <bit>
#include <fmt/format.h>

namespace shoal::kernel {
namespace {

constexpr std::size_t kLinkNameMax = 15;

template <class T>
void sort_unique(std::vector<T>& values) {
  std::ranges::sort(values);
  const auto rest = std::ranges::unique(values);
  values.erase(rest.begin(), rest.end());
}

AddressRange range_of(const IpPrefix& prefix) {
  const std::uint32_t first = prefix.address().v4_host_order();
  const auto size = static_cast<std::uint32_t>(prefix.size() - 1);
  return {first, first + size};
}

Result<> check_size(std::size_t size, std::string_view what) {
  if (size > kNftSetElementsMax)
    return fail(Errc::kExhausted, fmt::format("nftables: {} {} are more than the {} that are "
                                              "supported",
                                              size, what, kNftSetElementsMax));
  return {};
}

template <class T>
Result<> check_family(const std::vector<T>& values) {
  for (const T& value : values)
    if (!value.is_v4())
      return fail(Errc::kUnsupported,
                  fmt::format("nftables: {}: IPv6 is not masqueraded yet", value.to_string()));
  return {};
}

}  // namespace

std::vector<AddressRange> merge_ranges(const std::vector<IpPrefix>& prefixes) {
  std::vector<AddressRange> ranges;
  for (const IpPrefix& prefix : prefixes)
    ranges.push_back(range_of(prefix));
  std::ranges::sort(ranges);
  std::vector<AddressRange> merged;
  for (const AddressRange& range : ranges) {
    const bool touches = !merged.empty() && (merged.back().last == UINT32_MAX ||
                                             range.first <= merged.back().last + 1);
    if (touches)
      merged.back().last = std::max(merged.back().last, range.last);
    else
      merged.push_back(range);
  }
  return merged;
}

std::string to_string(const AddressRange& range) {
  const std::uint64_t size = std::uint64_t{range.last} - range.first + 1;
  if (std::has_single_bit(size) && range.first % size == 0) {
    const auto length = static_cast<unsigned>(32 - std::countr_zero(size));
    return IpPrefix::containing(IpAddress::v4(range.first), length).to_string();
  }
  return fmt::format("{}-{}", IpAddress::v4(range.first).to_string(),
                     IpAddress::v4(range.last).to_string());
}

Result<NftRules> normalize(NftRules rules) {
  sort_unique(rules.pods);
  sort_unique(rules.cluster);
  // A host that is reached over IPv6 is no destination of an IPv4 packet.
  std::erase_if(rules.nodes, [](const IpAddress& node) { return node.is_v6(); });
  sort_unique(rules.nodes);
  sort_unique(rules.internal_links);
  SHOAL_TRY(check_size(rules.pods.size(), "pod CIDRs"));
  SHOAL_TRY(check_size(rules.cluster.size(), "cluster CIDRs"));
  SHOAL_TRY(check_size(rules.nodes.size(), "member hosts"));
  SHOAL_TRY(check_family(rules.pods));
  SHOAL_TRY(check_family(rules.cluster));
  for (const std::string& link : rules.internal_links)
    if (link.empty() || link == "*" || link.size() > kLinkNameMax + (link.back() == '*' ? 1 : 0))
      return fail(Errc::kInvalid, fmt::format("nftables: '{}' is no link name", link));
  return rules;
}

std::string set_line(std::string_view set, std::string_view element) {
  return fmt::format("set {} {}", set, element);
}

std::string chain_line() {
  return fmt::format("chain {} type nat hook postrouting priority 100 policy accept", kNftChain);
}

std::string rule_line(const std::vector<std::string>& internal_links) {
  std::string line = fmt::format("rule {} ip saddr @{} ip daddr != @{} ip daddr != @{}", kNftChain,
                                 kNftPodsSet, kNftClusterSet, kNftNodesSet);
  for (const std::string& link : internal_links)
    line += fmt::format(" oifname != \"{}\"", link);
  return line + " counter masquerade fully-random";
}

std::vector<std::string> tunnel_lines(std::uint16_t port) {
  const auto chain = [](std::string_view name) {
    return fmt::format("chain {} type filter hook {} priority -300 policy accept", name, name);
  };
  const auto rule = [&](std::string_view name, std::string_view address) {
    return fmt::format("rule {} ip {} @{} udp dport {} notrack", name, address, kNftNodesSet, port);
  };
  return {chain(kNftTunnelInChain), rule(kNftTunnelInChain, "saddr"), chain(kNftTunnelOutChain),
          rule(kNftTunnelOutChain, "daddr")};
}

std::string join_sorted(std::vector<std::string> lines) {
  std::ranges::sort(lines);
  std::string text;
  for (const std::string& line : lines)
    text += line + "\n";
  return text;
}

std::string render(const NftRules& rules) {
  const auto normal = normalize(rules);
  if (!normal)
    return {};
  std::vector<std::string> lines = {chain_line(), rule_line(normal->internal_links)};
  if (normal->tunnel_port != 0)
    for (std::string& line : tunnel_lines(normal->tunnel_port))
      lines.push_back(std::move(line));
  for (const AddressRange& range : merge_ranges(normal->pods))
    lines.push_back(set_line(kNftPodsSet, to_string(range)));
  for (const AddressRange& range : merge_ranges(normal->cluster))
    lines.push_back(set_line(kNftClusterSet, to_string(range)));
  for (const IpAddress& node : normal->nodes)
    lines.push_back(set_line(kNftNodesSet, node.to_string()));
  return join_sorted(std::move(lines));
}

}  // namespace shoal::kernel
