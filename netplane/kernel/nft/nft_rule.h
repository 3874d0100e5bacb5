// SPDX-License-Identifier: Apache-2.0
// NftRule: one rule, built expression by expression. Private to nft/.
//
// Registers are the kernel's 16 of 4 bytes each, by number. What several hold in a row is one key
// or value: addresses and ports lie in them in network order, a port in the first half of its
// register.
#pragma once

#include "netplane/base/ip.h"
#include "netplane/kernel/nft/nft_batch.h"

#include <cstdint>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace shoal::kernel {

// How a family's addresses lie in a packet and in a set.
struct NftFamily {
  std::uint8_t nfproto;
  std::uint32_t set_type;  // nft's own number of the type, so that `nft list` shows addresses
  std::uint32_t address_bytes;
  std::uint32_t source_offset;  // in the IP header
  std::uint32_t destination_offset;
  std::uint32_t registers() const { return address_bytes / 4; }
};
const NftFamily& nft_family(IpFamily family);
// The address as it lies in a packet.
std::string_view nft_bytes(const IpAddress& ip);

class NftRule {
public:
  // chain: NUL-terminated names both, as libnftnl wants them.
  NftRule(const std::string& table, const std::string& chain, std::uint32_t family);

  NftRule& comment(const std::string& text);

  NftRule& meta(std::uint32_t key, unsigned reg);
  NftRule& set_meta(std::uint32_t key, unsigned reg);
  NftRule& network(std::uint32_t offset, std::uint32_t bytes, unsigned reg);
  NftRule& transport(std::uint32_t offset, std::uint32_t bytes, unsigned reg);
  NftRule& link(std::uint32_t offset, std::uint32_t bytes, unsigned reg);
  NftRule& immediate(unsigned reg, std::string_view bytes);
  NftRule& immediate_u32(unsigned reg, std::uint32_t value);  // as the host has it
  NftRule& immediate_u64(unsigned reg, std::uint64_t value);
  NftRule& masked(unsigned reg, std::string_view mask,
                  std::string_view with);  // (reg & mask) ^ with
  NftRule& to_network(unsigned reg, std::uint32_t bytes);
  NftRule& compare(std::uint32_t operation, unsigned reg, std::string_view bytes);
  NftRule& random(std::uint32_t modulus, unsigned reg);
  NftRule& fib(std::uint32_t result, std::uint32_t flags, unsigned reg);
  NftRule& route_mss(unsigned reg);
  NftRule& write_mss(unsigned reg);
  // Ends the rule unless the set has what lies from `reg` on.
  NftRule& in_set(const char* set, unsigned reg, bool inverted = false);
  NftRule& from_map(const char* map, unsigned reg, unsigned to);
  NftRule& verdict_of(const char* map, unsigned reg);  // the map's, if it has one
  NftRule& remember(const char* map, std::uint32_t operation, unsigned key, unsigned value,
                    std::uint64_t timeout_ms);
  NftRule& forget(const char* map, unsigned key, unsigned value);
  NftRule& counter();
  NftRule& notice(IpFamily family);  // a packet of that family only; uses register 0
  NftRule& nat(std::uint32_t type, IpFamily family, unsigned address, std::optional<unsigned> port,
               std::uint32_t flags);
  NftRule& masquerade(std::uint32_t flags);
  NftRule& reject(L4Proto proto);  // a reset, or port unreachable
  NftRule& verdict(int code, const std::string& chain = {});

  void add_to(NftBatch& batch, std::string what) const;

private:
  nftnl_expr* expression(const char* name);
  NftRule& payload(std::uint32_t base, std::uint32_t offset, std::uint32_t bytes, unsigned reg);

  std::unique_ptr<nftnl_rule, NftFreer<nftnl_rule_free>> rule_;
  std::uint16_t family_;
};

}  // namespace shoal::kernel
