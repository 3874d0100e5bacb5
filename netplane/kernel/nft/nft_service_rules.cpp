// SPDX-License-Identifier: Apache-2.0
// The rules of the service table: see nft_service_table.h for what they are for.
#include "netplane/kernel/nft/kernel_nft_service_table.h"

#include <algorithm>
#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter_ipv4.h>
#include <linux/rtnetlink.h>
#include <numeric>

namespace shoal::kernel {
namespace {

// Registers of a service's rules. The key of a place is pool and number; that of a remembered
// client is service and address; that of a member is service, address and port.
constexpr unsigned kKey = 0;        // 8 bytes
constexpr unsigned kPlace = 2;      // after it
constexpr unsigned kClient = 2;     // after it
constexpr unsigned kMemberKey = 6;  // 8 bytes
constexpr unsigned kBackend = 8;    // after them: address, then port
constexpr std::uint64_t kMillisecond = 1000;
constexpr std::uint32_t kPortOffset = 2;  // of the destination, in TCP's and UDP's headers
constexpr std::uint32_t kTcpFlagsOffset = 13;
constexpr std::string_view kSyn("\x02", 1);
constexpr std::string_view kPodLinks = "shl";  // the beginning of their names
constexpr std::int32_t kBalancedPriority = NF_IP_PRI_NAT_SRC - 1;
constexpr IpFamily kFamilies[] = {IpFamily::kV4, IpFamily::kV6};

template <class T>
std::string bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

const std::string& table() {
  static const std::string name(kNftServiceTable);
  return name;
}

NftRule rule(const std::string& chain) { return {table(), chain, NFPROTO_INET}; }

// --- A service
// ------------------------------------------------------------------------------------

class ServiceRules {
public:
  explicit ServiceRules(const model::NftService& service)
      : service_(service), chain_(fmt::format("{}{}", kServiceChainPrefix, service.chain)),
        family_(nft_family(service.family)), sets_(service_sets(service.family)) {}

  std::vector<NftRule> make() {
    if (service_.pools.empty()) {
      rules_.push_back(rule(chain_));
      rules_.back().counter().reject(service_.proto);
      return std::move(rules_);
    }
    if (service_.affinity_s > 0) {
      add_remembered();
      add_pools(true);
    }
    // Also where the table of clients is full: nothing is remembered then.
    add_pools(false);
    add_last_resort();
    return std::move(rules_);
  }

private:
  void translate(NftRule& to) const {
    to.nat(NFT_NAT_DNAT, service_.family, kBackend, kBackend + family_.registers(), 0);
  }
  void load_client(NftRule& to) const {
    to.immediate_u64(kKey, service_.key())
        .network(family_.source_offset, family_.address_bytes, kClient);
  }
  void remember(NftRule& to) const {
    to.remember(sets_.clients, NFT_DYNSET_OP_UPDATE, kKey, kBackend,
                service_.affinity_s * kMillisecond);
  }

  void add_remembered() {
    NftRule& to = rules_.emplace_back(rule(chain_));
    load_client(to);
    to.from_map(sets_.clients, kKey, kBackend)
        .immediate_u64(kMemberKey, service_.key())
        .in_set(sets_.members, kMemberKey);
    remember(to);
    translate(to);
  }

  // Each pool is taken with its part of what is left by those before it.
  void add_pools(bool remembering) {
    std::uint64_t left = 0;
    for (const model::NftPool& pool : service_.pools)
      left += pool.weight;
    for (const model::NftPool& pool : service_.pools) {
      NftRule& to = rules_.emplace_back(rule(chain_));
      if (&pool != &service_.pools.back())
        to.random(static_cast<std::uint32_t>(left), kKey)
            .to_network(kKey, sizeof(std::uint32_t))
            .compare(NFT_CMP_LT, kKey, bytes_of(htonl(pool.weight)));
      left -= pool.weight;
      to.immediate_u64(kKey, pool.key);
      if (pool.places.size() > 1)
        to.random(static_cast<std::uint32_t>(pool.places.size()), kPlace);
      else
        to.immediate_u32(kPlace, 0);
      to.from_map(places_map(service_.family, pool.key).c_str(), kKey, kBackend);
      if (remembering) {
        load_client(to);
        to.forget(sets_.clients, kKey, kBackend);  // an update does not change what is remembered
        remember(to);
      }
      translate(to);
    }
  }

  // A packet that meets a change halfway may look for a place that is gone. The first one is there
  // as long as the pool is.
  void add_last_resort() {
    const auto heaviest = std::ranges::max_element(service_.pools, {}, &model::NftPool::weight);
    NftRule& to = rules_.emplace_back(rule(chain_));
    to.immediate_u64(kKey, heaviest->key)
        .immediate_u32(kPlace, 0)
        .from_map(places_map(service_.family, heaviest->key).c_str(), kKey, kBackend);
    translate(to);
  }

  const model::NftService& service_;
  std::string chain_;
  const NftFamily& family_;
  const NftServiceSets& sets_;
  std::vector<NftRule> rules_;
};

// --- What is no service's
// -------------------------------------------------------------------------

void mark(NftRule& to, bool on) {
  to.meta(NFT_META_MARK, 0)
      .masked(0, bytes_of(~kNftMark), bytes_of(on ? kNftMark : 0U))
      .set_meta(NFT_META_MARK, 0);
}

NftRule& from_pods(NftRule& to, bool yes) {
  return to.meta(NFT_META_IIFNAME, 0).compare(yes ? NFT_CMP_EQ : NFT_CMP_NEQ, 0, kPodLinks);
}

NftRule& load_destination(NftRule& to, IpFamily family) {
  const NftFamily& layout = nft_family(family);
  return to.network(layout.destination_offset, layout.address_bytes, 0);
}

void lead(NftRule& to, IpFamily family, const char* map) {
  const unsigned proto = nft_family(family).registers();
  load_destination(to, family)
      .meta(NFT_META_L4PROTO, proto)
      .transport(kPortOffset, sizeof(std::uint16_t), proto + 1)
      .verdict_of(map, 0);
}

void refuse_vips(std::vector<NftRule>& rules, const std::string& chain) {
  for (const IpFamily family : kFamilies) {
    NftRule& to = rules.emplace_back(rule(chain));
    load_destination(to.notice(family), family)
        .in_set(service_sets(family).vips, 0)
        .verdict(NFT_GOTO, "refuse");
  }
}

NftBaseChain refuse_chain() {
  NftBaseChain chain{"refuse", nullptr, 0, 0, {}};
  for (const L4Proto proto : {L4Proto::kTcp, L4Proto::kUdp}) {
    const auto number = static_cast<std::uint8_t>(proto);
    chain.rules.push_back(rule(chain.name));
    chain.rules.back()
        .meta(NFT_META_L4PROTO, 0)
        .compare(NFT_CMP_EQ, 0, bytes_of(number))
        .counter()
        .reject(proto);
  }
  return chain;
}

NftBaseChain prerouting_chain() {
  NftBaseChain chain{"prerouting", "nat", NF_INET_PRE_ROUTING, NF_IP_PRI_NAT_DST, {}};
  mark(chain.rules.emplace_back(rule(chain.name)), true);
  for (const IpFamily family : kFamilies)
    for (const bool inside : {true, false}) {
      NftRule& to = chain.rules.emplace_back(rule(chain.name));
      from_pods(to.notice(family), inside);
      lead(to, family, inside ? service_sets(family).inside : service_sets(family).outside);
    }
  mark(chain.rules.emplace_back(rule(chain.name)), false);
  refuse_vips(chain.rules, chain.name);
  return chain;
}

NftBaseChain output_chain() {
  NftBaseChain chain{"output", "nat", NF_INET_LOCAL_OUT, NF_IP_PRI_NAT_DST, {}};
  mark(chain.rules.emplace_back(rule(chain.name)), true);
  for (const IpFamily family : kFamilies)
    lead(chain.rules.emplace_back(rule(chain.name)).notice(family), family,
         service_sets(family).inside);
  mark(chain.rules.emplace_back(rule(chain.name)), false);
  refuse_vips(chain.rules, chain.name);
  return chain;
}

NftBaseChain forward_chain() {
  NftBaseChain chain{"forward", "filter", NF_INET_FORWARD, NF_IP_PRI_FILTER, {}};
  refuse_vips(chain.rules, chain.name);
  const auto tcp = static_cast<std::uint8_t>(L4Proto::kTcp);
  chain.rules.push_back(rule(chain.name));
  chain.rules.back()
      .meta(NFT_META_L4PROTO, 0)
      .compare(NFT_CMP_EQ, 0, bytes_of(tcp))
      .transport(kTcpFlagsOffset, 1, 0)
      .masked(0, kSyn, std::string_view("\0", 1))
      .compare(NFT_CMP_EQ, 0, kSyn)
      .route_mss(0)
      .write_mss(0);
  return chain;
}

void become_host(NftRule& to, const model::NftSetup& setup, IpFamily family) {
  const IpAddress& host = family == IpFamily::kV4 ? setup.host_v4 : setup.host_v6;
  if (host.is_unspecified())
    to.masquerade(NF_NAT_RANGE_PROTO_RANDOM_FULLY);
  else
    to.immediate(kBackend, nft_bytes(host))
        .nat(NFT_NAT_SNAT, family, kBackend, std::nullopt, NF_NAT_RANGE_PROTO_RANDOM_FULLY);
}

NftBaseChain postrouting_chain(const model::NftSetup& setup) {
  NftBaseChain chain{"postrouting", "nat", NF_INET_POST_ROUTING, kBalancedPriority, {}};
  chain.rules.push_back(rule(chain.name));
  chain.rules.back()
      .meta(NFT_META_MARK, 0)
      .masked(0, bytes_of(kNftMark), bytes_of(0U))
      .compare(NFT_CMP_EQ, 0, bytes_of(0U))
      .verdict(NFT_RETURN);
  mark(chain.rules.emplace_back(rule(chain.name)), false);
  for (const IpFamily family : kFamilies) {
    const NftFamily& layout = nft_family(family);
    const NftServiceSets& sets = service_sets(family);
    NftRule& self = chain.rules.emplace_back(rule(chain.name));
    self.notice(family)
        .network(layout.source_offset, layout.address_bytes, 0)
        .network(layout.destination_offset, layout.address_bytes, layout.registers())
        .in_set(sets.selves, 0);
    become_host(self, setup, family);
    NftRule& outside = chain.rules.emplace_back(rule(chain.name));
    outside.notice(family)
        .meta(NFT_META_OIFNAME, 0)
        .compare(NFT_CMP_NEQ, 0, kPodLinks)
        .network(layout.source_offset, layout.address_bytes, 0)
        .in_set(sets.pods, 0, true);
    become_host(outside, setup, family);
  }
  return chain;
}

NftBaseChain guard_chain(const model::NftSetup& setup) {
  NftBaseChain chain{"guard", "filter", NF_INET_PRE_ROUTING, NF_IP_PRI_RAW, {}};
  for (const IpFamily family : kFamilies) {
    const NftFamily& layout = nft_family(family);
    NftRule& to = chain.rules.emplace_back(rule(chain.name));
    from_pods(to.notice(family), true);
    if (family == IpFamily::kV6)  // what looks for neighbours before it has an address
      to.network(layout.source_offset, layout.address_bytes, 0)
          .compare(NFT_CMP_NEQ, 0, std::string(layout.address_bytes, '\0'));
    to.fib(NFT_FIB_RESULT_OIF, NFTA_FIB_F_SADDR | NFTA_FIB_F_IIF, 0)
        .compare(NFT_CMP_EQ, 0, bytes_of(0U))
        .counter()
        .verdict(NF_DROP);
  }
  if (setup.tunnel_port != 0) {
    const NftFamily& layout = nft_family(IpFamily::kV4);
    const auto udp = static_cast<std::uint8_t>(L4Proto::kUdp);
    NftRule& to = chain.rules.emplace_back(rule(chain.name));
    to.notice(IpFamily::kV4)
        .meta(NFT_META_L4PROTO, 0)
        .compare(NFT_CMP_EQ, 0, bytes_of(udp))
        .transport(kPortOffset, sizeof(std::uint16_t), 0)
        .compare(NFT_CMP_EQ, 0, bytes_of(htons(setup.tunnel_port)))
        .fib(NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_DADDR, 0)
        .compare(NFT_CMP_EQ, 0, bytes_of(std::uint32_t{RTN_LOCAL}))
        .network(layout.source_offset, layout.address_bytes, 0)
        .in_set(kHostsSet, 0, true)
        .counter()
        .verdict(NF_DROP);
  }
  return chain;
}

}  // namespace

std::string places_map(IpFamily family, std::uint64_t pool) {
  return fmt::format("places{}/{:02x}", family == IpFamily::kV4 ? 4 : 6, pool % kPlaceMaps);
}

std::vector<NftRule> service_rules(const model::NftService& service) {
  return ServiceRules(service).make();
}

std::vector<NftRule> ranges_rules(const model::NftService& service) {
  const std::string chain = fmt::format("{}{}", kRangesChainPrefix, service.chain);
  const NftFamily& layout = nft_family(service.family);
  std::vector<NftRule> rules;
  for (const IpPrefix& range : service.ranges) {
    NftRule& to = rules.emplace_back(rule(chain));
    std::string mask(layout.address_bytes, '\0');
    for (unsigned bit = 0; bit < range.length(); bit++)
      mask[bit / 8] = static_cast<char>(mask[bit / 8] | (0x80 >> (bit % 8)));
    to.network(layout.source_offset, layout.address_bytes, 0)
        .masked(0, mask, std::string(mask.size(), '\0'))
        .compare(NFT_CMP_EQ, 0, nft_bytes(range.address()))
        .verdict(NFT_GOTO, fmt::format("{}{}", kServiceChainPrefix, service.chain));
  }
  rules.push_back(rule(chain));
  rules.back().counter().verdict(NF_DROP);
  return rules;
}

std::vector<NftBaseChain> service_base_chains(const model::NftSetup& setup) {
  std::vector<NftBaseChain> chains;
  chains.push_back(refuse_chain());
  chains.push_back(prerouting_chain());
  chains.push_back(output_chain());
  chains.push_back(forward_chain());
  chains.push_back(postrouting_chain(setup));
  chains.push_back(guard_chain(setup));
  return chains;
}

}  // namespace shoal::kernel
