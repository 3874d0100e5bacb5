// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/nft/nft_text.h"

#include <algorithm>
#include <fmt/format.h>
#include <iterator>

namespace shoal::kernel {
namespace {

constexpr std::size_t kLinkNameMax = 15;

template <class T>
void sort_unique(std::vector<T>& values) {
  std::ranges::sort(values);
  const auto rest = std::ranges::unique(values);
  values.erase(rest.begin(), rest.end());
}

IpAddress last_of(const IpPrefix& prefix) {
  IpAddress::Bytes bytes = prefix.address().bytes();
  for (unsigned bit = prefix.length_mapped(); bit < 128; ++bit)
    bytes[bit / 8] = static_cast<std::uint8_t>(bytes[bit / 8] | (0x80U >> (bit % 8)));
  return IpAddress::from_bytes(bytes);
}

Result<> check_size(std::size_t size, std::string_view what) {
  if (size > kNftSetElementsMax)
    return fail(Errc::kExhausted, fmt::format("nftables: {} {} are more than the {} that are "
                                              "supported",
                                              size, what, kNftSetElementsMax));
  return {};
}

}  // namespace

IpAddress last_address(IpFamily family) {
  IpAddress::Bytes ones;
  ones.fill(0xff);
  return family == IpFamily::kV4 ? IpAddress::v4(UINT32_MAX) : IpAddress::from_bytes(ones);
}

std::vector<AddressRange> merge_ranges(const std::vector<IpPrefix>& prefixes, IpFamily family) {
  std::vector<AddressRange> ranges;
  for (const IpPrefix& prefix : prefixes)
    if (prefix.family() == family)
      ranges.push_back({prefix.address(), last_of(prefix)});
  std::ranges::sort(ranges);
  std::vector<AddressRange> merged;
  for (const AddressRange& range : ranges) {
    const bool touches = !merged.empty() && (merged.back().last == last_address(family) ||
                                             range.first <= merged.back().last.plus(1));
    if (touches)
      merged.back().last = std::max(merged.back().last, range.last);
    else
      merged.push_back(range);
  }
  return merged;
}

std::vector<IpAddress> only(const std::vector<IpAddress>& addresses, IpFamily family) {
  std::vector<IpAddress> out;
  std::ranges::copy_if(addresses, std::back_inserter(out),
                       [&](const IpAddress& ip) { return ip.family() == family; });
  return out;
}

std::string to_string(const AddressRange& range) {
  const unsigned length_max = range.first.is_v4() ? 32 : 128;
  for (unsigned length = 0; length <= length_max; ++length) {
    const IpPrefix prefix = IpPrefix::containing(range.first, length);
    if (prefix.address() == range.first && last_of(prefix) == range.last)
      return prefix.to_string();
  }
  return fmt::format("{}-{}", range.first.to_string(), range.last.to_string());
}

std::vector<NftSetNames> set_names(const NftRules& rules) {
  std::vector<NftSetNames> out{kNftSets4};
  if (std::ranges::any_of(rules.pods, [](const IpPrefix& pods) { return !pods.is_v4(); }))
    out.push_back(kNftSets6);
  return out;
}

Result<NftRules> normalize(NftRules rules) {
  sort_unique(rules.pods);
  sort_unique(rules.cluster);
  sort_unique(rules.nodes);
  sort_unique(rules.internal_links);
  SHOAL_TRY(check_size(rules.pods.size(), "pod CIDRs"));
  SHOAL_TRY(check_size(rules.cluster.size(), "cluster CIDRs"));
  SHOAL_TRY(check_size(rules.nodes.size(), "member hosts"));
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

std::string rule_line(const NftSetNames& sets, const std::vector<std::string>& internal_links) {
  std::string line = fmt::format("rule {0} {1} saddr @{2} {1} daddr != @{3} {1} daddr != @{4}",
                                 kNftChain, sets.keyword, sets.pods, sets.cluster, sets.nodes);
  for (const std::string& link : internal_links)
    line += fmt::format(" oifname != \"{}\"", link);
  return line + " counter masquerade fully-random";
}

std::vector<std::string> mark_lines(const NftRules& rules) {
  std::vector<std::string> lines;
  if (rules.mark == 0)
    return lines;
  for (const IpAddress& self : {rules.self_v4, rules.self_v6})
    if (!self.is_unspecified())
      lines.push_back(fmt::format(
          "rule {} mark & {:#010x} oifname \"{}\" counter snat {} {} fully-random", kNftChain,
          rules.mark, rules.overlay_link, self.is_v4() ? "ip" : "ip6", self.to_string()));
  lines.push_back(fmt::format("rule {} mark & {:#010x} counter masquerade fully-random", kNftChain,
                              rules.mark));
  return lines;
}

std::vector<std::string> tunnel_lines(std::uint16_t port) {
  const auto chain = [](std::string_view name) {
    return fmt::format("chain {} type filter hook {} priority -300 policy accept", name, name);
  };
  const auto rule = [&](std::string_view name, std::string_view address) {
    return fmt::format("rule {} ip {} @{} udp dport {} notrack", name, address, kNftSets4.nodes,
                       port);
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
  std::vector<std::string> lines = {chain_line()};
  if (normal->tunnel_port != 0)
    for (std::string& line : tunnel_lines(normal->tunnel_port))
      lines.push_back(std::move(line));
  for (std::string& line : mark_lines(*normal))
    lines.push_back(std::move(line));
  for (const NftSetNames& sets : set_names(*normal)) {
    lines.push_back(rule_line(sets, normal->internal_links));
    for (const AddressRange& range : merge_ranges(normal->pods, sets.family))
      lines.push_back(set_line(sets.pods, to_string(range)));
    for (const AddressRange& range : merge_ranges(normal->cluster, sets.family))
      lines.push_back(set_line(sets.cluster, to_string(range)));
    for (const IpAddress& node : only(normal->nodes, sets.family))
      lines.push_back(set_line(sets.nodes, node.to_string()));
  }
  return join_sorted(std::move(lines));
}

}  // namespace shoal::kernel
