// SPDX-License-Identifier: Apache-2.0
// What the kernel holds, read back as text. A rule is decompiled expression by expression, so that
// whatever somebody added to our table shows.
#include "netplane/kernel/nft/kernel_nft.h"
#include "netplane/kernel/nft/nft_text.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cstring>
#include <fmt/format.h>
#include <libnftnl/chain.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <net/if.h>
#include <utility>

namespace shoal::kernel {
namespace {

using ChainPtr = std::unique_ptr<nftnl_chain, NftFreer<nftnl_chain_free>>;
using RulePtr = std::unique_ptr<nftnl_rule, NftFreer<nftnl_rule_free>>;
using SetPtr = std::unique_ptr<nftnl_set, NftFreer<nftnl_set_free>>;

constexpr std::array<const char*, 5> kHookNames = {"prerouting", "input", "forward", "output",
                                                   "postrouting"};

std::string_view family_name(std::uint32_t family) {
  switch (family) {
  case NFPROTO_IPV4:
    return "ip";
  case NFPROTO_IPV6:
    return "ip6";
  case NFPROTO_INET:
    return "inet";
  case NFPROTO_ARP:
    return "arp";
  case NFPROTO_BRIDGE:
    return "bridge";
  case NFPROTO_NETDEV:
    return "netdev";
  default:
    return "?";
  }
}

// `size` is 4 or 16.
IpAddress address_of(const std::uint8_t* data, std::uint32_t size) {
  IpAddress::Bytes bytes = IpAddress::v4(0).bytes();
  std::copy_n(data, size, bytes.end() - size);
  return IpAddress::from_bytes(bytes);
}

std::string_view text_or_empty(const char* text) { return text == nullptr ? "" : text; }

std::string chain_text(const nftnl_chain* chain) {
  const std::string_view name = text_or_empty(nftnl_chain_get_str(chain, NFTNL_CHAIN_NAME));
  if (!nftnl_chain_is_set(chain, NFTNL_CHAIN_HOOKNUM))
    return fmt::format("chain {}", name);
  const std::uint32_t hook = nftnl_chain_get_u32(chain, NFTNL_CHAIN_HOOKNUM);
  return fmt::format("chain {} type {} hook {} priority {} policy {}", name,
                     text_or_empty(nftnl_chain_get_str(chain, NFTNL_CHAIN_TYPE)),
                     hook < kHookNames.size() ? kHookNames[hook] : "?",
                     nftnl_chain_get_s32(chain, NFTNL_CHAIN_PRIO),
                     nftnl_chain_get_u32(chain, NFTNL_CHAIN_POLICY) == NF_ACCEPT ? "accept"
                                                                                 : "drop");
}

// --- Rules
// -------------------------------------------------------------------------------------------

// What register 1 holds while a rule is read.
struct Reader {
  std::string loaded;
  std::string transport;  // "udp" once the rule has asked for it
  std::string mask;       // that the register was cut down by
  std::string address;    // that the register was set to
  std::string text;
};

void read_cmp(const nftnl_expr* expr, Reader& reader) {
  std::uint32_t size = 0;
  const auto* data = static_cast<const char*>(nftnl_expr_get(expr, NFTNL_EXPR_CMP_DATA, &size));
  const bool equal = nftnl_expr_get_u32(expr, NFTNL_EXPR_CMP_OP) == NFT_CMP_EQ;
  if (reader.loaded == "nfproto" && equal && size == 1 &&
      (data[0] == NFPROTO_IPV4 || data[0] == NFPROTO_IPV6))
    return;  // said by the "ip" or "ip6" of the addresses that follow
  if (!reader.mask.empty() && !equal && std::count(data, data + size, '\0') == size) {
    reader.text += fmt::format(" {} & {}", reader.loaded, std::exchange(reader.mask, {}));
    return;
  }
  if (reader.loaded == "l4proto" && equal && size == 1 && data[0] == IPPROTO_UDP) {
    reader.transport = "udp";  // said by the port that follows
    return;
  }
  std::string value;
  if (reader.loaded == "oifname" || reader.loaded == "iifname")
    value = fmt::format("\"{}{}\"", std::string_view(data, strnlen(data, size)),
                        size < IFNAMSIZ ? "*" : "");
  else if (reader.loaded == "udp dport" && size == sizeof(std::uint16_t))
    value = fmt::format("{}", static_cast<unsigned char>(data[0]) << 8 |
                                  static_cast<unsigned char>(data[1]));
  else
    for (std::uint32_t i = 0; i < size; ++i)
      value += fmt::format("{:02x}", static_cast<unsigned char>(data[i]));
  reader.text += fmt::format(" {} {}{}", reader.loaded, equal ? "" : "!= ", value);
}

void read_lookup(const nftnl_expr* expr, Reader& reader) {
  const bool inverted = (nftnl_expr_get_u32(expr, NFTNL_EXPR_LOOKUP_FLAGS) & NFT_LOOKUP_F_INV) != 0;
  reader.text += fmt::format(" {} {}@{}", reader.loaded, inverted ? "!= " : "",
                             text_or_empty(nftnl_expr_get_str(expr, NFTNL_EXPR_LOOKUP_SET)));
}

std::string payload_name(const nftnl_expr* expr, const std::string& transport) {
  const std::uint32_t base = nftnl_expr_get_u32(expr, NFTNL_EXPR_PAYLOAD_BASE);
  const std::uint32_t offset = nftnl_expr_get_u32(expr, NFTNL_EXPR_PAYLOAD_OFFSET);
  const std::uint32_t size = nftnl_expr_get_u32(expr, NFTNL_EXPR_PAYLOAD_LEN);
  if (base == NFT_PAYLOAD_NETWORK_HEADER && size == 4 && (offset == 12 || offset == 16))
    return offset == 12 ? "ip saddr" : "ip daddr";
  if (base == NFT_PAYLOAD_NETWORK_HEADER && size == 16 && (offset == 8 || offset == 24))
    return offset == 8 ? "ip6 saddr" : "ip6 daddr";
  if (base == NFT_PAYLOAD_TRANSPORT_HEADER && size == 2 && offset == 2 && !transport.empty())
    return transport + " dport";
  return fmt::format("payload({},{},{})", base, offset, size);
}

std::string meta_name(const nftnl_expr* expr) {
  switch (nftnl_expr_get_u32(expr, NFTNL_EXPR_META_KEY)) {
  case NFT_META_NFPROTO:
    return "nfproto";
  case NFT_META_L4PROTO:
    return "l4proto";
  case NFT_META_MARK:
    return "mark";
  case NFT_META_OIFNAME:
    return "oifname";
  case NFT_META_IIFNAME:
    return "iifname";
  default:
    return fmt::format("meta({})", nftnl_expr_get_u32(expr, NFTNL_EXPR_META_KEY));
  }
}

void read_bitwise(const nftnl_expr* expr, Reader& reader) {
  std::uint32_t size = 0;
  const void* mask = nftnl_expr_get(expr, NFTNL_EXPR_BITWISE_MASK, &size);
  std::uint32_t bits = 0;
  if (mask != nullptr && size == sizeof(bits))
    std::memcpy(&bits, mask, sizeof(bits));
  reader.mask = fmt::format("{:#010x}", bits);
}

void read_immediate(const nftnl_expr* expr, Reader& reader) {
  std::uint32_t size = 0;
  const auto* data =
      static_cast<const std::uint8_t*>(nftnl_expr_get(expr, NFTNL_EXPR_IMM_DATA, &size));
  if (data != nullptr && (size == 4 || size == 16))
    reader.address = address_of(data, size).to_string();
}

void read_nat_flags(std::uint32_t flags, Reader& reader) {
  if ((flags & NF_NAT_RANGE_PROTO_RANDOM_FULLY) != 0)
    reader.text += " fully-random";
}

int read_expression(nftnl_expr* expr, void* argument) {
  Reader& reader = *static_cast<Reader*>(argument);
  const std::string_view name = text_or_empty(nftnl_expr_get_str(expr, NFTNL_EXPR_NAME));
  if (name == "meta") {
    reader.loaded = meta_name(expr);
  } else if (name == "payload") {
    reader.loaded = payload_name(expr, reader.transport);
  } else if (name == "cmp") {
    read_cmp(expr, reader);
  } else if (name == "lookup") {
    read_lookup(expr, reader);
  } else if (name == "bitwise") {
    read_bitwise(expr, reader);
  } else if (name == "immediate") {
    read_immediate(expr, reader);
  } else if (name == "masq") {
    reader.text += " masquerade";
    read_nat_flags(nftnl_expr_get_u32(expr, NFTNL_EXPR_MASQ_FLAGS), reader);
  } else if (name == "nat") {
    const bool source = nftnl_expr_get_u32(expr, NFTNL_EXPR_NAT_TYPE) == NFT_NAT_SNAT;
    reader.text += fmt::format(" {} {} {}", source ? "snat" : "dnat",
                               family_name(nftnl_expr_get_u32(expr, NFTNL_EXPR_NAT_FAMILY)),
                               std::exchange(reader.address, {}));
    read_nat_flags(nftnl_expr_get_u32(expr, NFTNL_EXPR_NAT_FLAGS), reader);
  } else {
    reader.text += fmt::format(" {}", name);  // "counter"; and what is not ours, by its name
  }
  return 0;
}

std::string rule_text(nftnl_rule* rule) {
  Reader reader;
  nftnl_expr_foreach(rule, read_expression, &reader);
  return fmt::format("rule {}{}", text_or_empty(nftnl_rule_get_str(rule, NFTNL_RULE_CHAIN)),
                     reader.text);
}

// --- Sets
// ----------------------------------------------------------------------------------------------

struct SetContent {
  std::string name;
  bool interval = false;
  std::vector<std::pair<IpAddress, bool>> elements;  // end mark
};

int read_element(nftnl_set_elem* element, void* argument) {
  auto* content = static_cast<SetContent*>(argument);
  std::uint32_t size = 0;
  const auto* key =
      static_cast<const std::uint8_t*>(nftnl_set_elem_get(element, NFTNL_SET_ELEM_KEY, &size));
  if (key == nullptr || (size != 4 && size != 16))
    return 0;
  const bool end =
      nftnl_set_elem_is_set(element, NFTNL_SET_ELEM_FLAGS) &&
      (nftnl_set_elem_get_u32(element, NFTNL_SET_ELEM_FLAGS) & NFT_SET_ELEM_INTERVAL_END) != 0;
  content->elements.emplace_back(address_of(key, size), end);
  return 0;
}

IpAddress before(const IpAddress& ip) {
  IpAddress::Bytes bytes = ip.bytes();
  for (std::size_t i = bytes.size(); i-- > 0 && bytes[i]-- == 0;) {
  }
  return IpAddress::from_bytes(bytes);
}

void append_set(std::vector<std::string>& lines, SetContent& set) {
  std::ranges::sort(set.elements);
  for (std::size_t i = 0; i < set.elements.size(); ++i) {
    const auto [address, end] = set.elements[i];
    if (end)
      continue;
    AddressRange range{address, address};
    if (set.interval) {
      const bool closed = i + 1 < set.elements.size() && set.elements[i + 1].second;
      range.last = closed ? before(set.elements[i + 1].first) : last_address(address.family());
      lines.push_back(set_line(set.name, to_string(range)));
    } else {
      lines.push_back(set_line(set.name, address.to_string()));
    }
  }
}

}  // namespace

Result<std::string> KernelNft::dump() {
  std::vector<std::string> lines;
  std::vector<std::string> part;
  const auto restart = [&] { part.clear(); };
  const auto take = [&] {
    lines.insert(lines.end(), part.begin(), part.end());
    part.clear();
  };
  SHOAL_TRY(socket_.dump(
      NFT_MSG_GETCHAIN, NFPROTO_INET, "list chains", {}, restart, [&](const nlmsghdr* message) {
        const ChainPtr chain(nftnl_chain_alloc());
        if (nftnl_chain_nlmsg_parse(message, chain.get()) == 0 &&
            text_or_empty(nftnl_chain_get_str(chain.get(), NFTNL_CHAIN_TABLE)) == kNftTable)
          part.push_back(chain_text(chain.get()));
      }));
  take();
  SHOAL_TRY(socket_.dump(
      NFT_MSG_GETRULE, NFPROTO_INET, "list rules", {}, restart, [&](const nlmsghdr* message) {
        const RulePtr rule(nftnl_rule_alloc());
        if (nftnl_rule_nlmsg_parse(message, rule.get()) == 0 &&
            text_or_empty(nftnl_rule_get_str(rule.get(), NFTNL_RULE_TABLE)) == kNftTable)
          part.push_back(rule_text(rule.get()));
      }));
  take();
  std::vector<SetContent> sets;
  SHOAL_TRY(socket_.dump(
      NFT_MSG_GETSET, NFPROTO_INET, "list sets", {}, [&] { sets.clear(); },
      [&](const nlmsghdr* message) {
        const SetPtr set(nftnl_set_alloc());
        if (nftnl_set_nlmsg_parse(message, set.get()) != 0 ||
            text_or_empty(nftnl_set_get_str(set.get(), NFTNL_SET_TABLE)) != kNftTable)
          return;
        const std::uint32_t flags = nftnl_set_get_u32(set.get(), NFTNL_SET_FLAGS);
        sets.push_back({std::string(text_or_empty(nftnl_set_get_str(set.get(), NFTNL_SET_NAME))),
                        (flags & NFT_SET_INTERVAL) != 0,
                        {}});
      }));
  for (SetContent& set : sets) {
    const SetPtr wanted(nftnl_set_alloc());
    nftnl_set_set_str(wanted.get(), NFTNL_SET_TABLE, kNftTable.data());
    nftnl_set_set_str(wanted.get(), NFTNL_SET_NAME, set.name.c_str());
    SHOAL_TRY(socket_.dump(
        NFT_MSG_GETSETELEM, NFPROTO_INET, "list the elements of set " + set.name,
        [&](nlmsghdr* request) { nftnl_set_elems_nlmsg_build_payload(request, wanted.get()); },
        [&] { set.elements.clear(); },
        [&](const nlmsghdr* message) {
          const SetPtr part_of_set(nftnl_set_alloc());
          if (nftnl_set_elems_nlmsg_parse(message, part_of_set.get()) == 0)
            nftnl_set_elem_foreach(part_of_set.get(), read_element, &set);
        }));
    append_set(lines, set);
  }
  return join_sorted(std::move(lines));
}

Result<std::vector<std::string>> KernelNft::foreign_drops() {
  std::vector<std::string> found;
  SHOAL_TRY(socket_.dump(
      NFT_MSG_GETCHAIN, NFPROTO_UNSPEC, "list chains", {}, [&] { found.clear(); },
      [&](const nlmsghdr* message) {
        const ChainPtr chain(nftnl_chain_alloc());
        if (nftnl_chain_nlmsg_parse(message, chain.get()) != 0 ||
            !nftnl_chain_is_set(chain.get(), NFTNL_CHAIN_HOOKNUM) ||
            nftnl_chain_get_u32(chain.get(), NFTNL_CHAIN_POLICY) != NF_DROP)
          return;
        const std::string_view table =
            text_or_empty(nftnl_chain_get_str(chain.get(), NFTNL_CHAIN_TABLE));
        const std::uint32_t family = nftnl_chain_get_u32(chain.get(), NFTNL_CHAIN_FAMILY);
        const std::uint32_t hook = nftnl_chain_get_u32(chain.get(), NFTNL_CHAIN_HOOKNUM);
        const bool l3 = family == NFPROTO_IPV4 || family == NFPROTO_IPV6 || family == NFPROTO_INET;
        if (!l3 || (table == kNftTable && family == NFPROTO_INET) || hook >= kHookNames.size())
          return;
        found.push_back(fmt::format(
            "{} {} {} hook {} policy drop", family_name(family), table,
            text_or_empty(nftnl_chain_get_str(chain.get(), NFTNL_CHAIN_NAME)), kHookNames[hook]));
      }));
  std::ranges::sort(found);
  return found;
}

}  // namespace shoal::kernel
