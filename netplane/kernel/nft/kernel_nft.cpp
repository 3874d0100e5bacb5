// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/nft/kernel_nft.h"

#include "netplane/kernel/nft/nft_text.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cstring>
#include <fmt/format.h>
#include <libnftnl/chain.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter_ipv4.h>
#include <net/if.h>
#include <span>

namespace shoal::kernel {
namespace {

using TablePtr = std::unique_ptr<nftnl_table, NftFreer<nftnl_table_free>>;
using ChainPtr = std::unique_ptr<nftnl_chain, NftFreer<nftnl_chain_free>>;
using RulePtr = std::unique_ptr<nftnl_rule, NftFreer<nftnl_rule_free>>;
using SetPtr = std::unique_ptr<nftnl_set, NftFreer<nftnl_set_free>>;

constexpr std::size_t kElementsPerMessage = 500;
constexpr std::uint32_t kPortOffset = 2;  // of the destination, in the UDP header

// How a family's addresses lie in a packet and in a set.
struct FamilyLayout {
  std::uint8_t nfproto;
  std::uint32_t set_type;  // nft's own number of the type, so that `nft list` shows addresses
  std::uint32_t address_bytes;
  std::uint32_t source_offset;  // in the IP header
  std::uint32_t destination_offset;
};
constexpr FamilyLayout kLayout4{NFPROTO_IPV4, 7, 4, 12, 16};
constexpr FamilyLayout kLayout6{NFPROTO_IPV6, 8, 16, 8, 24};

const FamilyLayout& layout_of(IpFamily family) {
  return family == IpFamily::kV4 ? kLayout4 : kLayout6;
}

struct SetElement {
  IpAddress key;
  bool interval_end = false;
};

void add_table(NftBatch& batch, std::uint16_t type, std::string what) {
  const TablePtr table(nftnl_table_alloc());
  SHOAL_ASSERT(table != nullptr);
  nftnl_table_set_str(table.get(), NFTNL_TABLE_NAME, kNftTable.data());
  nftnl_table_set_u32(table.get(), NFTNL_TABLE_FAMILY, NFPROTO_INET);
  const std::uint16_t flags = type == NFT_MSG_NEWTABLE ? NLM_F_CREATE : 0;
  batch.add(type, flags, std::move(what),
            [&](nlmsghdr* message) { nftnl_table_nlmsg_build_payload(message, table.get()); });
}

SetPtr make_set(std::string_view name, std::uint32_t id) {
  SetPtr set(nftnl_set_alloc());
  SHOAL_ASSERT(set != nullptr);
  nftnl_set_set_str(set.get(), NFTNL_SET_TABLE, kNftTable.data());
  nftnl_set_set_str(set.get(), NFTNL_SET_NAME, name.data());
  nftnl_set_set_u32(set.get(), NFTNL_SET_FAMILY, NFPROTO_INET);
  nftnl_set_set_u32(set.get(), NFTNL_SET_ID, id);
  return set;
}

void add_set(NftBatch& batch, std::string_view name, std::uint32_t id, const FamilyLayout& layout,
             bool interval, const std::vector<SetElement>& elements) {
  const SetPtr set = make_set(name, id);
  nftnl_set_set_u32(set.get(), NFTNL_SET_KEY_TYPE, layout.set_type);
  nftnl_set_set_u32(set.get(), NFTNL_SET_KEY_LEN, layout.address_bytes);
  nftnl_set_set_u32(set.get(), NFTNL_SET_FLAGS, interval ? NFT_SET_INTERVAL : 0);
  batch.add(NFT_MSG_NEWSET, NLM_F_CREATE | NLM_F_EXCL, fmt::format("create set {}", name),
            [&](nlmsghdr* message) { nftnl_set_nlmsg_build_payload(message, set.get()); });
  std::span<const SetElement> rest(elements);
  while (!rest.empty()) {
    const SetPtr part = make_set(name, id);
    for (const SetElement& element : rest.first(std::min(rest.size(), kElementsPerMessage))) {
      nftnl_set_elem* item =
          nftnl_set_elem_alloc();  // the set owns it from the next but two lines on
      SHOAL_ASSERT(item != nullptr);
      const IpAddress::Bytes& bytes = element.key.bytes();  // an IPv4 address lies at the end
      nftnl_set_elem_set(item, NFTNL_SET_ELEM_KEY,
                         bytes.data() + bytes.size() - layout.address_bytes, layout.address_bytes);
      if (element.interval_end)
        nftnl_set_elem_set_u32(item, NFTNL_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
      nftnl_set_elem_add(part.get(), item);
    }
    batch.add(NFT_MSG_NEWSETELEM, NLM_F_CREATE, fmt::format("fill set {}", name),
              [&](nlmsghdr* message) { nftnl_set_elems_nlmsg_build_payload(message, part.get()); });
    rest = rest.subspan(std::min(rest.size(), kElementsPerMessage));
  }
}

// An interval is its first address, and the one after its last as an end mark; none after the last
// address of all.
std::vector<SetElement> interval_elements(const std::vector<IpPrefix>& prefixes, IpFamily family) {
  std::vector<SetElement> elements;
  const auto ranges = merge_ranges(prefixes, family);
  const IpAddress zero = family == IpFamily::kV4 ? IpAddress::v4(0) : IpAddress();
  // nft marks the gap before the first interval, too, and expects to find it so.
  if (!ranges.empty() && ranges.front().first != zero)
    elements.push_back({zero, true});
  for (const AddressRange& range : ranges) {
    elements.push_back({range.first, false});
    if (range.last != last_address(family))
      elements.push_back({range.last.plus(1), true});
  }
  return elements;
}

std::vector<SetElement> single_elements(const std::vector<IpAddress>& addresses, IpFamily family) {
  std::vector<SetElement> elements;
  for (const IpAddress& address : only(addresses, family))
    elements.push_back({address, false});
  return elements;
}

struct BaseChain {
  std::string_view name;
  const char* type;
  std::uint32_t hook;
  std::int32_t priority;
};

void add_chain(NftBatch& batch, const BaseChain& base) {
  const ChainPtr chain(nftnl_chain_alloc());
  SHOAL_ASSERT(chain != nullptr);
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_TABLE, kNftTable.data());
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_NAME, base.name.data());
  nftnl_chain_set_u32(chain.get(), NFTNL_CHAIN_FAMILY, NFPROTO_INET);
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_TYPE, base.type);
  nftnl_chain_set_u32(chain.get(), NFTNL_CHAIN_HOOKNUM, base.hook);
  nftnl_chain_set_s32(chain.get(), NFTNL_CHAIN_PRIO, base.priority);
  nftnl_chain_set_u32(chain.get(), NFTNL_CHAIN_POLICY, NF_ACCEPT);
  batch.add(NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL,
            fmt::format("create the {} chain", base.name),
            [&](nlmsghdr* message) { nftnl_chain_nlmsg_build_payload(message, chain.get()); });
}

// --- Rules, expression by expression
// ------------------------------------------------------------------

nftnl_expr* expression(nftnl_rule* rule, const char* name) {
  nftnl_expr* made = nftnl_expr_alloc(name);
  SHOAL_ASSERT(made != nullptr);
  nftnl_rule_add_expr(rule, made);
  return made;
}

void load_meta(nftnl_rule* rule, std::uint32_t key) {
  nftnl_expr* meta = expression(rule, "meta");
  nftnl_expr_set_u32(meta, NFTNL_EXPR_META_KEY, key);
  nftnl_expr_set_u32(meta, NFTNL_EXPR_META_DREG, NFT_REG_1);
}

void compare(nftnl_rule* rule, std::uint32_t operation, const void* data, std::uint32_t size) {
  nftnl_expr* cmp = expression(rule, "cmp");
  nftnl_expr_set_u32(cmp, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
  nftnl_expr_set_u32(cmp, NFTNL_EXPR_CMP_OP, operation);
  nftnl_expr_set_data(cmp, NFTNL_EXPR_CMP_DATA, data, size);
}

struct SetRef {
  const char* name;
  std::uint32_t id;
};

enum class Side : std::uint8_t { kSource, kDestination };

void match_address(nftnl_rule* rule, const FamilyLayout& layout, Side side, const SetRef& set,
                   bool inverted) {
  nftnl_expr* payload = expression(rule, "payload");
  nftnl_expr_set_u32(payload, NFTNL_EXPR_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER);
  nftnl_expr_set_u32(payload, NFTNL_EXPR_PAYLOAD_OFFSET,
                     side == Side::kSource ? layout.source_offset : layout.destination_offset);
  nftnl_expr_set_u32(payload, NFTNL_EXPR_PAYLOAD_LEN, layout.address_bytes);
  nftnl_expr_set_u32(payload, NFTNL_EXPR_PAYLOAD_DREG, NFT_REG_1);
  nftnl_expr* lookup = expression(rule, "lookup");
  nftnl_expr_set_u32(lookup, NFTNL_EXPR_LOOKUP_SREG, NFT_REG_1);
  nftnl_expr_set_str(lookup, NFTNL_EXPR_LOOKUP_SET, set.name);
  nftnl_expr_set_u32(lookup, NFTNL_EXPR_LOOKUP_SET_ID, set.id);
  nftnl_expr_set_u32(lookup, NFTNL_EXPR_LOOKUP_FLAGS, inverted ? NFT_LOOKUP_F_INV : 0);
}

void match_link(nftnl_rule* rule, std::uint32_t operation, const std::string& link) {
  load_meta(rule, NFT_META_OIFNAME);
  if (link.back() == '*') {  // the first bytes only
    compare(rule, operation, link.data(), static_cast<std::uint32_t>(link.size() - 1));
    return;
  }
  char name[IFNAMSIZ] = {};
  std::memcpy(name, link.data(), link.size());
  compare(rule, operation, name, sizeof(name));
}

void match_mark(nftnl_rule* rule, std::uint32_t bits) {
  const std::uint32_t none = 0;
  load_meta(rule, NFT_META_MARK);
  nftnl_expr* bitwise = expression(rule, "bitwise");
  nftnl_expr_set_u32(bitwise, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
  nftnl_expr_set_u32(bitwise, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
  nftnl_expr_set_u32(bitwise, NFTNL_EXPR_BITWISE_LEN, sizeof(bits));
  nftnl_expr_set_data(bitwise, NFTNL_EXPR_BITWISE_MASK, &bits, sizeof(bits));
  nftnl_expr_set_data(bitwise, NFTNL_EXPR_BITWISE_XOR, &none, sizeof(none));
  compare(rule, NFT_CMP_NEQ, &none, sizeof(none));
}

void match_udp_port(nftnl_rule* rule, std::uint16_t port) {
  const std::uint8_t udp = IPPROTO_UDP;
  load_meta(rule, NFT_META_L4PROTO);
  compare(rule, NFT_CMP_EQ, &udp, sizeof(udp));
  nftnl_expr* payload = expression(rule, "payload");
  nftnl_expr_set_u32(payload, NFTNL_EXPR_PAYLOAD_BASE, NFT_PAYLOAD_TRANSPORT_HEADER);
  nftnl_expr_set_u32(payload, NFTNL_EXPR_PAYLOAD_OFFSET, kPortOffset);
  nftnl_expr_set_u32(payload, NFTNL_EXPR_PAYLOAD_LEN, sizeof(port));
  nftnl_expr_set_u32(payload, NFTNL_EXPR_PAYLOAD_DREG, NFT_REG_1);
  const std::uint16_t wanted = htons(port);
  compare(rule, NFT_CMP_EQ, &wanted, sizeof(wanted));
}

// Numbers of the sets within the transaction.
struct SetRefs {
  SetRef pods, cluster, nodes;
};
SetRefs refs_of(const NftSetNames& sets) {
  const std::uint32_t first = sets.family == IpFamily::kV4 ? 1 : 4;
  return {{sets.pods, first}, {sets.cluster, first + 1}, {sets.nodes, first + 2}};
}

RulePtr make_rule(std::string_view chain) {
  RulePtr rule(nftnl_rule_alloc());
  SHOAL_ASSERT(rule != nullptr);
  nftnl_rule_set_str(rule.get(), NFTNL_RULE_TABLE, kNftTable.data());
  nftnl_rule_set_str(rule.get(), NFTNL_RULE_CHAIN, chain.data());
  nftnl_rule_set_u32(rule.get(), NFTNL_RULE_FAMILY, NFPROTO_INET);
  return rule;
}

RulePtr make_rule(std::string_view chain, const FamilyLayout& layout) {
  RulePtr rule = make_rule(chain);
  load_meta(rule.get(), NFT_META_NFPROTO);
  compare(rule.get(), NFT_CMP_EQ, &layout.nfproto, sizeof(layout.nfproto));
  return rule;
}

void add_rule(NftBatch& batch, const RulePtr& rule, std::string what) {
  batch.add(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, std::move(what),
            [&](nlmsghdr* message) { nftnl_rule_nlmsg_build_payload(message, rule.get()); });
}

void add_sets(NftBatch& batch, const NftRules& rules, const NftSetNames& sets) {
  const FamilyLayout& layout = layout_of(sets.family);
  const auto [pods, cluster, nodes] = refs_of(sets);
  add_set(batch, pods.name, pods.id, layout, true, interval_elements(rules.pods, sets.family));
  add_set(batch, cluster.name, cluster.id, layout, true,
          interval_elements(rules.cluster, sets.family));
  add_set(batch, nodes.name, nodes.id, layout, false, single_elements(rules.nodes, sets.family));
}

// Fully random ports: two CPUs that pick the next free port at once would pick the same one, and
// drop.
void masquerade(nftnl_rule* rule) {
  expression(rule, "counter");
  nftnl_expr_set_u32(expression(rule, "masq"), NFTNL_EXPR_MASQ_FLAGS,
                     NF_NAT_RANGE_PROTO_RANDOM_FULLY);
}

void snat(nftnl_rule* rule, const FamilyLayout& layout, const IpAddress& to) {
  expression(rule, "counter");
  nftnl_expr* immediate = expression(rule, "immediate");
  nftnl_expr_set_u32(immediate, NFTNL_EXPR_IMM_DREG, NFT_REG_1);
  const IpAddress::Bytes& bytes = to.bytes();  // an IPv4 address lies at the end
  nftnl_expr_set_data(immediate, NFTNL_EXPR_IMM_DATA,
                      bytes.data() + bytes.size() - layout.address_bytes, layout.address_bytes);
  nftnl_expr* nat = expression(rule, "nat");
  nftnl_expr_set_u32(nat, NFTNL_EXPR_NAT_TYPE, NFT_NAT_SNAT);
  nftnl_expr_set_u32(nat, NFTNL_EXPR_NAT_FAMILY, layout.nfproto);
  nftnl_expr_set_u32(nat, NFTNL_EXPR_NAT_REG_ADDR_MIN, NFT_REG_1);
  nftnl_expr_set_u32(nat, NFTNL_EXPR_NAT_FLAGS, NF_NAT_RANGE_PROTO_RANDOM_FULLY);
}

void add_marked(NftBatch& batch, const NftRules& rules) {
  for (const IpAddress& self : {rules.self_v4, rules.self_v6}) {
    if (self.is_unspecified())
      continue;
    const FamilyLayout& layout = layout_of(self.family());
    const RulePtr rule = make_rule(kNftChain, layout);
    match_mark(rule.get(), rules.mark);
    match_link(rule.get(), NFT_CMP_EQ, rules.overlay_link);
    snat(rule.get(), layout, self);
    add_rule(batch, rule, fmt::format("add the rule of marked packets to {}", rules.overlay_link));
  }
  const RulePtr rule = make_rule(kNftChain);
  match_mark(rule.get(), rules.mark);
  masquerade(rule.get());
  add_rule(batch, rule, "add the masquerade rule of marked packets");
}

void add_masquerade(NftBatch& batch, const NftRules& rules, const NftSetNames& sets) {
  const FamilyLayout& layout = layout_of(sets.family);
  const SetRefs refs = refs_of(sets);
  const RulePtr rule = make_rule(kNftChain, layout);
  match_address(rule.get(), layout, Side::kSource, refs.pods, false);
  match_address(rule.get(), layout, Side::kDestination, refs.cluster, true);
  match_address(rule.get(), layout, Side::kDestination, refs.nodes, true);
  for (const std::string& link : rules.internal_links)
    match_link(rule.get(), NFT_CMP_NEQ, link);
  masquerade(rule.get());
  add_rule(batch, rule, fmt::format("add the masquerade rule of {}", to_string(sets.family)));
}

// The hooks before connection tracking: from another host, and to one.
void add_tunnel(NftBatch& batch, std::uint16_t port) {
  const struct {
    BaseChain chain;
    Side side;
  } directions[] = {
      {{kNftTunnelInChain, "filter", NF_INET_PRE_ROUTING, NF_IP_PRI_RAW}, Side::kSource},
      {{kNftTunnelOutChain, "filter", NF_INET_LOCAL_OUT, NF_IP_PRI_RAW}, Side::kDestination},
  };
  for (const auto& [chain, side] : directions) {
    add_chain(batch, chain);
    const RulePtr rule = make_rule(chain.name, kLayout4);
    match_address(rule.get(), kLayout4, side, refs_of(kNftSets4).nodes, false);
    match_udp_port(rule.get(), port);
    expression(rule.get(), "notrack");
    add_rule(batch, rule, fmt::format("add the tunnel's rule to the {} chain", chain.name));
  }
}

}  // namespace

Result<> KernelNft::apply(const NftRules& rules) {
  const NftRules normal = SHOAL_TRY(normalize(rules));
  NftBatch batch;
  // Deleting needs a table that exists; creating one that exists does nothing.
  add_table(batch, NFT_MSG_NEWTABLE, "create table inet shoal");
  add_table(batch, NFT_MSG_DELTABLE, "drop the old table inet shoal");
  add_table(batch, NFT_MSG_NEWTABLE, "create table inet shoal");
  for (const NftSetNames& sets : set_names(normal))
    add_sets(batch, normal, sets);
  add_chain(batch, {kNftChain, "nat", NF_INET_POST_ROUTING, NF_IP_PRI_NAT_SRC});
  for (const NftSetNames& sets : set_names(normal))
    add_masquerade(batch, normal, sets);
  if (normal.mark != 0)
    add_marked(batch, normal);
  if (normal.tunnel_port != 0)
    add_tunnel(batch, normal.tunnel_port);
  return socket_.commit(std::move(batch));
}

Result<> KernelNft::remove() {
  NftBatch batch;
  add_table(batch, NFT_MSG_NEWTABLE, "create table inet shoal");
  add_table(batch, NFT_MSG_DELTABLE, "remove table inet shoal");
  return socket_.commit(std::move(batch));
}

Result<std::unique_ptr<Nft>> open_nft(int netns_fd) {
  NftSocket socket = SHOAL_TRY(NftSocket::open(netns_fd));
  return std::make_unique<KernelNft>(std::move(socket));
}

}  // namespace shoal::kernel
