// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/nft/objects.h"

#include "netplane/base/strings.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cstring>
#include <fmt/format.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter_ipv4.h>

namespace shoal::kernel::nft {
namespace {

constexpr std::uint32_t kIpv4AddrType = 7;  // nft's own number for ipv4_addr
constexpr std::uint32_t kSourceOffset = 12, kDestinationOffset = 16;  // in the IPv4 header
constexpr std::size_t kLinkNameBytes = 16;                            // IFNAMSIZ

void add_meta(nftnl_rule* rule, std::uint32_t key) {
  nftnl_expr* e = nftnl_expr_alloc("meta");
  nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, key);
  nftnl_expr_set_u32(e, NFTNL_EXPR_META_DREG, NFT_REG_1);
  nftnl_rule_add_expr(rule, e);
}

void add_compare(nftnl_rule* rule, std::uint32_t op, std::string_view bytes) {
  nftnl_expr* e = nftnl_expr_alloc("cmp");
  nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
  nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_OP, op);
  nftnl_expr_set_data(e, NFTNL_EXPR_CMP_DATA, bytes.data(),
                      static_cast<std::uint32_t>(bytes.size()));
  nftnl_rule_add_expr(rule, e);
}

void add_lookup(nftnl_rule* rule, std::uint32_t offset, const char* set, std::uint32_t set_id,
                bool inverted) {
  nftnl_expr* load = nftnl_expr_alloc("payload");
  nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER);
  nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
  nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_LEN, 4);
  nftnl_expr_set_u32(load, NFTNL_EXPR_PAYLOAD_DREG, NFT_REG_1);
  nftnl_rule_add_expr(rule, load);
  nftnl_expr* look = nftnl_expr_alloc("lookup");
  nftnl_expr_set_u32(look, NFTNL_EXPR_LOOKUP_SREG, NFT_REG_1);
  nftnl_expr_set_str(look, NFTNL_EXPR_LOOKUP_SET, set);
  nftnl_expr_set_u32(look, NFTNL_EXPR_LOOKUP_SET_ID, set_id);
  if (inverted)
    nftnl_expr_set_u32(look, NFTNL_EXPR_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
  nftnl_rule_add_expr(rule, look);
}

Result<std::vector<Range>> merged(std::vector<Range> ranges) {
  if (ranges.size() > kNftSetElementsMax)
    return fail(Errc::kExhausted, fmt::format("{} elements in a set; at most {} fit", ranges.size(),
                                              kNftSetElementsMax));
  std::sort(ranges.begin(), ranges.end());
  std::vector<Range> out;
  for (const Range& range : ranges) {
    const bool touches =
        !out.empty() && (out.back().second == UINT32_MAX || range.first <= out.back().second + 1);
    if (touches)
      out.back().second = std::max(out.back().second, range.second);
    else
      out.push_back(range);
  }
  return out;
}

void add_element(nftnl_set* set, std::uint32_t address, bool end) {
  nftnl_set_elem* element = nftnl_set_elem_alloc();
  const std::uint32_t network = htonl(address);
  nftnl_set_elem_set(element, NFTNL_SET_ELEM_KEY, &network, sizeof(network));
  if (end)
    nftnl_set_elem_set_u32(element, NFTNL_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
  nftnl_set_elem_add(set, element);
}

std::string text_of(std::uint32_t address) { return IpAddress::v4(address).to_string(); }

std::string describe_expr(nftnl_expr* e) {
  const std::string name = nftnl_expr_get_str(e, NFTNL_EXPR_NAME);
  const auto number = [e](std::uint16_t attribute) { return nftnl_expr_get_u32(e, attribute); };
  if (name == "meta")
    return fmt::format("meta {}", number(NFTNL_EXPR_META_KEY));
  if (name == "payload")
    return fmt::format("payload {}+{}@{}", number(NFTNL_EXPR_PAYLOAD_BASE),
                       number(NFTNL_EXPR_PAYLOAD_OFFSET), number(NFTNL_EXPR_PAYLOAD_LEN));
  if (name == "lookup")
    return fmt::format(
        "lookup {}@{}",
        nftnl_expr_is_set(e, NFTNL_EXPR_LOOKUP_FLAGS) && number(NFTNL_EXPR_LOOKUP_FLAGS) ? "!" : "",
        nftnl_expr_get_str(e, NFTNL_EXPR_LOOKUP_SET));
  if (name == "cmp") {
    std::uint32_t size = 0;
    const void* data = nftnl_expr_get(e, NFTNL_EXPR_CMP_DATA, &size);
    return fmt::format("cmp {} {}", number(NFTNL_EXPR_CMP_OP),
                       hex({static_cast<const char*>(data), size}));
  }
  return name;
}

}  // namespace

Result<std::vector<Range>> ranges_of(const std::vector<IpPrefix>& prefixes) {
  std::vector<Range> ranges;
  for (const IpPrefix& prefix : prefixes) {
    if (!prefix.is_v4())
      return fail(Errc::kUnsupported,
                  fmt::format("masquerade of {}: IPv6 is not supported yet", prefix.to_string()));
    const std::uint32_t first = prefix.address().v4_host_order();
    ranges.emplace_back(first, first + static_cast<std::uint32_t>(prefix.size() - 1));
  }
  return merged(std::move(ranges));
}

Result<std::vector<Range>> ranges_of(const std::vector<IpAddress>& addresses) {
  std::vector<Range> ranges;
  for (const IpAddress& address : addresses)
    if (address.is_v4())
      ranges.emplace_back(address.v4_host_order(), address.v4_host_order());
  std::sort(ranges.begin(), ranges.end());
  ranges.erase(std::unique(ranges.begin(), ranges.end()), ranges.end());
  if (ranges.size() > kNftSetElementsMax)
    return fail(Errc::kExhausted, fmt::format("{} hosts in a set; at most {} fit", ranges.size(),
                                              kNftSetElementsMax));
  return ranges;
}

TablePtr make_table() {
  TablePtr table(nftnl_table_alloc());
  nftnl_table_set_u32(table.get(), NFTNL_TABLE_FAMILY, NFPROTO_INET);
  nftnl_table_set_str(table.get(), NFTNL_TABLE_NAME, std::string(kNftTable).c_str());
  return table;
}

ChainPtr make_chain() {
  ChainPtr chain(nftnl_chain_alloc());
  nftnl_chain_set_u32(chain.get(), NFTNL_CHAIN_FAMILY, NFPROTO_INET);
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_TABLE, std::string(kNftTable).c_str());
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_NAME, kChain);
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_TYPE, "nat");
  nftnl_chain_set_u32(chain.get(), NFTNL_CHAIN_HOOKNUM, NF_INET_POST_ROUTING);
  nftnl_chain_set_s32(chain.get(), NFTNL_CHAIN_PRIO, NF_IP_PRI_NAT_SRC);
  nftnl_chain_set_u32(chain.get(), NFTNL_CHAIN_POLICY, NF_ACCEPT);
  return chain;
}

SetPtr make_set(const char* name, std::uint32_t id, bool interval,
                const std::vector<Range>& ranges) {
  SetPtr set(nftnl_set_alloc());
  nftnl_set_set_u32(set.get(), NFTNL_SET_FAMILY, NFPROTO_INET);
  nftnl_set_set_str(set.get(), NFTNL_SET_TABLE, std::string(kNftTable).c_str());
  nftnl_set_set_str(set.get(), NFTNL_SET_NAME, name);
  nftnl_set_set_u32(set.get(), NFTNL_SET_ID, id);
  nftnl_set_set_u32(set.get(), NFTNL_SET_KEY_TYPE, kIpv4AddrType);
  nftnl_set_set_u32(set.get(), NFTNL_SET_KEY_LEN, 4);
  if (interval)
    nftnl_set_set_u32(set.get(), NFTNL_SET_FLAGS, NFT_SET_INTERVAL);
  for (const Range& range : ranges) {
    add_element(set.get(), range.first, false);
    // An interval that reaches the last address has no end.
    if (interval && range.second != UINT32_MAX)
      add_element(set.get(), range.second + 1, true);
  }
  return set;
}

RulePtr make_rule(const std::vector<std::string>& internal_links) {
  RulePtr rule(nftnl_rule_alloc());
  nftnl_rule_set_u32(rule.get(), NFTNL_RULE_FAMILY, NFPROTO_INET);
  nftnl_rule_set_str(rule.get(), NFTNL_RULE_TABLE, std::string(kNftTable).c_str());
  nftnl_rule_set_str(rule.get(), NFTNL_RULE_CHAIN, kChain);
  add_meta(rule.get(), NFT_META_NFPROTO);
  add_compare(rule.get(), NFT_CMP_EQ, std::string(1, static_cast<char>(NFPROTO_IPV4)));
  add_lookup(rule.get(), kSourceOffset, kPodsSet, 1, false);
  add_lookup(rule.get(), kDestinationOffset, kClusterSet, 2, true);
  add_lookup(rule.get(), kDestinationOffset, kNodesSet, 3, true);
  for (const std::string& link : internal_links) {
    add_meta(rule.get(), NFT_META_OIFNAME);
    std::string name = link.substr(0, kLinkNameBytes - 1);
    if (name.ends_with('*'))
      name.pop_back();  // compared as far as it goes
    else
      name.resize(kLinkNameBytes, '\0');
    add_compare(rule.get(), NFT_CMP_NEQ, name);
  }
  nftnl_rule_add_expr(rule.get(), nftnl_expr_alloc("masq"));
  return rule;
}

std::string describe(const nftnl_chain* chain) {
  return fmt::format(
      "chain {} {} hook {} priority {} policy {}", nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME),
      nftnl_chain_get_str(chain, NFTNL_CHAIN_TYPE), nftnl_chain_get_u32(chain, NFTNL_CHAIN_HOOKNUM),
      nftnl_chain_get_s32(chain, NFTNL_CHAIN_PRIO),
      nftnl_chain_get_u32(chain, NFTNL_CHAIN_POLICY) == NF_DROP ? "drop" : "accept");
}

std::vector<std::string> describe(const std::string& set, const std::vector<Range>& ranges) {
  std::vector<std::string> lines = {fmt::format("set {}", set)};
  for (const Range& range : ranges)
    lines.push_back(
        range.first == range.second
            ? fmt::format("set {} {}", set, text_of(range.first))
            : fmt::format("set {} {}-{}", set, text_of(range.first), text_of(range.second)));
  return lines;
}

std::vector<Range> elements_of(nftnl_set* set, bool interval) {
  std::vector<std::pair<std::uint32_t, bool>> marks;  // address, is an end
  nftnl_set_elems_iter* it = nftnl_set_elems_iter_create(set);
  while (nftnl_set_elem* element = nftnl_set_elems_iter_next(it)) {
    std::uint32_t size = 0;
    const void* key = nftnl_set_elem_get(element, NFTNL_SET_ELEM_KEY, &size);
    if (!key || size < 4)
      continue;
    std::uint32_t network = 0;
    std::memcpy(&network, key, sizeof(network));
    const bool end =
        nftnl_set_elem_is_set(element, NFTNL_SET_ELEM_FLAGS) &&
        (nftnl_set_elem_get_u32(element, NFTNL_SET_ELEM_FLAGS) & NFT_SET_ELEM_INTERVAL_END);
    marks.emplace_back(ntohl(network), end);
  }
  nftnl_set_elems_iter_destroy(it);
  std::sort(marks.begin(), marks.end());
  std::vector<Range> ranges;
  for (std::size_t i = 0; i < marks.size(); i++) {
    if (marks[i].second)
      continue;
    if (!interval)
      ranges.emplace_back(marks[i].first, marks[i].first);
    else if (i + 1 < marks.size() && marks[i + 1].second)
      ranges.emplace_back(marks[i].first, marks[i + 1].first - 1);
    else
      ranges.emplace_back(marks[i].first,
                          i + 1 < marks.size() ? marks[i + 1].first - 1 : UINT32_MAX);
  }
  return ranges;
}

std::string describe(nftnl_rule* rule) {
  std::string text = "rule postrouting";
  nftnl_expr_iter* it = nftnl_expr_iter_create(rule);
  while (nftnl_expr* e = nftnl_expr_iter_next(it))
    text += " [" + describe_expr(e) + "]";
  nftnl_expr_iter_destroy(it);
  return text;
}

}  // namespace shoal::kernel::nft
