// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/nft/nft_rule.h"

#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>

namespace shoal::kernel {
namespace {

constexpr NftFamily kFamily4{NFPROTO_IPV4, 7, 4, 12, 16};
constexpr NftFamily kFamily6{NFPROTO_IPV6, 8, 16, 8, 24};
constexpr std::uint32_t kMssOption = 2;  // TCP's, RFC 9293
constexpr std::uint32_t kMssOffset = 2;  // within it
constexpr std::uint32_t kMssBytes = 2;
constexpr std::uint32_t kCommentBytesMax = 128;

std::uint32_t number(unsigned reg) { return NFT_REG32_00 + reg; }

}  // namespace

const NftFamily& nft_family(IpFamily family) {
  return family == IpFamily::kV4 ? kFamily4 : kFamily6;
}

std::string_view nft_bytes(const IpAddress& ip) {
  const std::size_t size = nft_family(ip.family()).address_bytes;
  const IpAddress::Bytes& bytes = ip.bytes();  // an IPv4 address lies at the end
  return {reinterpret_cast<const char*>(bytes.data()) + bytes.size() - size, size};
}

NftRule::NftRule(const std::string& table, const std::string& chain, std::uint32_t family)
    : rule_(nftnl_rule_alloc()), family_(static_cast<std::uint16_t>(family)) {
  SHOAL_ASSERT(rule_ != nullptr);
  nftnl_rule_set_str(rule_.get(), NFTNL_RULE_TABLE, table.c_str());
  nftnl_rule_set_str(rule_.get(), NFTNL_RULE_CHAIN, chain.c_str());
  nftnl_rule_set_u32(rule_.get(), NFTNL_RULE_FAMILY, family);
}

NftRule& NftRule::comment(const std::string& text) {
  nftnl_udata_buf* buffer = nftnl_udata_buf_alloc(kCommentBytesMax);
  SHOAL_ASSERT(buffer != nullptr);
  SHOAL_ASSERT(nftnl_udata_put_strz(buffer, NFTNL_UDATA_RULE_COMMENT, text.c_str()) != 0);
  nftnl_rule_set_data(rule_.get(), NFTNL_RULE_USERDATA, nftnl_udata_buf_data(buffer),
                      nftnl_udata_buf_len(buffer));
  nftnl_udata_buf_free(buffer);
  return *this;
}

nftnl_expr* NftRule::expression(const char* name) {
  nftnl_expr* made = nftnl_expr_alloc(name);
  SHOAL_ASSERT(made != nullptr);
  nftnl_rule_add_expr(rule_.get(), made);
  return made;
}

NftRule& NftRule::meta(std::uint32_t key, unsigned reg) {
  nftnl_expr* meta = expression("meta");
  nftnl_expr_set_u32(meta, NFTNL_EXPR_META_KEY, key);
  nftnl_expr_set_u32(meta, NFTNL_EXPR_META_DREG, number(reg));
  return *this;
}

NftRule& NftRule::set_meta(std::uint32_t key, unsigned reg) {
  nftnl_expr* meta = expression("meta");
  nftnl_expr_set_u32(meta, NFTNL_EXPR_META_KEY, key);
  nftnl_expr_set_u32(meta, NFTNL_EXPR_META_SREG, number(reg));
  return *this;
}

NftRule& NftRule::payload(std::uint32_t base, std::uint32_t offset, std::uint32_t bytes,
                          unsigned reg) {
  nftnl_expr* payload = expression("payload");
  nftnl_expr_set_u32(payload, NFTNL_EXPR_PAYLOAD_BASE, base);
  nftnl_expr_set_u32(payload, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
  nftnl_expr_set_u32(payload, NFTNL_EXPR_PAYLOAD_LEN, bytes);
  nftnl_expr_set_u32(payload, NFTNL_EXPR_PAYLOAD_DREG, number(reg));
  return *this;
}

NftRule& NftRule::network(std::uint32_t offset, std::uint32_t bytes, unsigned reg) {
  return payload(NFT_PAYLOAD_NETWORK_HEADER, offset, bytes, reg);
}
NftRule& NftRule::transport(std::uint32_t offset, std::uint32_t bytes, unsigned reg) {
  return payload(NFT_PAYLOAD_TRANSPORT_HEADER, offset, bytes, reg);
}
NftRule& NftRule::link(std::uint32_t offset, std::uint32_t bytes, unsigned reg) {
  return payload(NFT_PAYLOAD_LL_HEADER, offset, bytes, reg);
}

NftRule& NftRule::immediate(unsigned reg, std::string_view bytes) {
  nftnl_expr* immediate = expression("immediate");
  nftnl_expr_set_u32(immediate, NFTNL_EXPR_IMM_DREG, number(reg));
  nftnl_expr_set(immediate, NFTNL_EXPR_IMM_DATA, bytes.data(),
                 static_cast<std::uint32_t>(bytes.size()));
  return *this;
}
NftRule& NftRule::immediate_u32(unsigned reg, std::uint32_t value) {
  return immediate(reg, {reinterpret_cast<const char*>(&value), sizeof(value)});
}
NftRule& NftRule::immediate_u64(unsigned reg, std::uint64_t value) {
  return immediate(reg, {reinterpret_cast<const char*>(&value), sizeof(value)});
}

NftRule& NftRule::masked(unsigned reg, std::string_view mask, std::string_view with) {
  const auto size = static_cast<std::uint32_t>(mask.size());
  nftnl_expr* bitwise = expression("bitwise");
  nftnl_expr_set_u32(bitwise, NFTNL_EXPR_BITWISE_SREG, number(reg));
  nftnl_expr_set_u32(bitwise, NFTNL_EXPR_BITWISE_DREG, number(reg));
  nftnl_expr_set_u32(bitwise, NFTNL_EXPR_BITWISE_OP, NFT_BITWISE_BOOL);
  nftnl_expr_set_u32(bitwise, NFTNL_EXPR_BITWISE_LEN, size);
  nftnl_expr_set(bitwise, NFTNL_EXPR_BITWISE_MASK, mask.data(), size);
  nftnl_expr_set(bitwise, NFTNL_EXPR_BITWISE_XOR, with.data(), size);
  return *this;
}

NftRule& NftRule::to_network(unsigned reg, std::uint32_t bytes) {
  nftnl_expr* turn = expression("byteorder");
  nftnl_expr_set_u32(turn, NFTNL_EXPR_BYTEORDER_SREG, number(reg));
  nftnl_expr_set_u32(turn, NFTNL_EXPR_BYTEORDER_DREG, number(reg));
  nftnl_expr_set_u32(turn, NFTNL_EXPR_BYTEORDER_OP, NFT_BYTEORDER_HTON);
  nftnl_expr_set_u32(turn, NFTNL_EXPR_BYTEORDER_LEN, bytes);
  nftnl_expr_set_u32(turn, NFTNL_EXPR_BYTEORDER_SIZE, bytes);
  return *this;
}

NftRule& NftRule::compare(std::uint32_t operation, unsigned reg, std::string_view bytes) {
  nftnl_expr* cmp = expression("cmp");
  nftnl_expr_set_u32(cmp, NFTNL_EXPR_CMP_SREG, number(reg));
  nftnl_expr_set_u32(cmp, NFTNL_EXPR_CMP_OP, operation);
  nftnl_expr_set(cmp, NFTNL_EXPR_CMP_DATA, bytes.data(), static_cast<std::uint32_t>(bytes.size()));
  return *this;
}

NftRule& NftRule::random(std::uint32_t modulus, unsigned reg) {
  nftnl_expr* numgen = expression("numgen");
  nftnl_expr_set_u32(numgen, NFTNL_EXPR_NG_DREG, number(reg));
  nftnl_expr_set_u32(numgen, NFTNL_EXPR_NG_MODULUS, modulus);
  nftnl_expr_set_u32(numgen, NFTNL_EXPR_NG_TYPE, NFT_NG_RANDOM);
  return *this;
}

NftRule& NftRule::fib(std::uint32_t result, std::uint32_t flags, unsigned reg) {
  nftnl_expr* fib = expression("fib");
  nftnl_expr_set_u32(fib, NFTNL_EXPR_FIB_DREG, number(reg));
  nftnl_expr_set_u32(fib, NFTNL_EXPR_FIB_RESULT, result);
  nftnl_expr_set_u32(fib, NFTNL_EXPR_FIB_FLAGS, flags);
  return *this;
}

NftRule& NftRule::route_mss(unsigned reg) {
  nftnl_expr* route = expression("rt");
  nftnl_expr_set_u32(route, NFTNL_EXPR_RT_KEY, NFT_RT_TCPMSS);
  nftnl_expr_set_u32(route, NFTNL_EXPR_RT_DREG, number(reg));
  return to_network(reg, kMssBytes);
}

NftRule& NftRule::write_mss(unsigned reg) {
  nftnl_expr* option = expression("exthdr");
  nftnl_expr_set_u32(option, NFTNL_EXPR_EXTHDR_SREG, number(reg));
  nftnl_expr_set_u8(option, NFTNL_EXPR_EXTHDR_TYPE, kMssOption);
  nftnl_expr_set_u32(option, NFTNL_EXPR_EXTHDR_OP, NFT_EXTHDR_OP_TCPOPT);
  nftnl_expr_set_u32(option, NFTNL_EXPR_EXTHDR_OFFSET, kMssOffset);
  nftnl_expr_set_u32(option, NFTNL_EXPR_EXTHDR_LEN, kMssBytes);
  return *this;
}

NftRule& NftRule::in_set(const char* set, unsigned reg, bool inverted) {
  nftnl_expr* lookup = expression("lookup");
  nftnl_expr_set_u32(lookup, NFTNL_EXPR_LOOKUP_SREG, number(reg));
  nftnl_expr_set_str(lookup, NFTNL_EXPR_LOOKUP_SET, set);
  nftnl_expr_set_u32(lookup, NFTNL_EXPR_LOOKUP_FLAGS, inverted ? NFT_LOOKUP_F_INV : 0);
  return *this;
}

NftRule& NftRule::from_map(const char* map, unsigned reg, unsigned to) {
  nftnl_expr* lookup = expression("lookup");
  nftnl_expr_set_u32(lookup, NFTNL_EXPR_LOOKUP_SREG, number(reg));
  nftnl_expr_set_u32(lookup, NFTNL_EXPR_LOOKUP_DREG, number(to));
  nftnl_expr_set_str(lookup, NFTNL_EXPR_LOOKUP_SET, map);
  return *this;
}

NftRule& NftRule::verdict_of(const char* map, unsigned reg) {
  nftnl_expr* lookup = expression("lookup");
  nftnl_expr_set_u32(lookup, NFTNL_EXPR_LOOKUP_SREG, number(reg));
  nftnl_expr_set_u32(lookup, NFTNL_EXPR_LOOKUP_DREG, NFT_REG_VERDICT);
  nftnl_expr_set_str(lookup, NFTNL_EXPR_LOOKUP_SET, map);
  return *this;
}

NftRule& NftRule::remember(const char* map, std::uint32_t operation, unsigned key, unsigned value,
                           std::uint64_t timeout_ms) {
  nftnl_expr* dynset = expression("dynset");
  nftnl_expr_set_u32(dynset, NFTNL_EXPR_DYNSET_SREG_KEY, number(key));
  nftnl_expr_set_u32(dynset, NFTNL_EXPR_DYNSET_SREG_DATA, number(value));
  nftnl_expr_set_u32(dynset, NFTNL_EXPR_DYNSET_OP, operation);
  nftnl_expr_set_u64(dynset, NFTNL_EXPR_DYNSET_TIMEOUT, timeout_ms);
  nftnl_expr_set_str(dynset, NFTNL_EXPR_DYNSET_SET_NAME, map);
  return *this;
}

// The kernel wants a value's register for a map, and does not look at it.
NftRule& NftRule::forget(const char* map, unsigned key, unsigned value) {
  nftnl_expr* dynset = expression("dynset");
  nftnl_expr_set_u32(dynset, NFTNL_EXPR_DYNSET_SREG_KEY, number(key));
  nftnl_expr_set_u32(dynset, NFTNL_EXPR_DYNSET_SREG_DATA, number(value));
  nftnl_expr_set_u32(dynset, NFTNL_EXPR_DYNSET_OP, NFT_DYNSET_OP_DELETE);
  nftnl_expr_set_str(dynset, NFTNL_EXPR_DYNSET_SET_NAME, map);
  return *this;
}

NftRule& NftRule::counter() {
  expression("counter");
  return *this;
}

NftRule& NftRule::notice(IpFamily family) {
  const char nfproto = static_cast<char>(nft_family(family).nfproto);
  return meta(NFT_META_NFPROTO, 0).compare(NFT_CMP_EQ, 0, {&nfproto, 1});
}

NftRule& NftRule::nat(std::uint32_t type, IpFamily family, unsigned address,
                      std::optional<unsigned> port, std::uint32_t flags) {
  nftnl_expr* nat = expression("nat");
  nftnl_expr_set_u32(nat, NFTNL_EXPR_NAT_TYPE, type);
  nftnl_expr_set_u32(nat, NFTNL_EXPR_NAT_FAMILY, nft_family(family).nfproto);
  nftnl_expr_set_u32(nat, NFTNL_EXPR_NAT_REG_ADDR_MIN, number(address));
  if (port)
    nftnl_expr_set_u32(nat, NFTNL_EXPR_NAT_REG_PROTO_MIN, number(*port));
  if (flags != 0)
    nftnl_expr_set_u32(nat, NFTNL_EXPR_NAT_FLAGS, flags);
  return *this;
}

NftRule& NftRule::masquerade(std::uint32_t flags) {
  nftnl_expr_set_u32(expression("masq"), NFTNL_EXPR_MASQ_FLAGS, flags);
  return *this;
}

NftRule& NftRule::reject(L4Proto proto) {
  nftnl_expr* reject = expression("reject");
  nftnl_expr_set_u32(reject, NFTNL_EXPR_REJECT_TYPE,
                     proto == L4Proto::kTcp ? NFT_REJECT_TCP_RST : NFT_REJECT_ICMPX_UNREACH);
  nftnl_expr_set_u8(reject, NFTNL_EXPR_REJECT_CODE,
                    proto == L4Proto::kTcp ? 0 : NFT_REJECT_ICMPX_PORT_UNREACH);
  return *this;
}

NftRule& NftRule::verdict(int code, const std::string& chain) {
  nftnl_expr* immediate = expression("immediate");
  nftnl_expr_set_u32(immediate, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
  nftnl_expr_set_u32(immediate, NFTNL_EXPR_IMM_VERDICT, static_cast<std::uint32_t>(code));
  if (!chain.empty())
    nftnl_expr_set_str(immediate, NFTNL_EXPR_IMM_CHAIN, chain.c_str());
  return *this;
}

void NftRule::add_to(NftBatch& batch, std::string what) const {
  batch.add(
      NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, std::move(what),
      [&](nlmsghdr* message) { nftnl_rule_nlmsg_build_payload(message, rule_.get()); }, family_);
}

}  // namespace shoal::kernel
