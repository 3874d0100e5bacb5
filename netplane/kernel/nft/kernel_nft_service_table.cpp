// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/nft/kernel_nft_service_table.h"

#include "netplane/kernel/nft/nft_text.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cstring>
#include <fmt/format.h>
#include <libnftnl/chain.h>
#include <libnftnl/table.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

namespace shoal::kernel {
namespace {

using TablePtr = std::unique_ptr<nftnl_table, NftFreer<nftnl_table_free>>;
using ChainPtr = std::unique_ptr<nftnl_chain, NftFreer<nftnl_chain_free>>;
using SetPtr = std::unique_ptr<nftnl_set, NftFreer<nftnl_set_free>>;

// What fits into one message with the longest names.
constexpr std::size_t kElementsPerMessage = 100;

// nft's own numbers of types, so that `nft list` shows what keys are; a key of several is written
// six bits each.
constexpr std::uint32_t kTypeMark = 19;
constexpr std::uint32_t kTypeProto = 12;
constexpr std::uint32_t kTypePort = 13;
template <class... Types>
constexpr std::uint32_t concat(Types... types) {
  std::uint32_t out = 0;
  ((out = (out << 6) | types), ...);
  return out;
}

void change_table(NftBatch& batch, std::uint16_t type, std::string_view name,
                  std::uint16_t family) {
  const TablePtr table(nftnl_table_alloc());
  SHOAL_ASSERT(table != nullptr);
  nftnl_table_set_str(table.get(), NFTNL_TABLE_NAME, std::string(name).c_str());
  nftnl_table_set_u32(table.get(), NFTNL_TABLE_FAMILY, family);
  batch.add(
      type, type == NFT_MSG_NEWTABLE ? NLM_F_CREATE : 0,
      fmt::format("{} table {}", type == NFT_MSG_NEWTABLE ? "create" : "delete", name),
      [&](nlmsghdr* message) { nftnl_table_nlmsg_build_payload(message, table.get()); }, family);
}

// --- Sets
// -----------------------------------------------------------------------------------------

struct SetShape {
  std::string name;
  std::uint32_t flags = 0;
  std::uint32_t key_type = 0;
  std::uint32_t key_bytes = 0;
  std::uint32_t data_type = 0;  // of a map
  std::uint32_t data_bytes = 0;
  std::uint32_t size = 0;  // 0: no bound
  bool counting = false;   // each element counts what meets it
};

SetPtr make_set(const std::string& name) {
  SetPtr set(nftnl_set_alloc());
  SHOAL_ASSERT(set != nullptr);
  nftnl_set_set_str(set.get(), NFTNL_SET_TABLE, std::string(kNftServiceTable).c_str());
  nftnl_set_set_str(set.get(), NFTNL_SET_NAME, name.c_str());
  nftnl_set_set_u32(set.get(), NFTNL_SET_FAMILY, NFPROTO_INET);
  return set;
}

void add_set(NftBatch& batch, const SetShape& shape, std::uint32_t id) {
  const SetPtr set = make_set(shape.name);
  nftnl_set_set_u32(set.get(), NFTNL_SET_ID, id);
  nftnl_set_set_u32(set.get(), NFTNL_SET_FLAGS, shape.flags);
  nftnl_set_set_u32(set.get(), NFTNL_SET_KEY_TYPE, shape.key_type);
  nftnl_set_set_u32(set.get(), NFTNL_SET_KEY_LEN, shape.key_bytes);
  if ((shape.flags & NFT_SET_MAP) != 0) {
    nftnl_set_set_u32(set.get(), NFTNL_SET_DATA_TYPE, shape.data_type);
    nftnl_set_set_u32(set.get(), NFTNL_SET_DATA_LEN, shape.data_bytes);
  }
  if (shape.size != 0)
    nftnl_set_set_u32(set.get(), NFTNL_SET_DESC_SIZE, shape.size);
  if (shape.counting) {
    nftnl_expr* counter = nftnl_expr_alloc("counter");
    SHOAL_ASSERT(counter != nullptr);
    nftnl_set_add_expr(set.get(), counter);
  }
  batch.add(NFT_MSG_NEWSET, NLM_F_CREATE | NLM_F_EXCL, fmt::format("create set {}", shape.name),
            [&](nlmsghdr* message) { nftnl_set_nlmsg_build_payload(message, set.get()); });
}

void add_sets(NftBatch& batch, std::uint32_t clients) {
  std::uint32_t id = 0;
  const auto add = [&](const SetShape& shape) { add_set(batch, shape, ++id); };
  for (const IpFamily family : {IpFamily::kV4, IpFamily::kV6}) {
    const NftServiceSets& sets = service_sets(family);
    const NftFamily& layout = nft_family(family);
    const std::uint32_t ip = layout.set_type;
    const std::uint32_t bytes = layout.address_bytes;
    for (const char* name : {sets.inside, sets.outside})
      add({.name = name,
           .flags = NFT_SET_MAP,
           .key_type = concat(ip, kTypeProto, kTypePort),
           .key_bytes = bytes + 8,
           .data_type = NFT_DATA_VERDICT,
           .counting = true});
    for (std::uint32_t map = 0; map < kPlaceMaps; map++)
      add({.name = places_map(family, map),
           .flags = NFT_SET_MAP,
           .key_type = concat(kTypeMark, kTypeMark, kTypeMark),
           .key_bytes = 12,
           .data_type = concat(ip, kTypePort),
           .data_bytes = bytes + 4});
    add({.name = sets.clients,
         .flags = NFT_SET_MAP | NFT_SET_TIMEOUT | NFT_SET_EVAL,
         .key_type = concat(kTypeMark, kTypeMark, ip),
         .key_bytes = bytes + 8,
         .data_type = concat(ip, kTypePort),
         .data_bytes = bytes + 4,
         .size = clients});
    add({.name = sets.members,
         .key_type = concat(kTypeMark, kTypeMark, ip, kTypePort),
         .key_bytes = bytes + 12});
    for (const char* name : {sets.vips, sets.pods})
      add({.name = name, .key_type = ip, .key_bytes = bytes});
    add({.name = sets.selves, .key_type = concat(ip, ip), .key_bytes = 2 * bytes});
  }
  const NftFamily& v4 = nft_family(IpFamily::kV4);
  add({.name = kHostsSet, .key_type = v4.set_type, .key_bytes = v4.address_bytes});
}

// --- Elements
// -------------------------------------------------------------------------------------

struct Element {
  std::string key;
  std::string data;   // of a map
  std::string chain;  // of a verdict map: go there
};

std::string u64_bytes(std::uint64_t value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}
std::string port_bytes(std::uint16_t port) {
  const std::uint16_t network = htons(port);
  std::string out(4, '\0');
  std::memcpy(out.data(), &network, sizeof(network));
  return out;
}
std::string backend_bytes(const SocketAddress& backend) {
  return std::string(nft_bytes(backend.ip)) + port_bytes(backend.port);
}

Element element_of(const model::NftChange::Place& place) {
  return {u64_bytes(place.pool) +
              std::string(reinterpret_cast<const char*>(&place.at), sizeof(place.at)),
          backend_bytes(place.backend),
          {}};
}
Element element_of(const model::NftChange::Member& member) {
  return {u64_bytes(member.service) + backend_bytes(member.backend), {}, {}};
}
Element element_of(const model::NftChange::Frontend& frontend) {
  std::string key(nft_bytes(frontend.key.ip));
  key += static_cast<char>(frontend.key.proto);
  key.append(3, '\0');
  key += port_bytes(frontend.key.port);
  return {std::move(key),
          {},
          fmt::format("{}{}", frontend.target.gated ? kRangesChainPrefix : kServiceChainPrefix,
                      frontend.target.chain)};
}
Element element_of(const IpAddress& ip) { return {std::string(nft_bytes(ip)), {}, {}}; }

IpFamily family_of(const model::NftChange::Member& member) { return member.backend.ip.family(); }
IpFamily family_of(const model::NftChange::Frontend& frontend) { return frontend.key.ip.family(); }
IpFamily family_of(const IpAddress& ip) { return ip.family(); }

void change_elements(NftBatch& batch, std::uint16_t type, const std::string& name,
                     std::span<const Element> elements) {
  while (!elements.empty()) {
    const SetPtr set = make_set(name);
    const std::size_t count = std::min(elements.size(), kElementsPerMessage);
    for (const Element& element : elements.first(count)) {
      nftnl_set_elem* item = nftnl_set_elem_alloc();  // the set's from the end of this round on
      SHOAL_ASSERT(item != nullptr);
      nftnl_set_elem_set(item, NFTNL_SET_ELEM_KEY, element.key.data(),
                         static_cast<std::uint32_t>(element.key.size()));
      if (type == NFT_MSG_NEWSETELEM && !element.data.empty())
        nftnl_set_elem_set(item, NFTNL_SET_ELEM_DATA, element.data.data(),
                           static_cast<std::uint32_t>(element.data.size()));
      if (type == NFT_MSG_NEWSETELEM && !element.chain.empty()) {
        nftnl_set_elem_set_u32(item, NFTNL_SET_ELEM_VERDICT, static_cast<std::uint32_t>(NFT_GOTO));
        nftnl_set_elem_set_str(item, NFTNL_SET_ELEM_CHAIN, element.chain.c_str());
      }
      nftnl_set_elem_add(set.get(), item);
    }
    batch.add(
        type, type == NFT_MSG_NEWSETELEM ? NLM_F_CREATE : 0,
        fmt::format("{} elements of set {}", type == NFT_MSG_NEWSETELEM ? "add" : "delete", name),
        [&](nlmsghdr* message) { nftnl_set_elems_nlmsg_build_payload(message, set.get()); });
    elements = elements.subspan(count);
  }
}

template <class T>
void change_elements(NftBatch& batch, std::uint16_t type, const std::vector<T>& items,
                     const char* NftServiceSets::* set) {
  for (const IpFamily family : {IpFamily::kV4, IpFamily::kV6}) {
    std::vector<Element> elements;
    for (const T& item : items)
      if (family_of(item) == family)
        elements.push_back(element_of(item));
    change_elements(batch, type, service_sets(family).*set, elements);
  }
}

void change_all(NftBatch& batch, std::uint16_t type, const model::NftChange& change) {
  const auto pick = [type](const auto& elements) -> const auto& {
    return type == NFT_MSG_NEWSETELEM ? elements.add : elements.remove;
  };
  std::map<std::string, std::vector<Element>> places;  // by map
  for (const model::NftChange::Place& place : pick(change.places))
    places[places_map(place.family, place.pool)].push_back(element_of(place));
  for (const auto& [map, elements] : places)
    change_elements(batch, type, map, elements);
  change_elements(batch, type, pick(change.members), &NftServiceSets::members);
  change_elements(batch, type, pick(change.inside), &NftServiceSets::inside);
  change_elements(batch, type, pick(change.outside), &NftServiceSets::outside);
  change_elements(batch, type, pick(change.vips), &NftServiceSets::vips);
  change_elements(batch, type, pick(change.pods), &NftServiceSets::pods);
  std::vector<Element> selves4, selves6, hosts;
  for (const IpAddress& ip : pick(change.pods)) {
    const std::string bytes(nft_bytes(ip));
    (ip.is_v4() ? selves4 : selves6).push_back({bytes + bytes, {}, {}});
  }
  change_elements(batch, type, kServiceSets4.selves, selves4);
  change_elements(batch, type, kServiceSets6.selves, selves6);
  for (const IpAddress& ip : pick(change.hosts))
    hosts.push_back(element_of(ip));
  change_elements(batch, type, kHostsSet, hosts);
}

// --- Chains
// ---------------------------------------------------------------------------------------

void change_chain(NftBatch& batch, std::uint16_t type, const std::string& name) {
  const ChainPtr chain(nftnl_chain_alloc());
  SHOAL_ASSERT(chain != nullptr);
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_TABLE, std::string(kNftServiceTable).c_str());
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_NAME, name.c_str());
  nftnl_chain_set_u32(chain.get(), NFTNL_CHAIN_FAMILY, NFPROTO_INET);
  batch.add(type, type == NFT_MSG_NEWCHAIN ? NLM_F_CREATE : 0,
            fmt::format("{} chain {}", type == NFT_MSG_NEWCHAIN ? "create" : "delete", name),
            [&](nlmsghdr* message) { nftnl_chain_nlmsg_build_payload(message, chain.get()); });
}

void delete_rules(NftBatch& batch, const std::string& chain) {
  std::unique_ptr<nftnl_rule, NftFreer<nftnl_rule_free>> all(nftnl_rule_alloc());
  SHOAL_ASSERT(all != nullptr);
  nftnl_rule_set_str(all.get(), NFTNL_RULE_TABLE, std::string(kNftServiceTable).c_str());
  nftnl_rule_set_str(all.get(), NFTNL_RULE_CHAIN, chain.c_str());
  nftnl_rule_set_u32(all.get(), NFTNL_RULE_FAMILY, NFPROTO_INET);
  batch.add(NFT_MSG_DELRULE, 0, fmt::format("empty chain {}", chain),
            [&](nlmsghdr* message) { nftnl_rule_nlmsg_build_payload(message, all.get()); });
}

void add_rules(NftBatch& batch, std::vector<NftRule> rules, std::uint64_t digest,
               const std::string& chain) {
  for (std::size_t at = 0; at < rules.size(); at++)
    rules[at]
        .comment(rule_comment(digest, at + 1, rules.size()))
        .add_to(batch, fmt::format("add rule {} of chain {}", at + 1, chain));
}

void add_base_chain(NftBatch& batch, const NftBaseChain& base) {
  const ChainPtr chain(nftnl_chain_alloc());
  SHOAL_ASSERT(chain != nullptr);
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_TABLE, std::string(kNftServiceTable).c_str());
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_NAME, base.name.c_str());
  nftnl_chain_set_u32(chain.get(), NFTNL_CHAIN_FAMILY, NFPROTO_INET);
  if (base.type != nullptr) {
    nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_TYPE, base.type);
    nftnl_chain_set_u32(chain.get(), NFTNL_CHAIN_HOOKNUM, base.hook);
    nftnl_chain_set_s32(chain.get(), NFTNL_CHAIN_PRIO, base.priority);
    nftnl_chain_set_u32(chain.get(), NFTNL_CHAIN_POLICY, NF_ACCEPT);
  }
  batch.add(NFT_MSG_NEWCHAIN, NLM_F_CREATE, fmt::format("create chain {}", base.name),
            [&](nlmsghdr* message) { nftnl_chain_nlmsg_build_payload(message, chain.get()); });
}

void rebuild(NftBatch& batch, const model::NftSetup& setup, std::uint32_t clients) {
  // Deleting needs a table that exists; creating one that exists does nothing.
  for (const std::uint16_t type : {NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE, NFT_MSG_NEWTABLE})
    change_table(batch, type, kNftServiceTable, NFPROTO_INET);
  add_sets(batch, clients);
  for (NftBaseChain& base : service_base_chains(setup)) {
    add_base_chain(batch, base);
    add_rules(batch, std::move(base.rules), setup.digest(), base.name);
  }
}

std::string service_chain(const std::string& name) {
  return fmt::format("{}{}", kServiceChainPrefix, name);
}
std::string ranges_chain(const std::string& name) {
  return fmt::format("{}{}", kRangesChainPrefix, name);
}

// Those that are there lose what they held. Creating one that exists does nothing.
void open_chains(NftBatch& batch, const model::NftChange::Chain& chain) {
  std::vector<std::string> names = {service_chain(chain.service.chain)};
  if (chain.service.gated || chain.exists)
    names.push_back(ranges_chain(chain.service.chain));
  for (const std::string& name : names) {
    change_chain(batch, NFT_MSG_NEWCHAIN, name);
    if (chain.exists)
      delete_rules(batch, name);
  }
}

void fill_chains(NftBatch& batch, const model::NftService& service) {
  const std::uint64_t digest = service.digest();
  add_rules(batch, service_rules(service), digest, service_chain(service.chain));
  if (service.gated)
    add_rules(batch, ranges_rules(service), digest, ranges_chain(service.chain));
}

}  // namespace

Result<> KernelNftServiceTable::commit(const model::NftChange& change) {
  NftBatch batch;
  if (change.rebuild)
    rebuild(batch, *change.rebuild, clients_);
  for (const auto& chain : change.set_chains)
    open_chains(batch, chain);
  for (const auto& chain : change.set_chains)
    fill_chains(batch, chain.service);
  change_all(batch, NFT_MSG_DELSETELEM, change);
  change_all(batch, NFT_MSG_NEWSETELEM, change);
  // Nothing leads to these any more.
  for (const auto& chain : change.set_chains)
    if (chain.exists && !chain.service.gated)
      change_chain(batch, NFT_MSG_DELCHAIN, ranges_chain(chain.service.chain));
  for (const std::string& name : change.delete_chains) {
    change_chain(batch, NFT_MSG_NEWCHAIN, ranges_chain(name));
    change_chain(batch, NFT_MSG_DELCHAIN, ranges_chain(name));
    change_chain(batch, NFT_MSG_DELCHAIN, service_chain(name));
  }
  return socket_.commit(std::move(batch));
}

Result<bool> KernelNftServiceTable::accept_overlay(std::string_view device, const MacAddress& mac) {
  const std::string mark = fmt::format("shoal {} {}", device, mac.to_string());
  std::vector<std::string> held;
  SHOAL_TRY(each_rule(
      NFPROTO_NETDEV, kNftOverlayTable, [&] { held.clear(); },
      [&](const std::string&, const std::string& comment, nftnl_rule*) {
        held.push_back(comment);
      }));
  if (held == std::vector{mark})
    return false;
  NftBatch batch;
  for (const std::uint16_t type : {NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE, NFT_MSG_NEWTABLE})
    change_table(batch, type, kNftOverlayTable, NFPROTO_NETDEV);
  const std::string table(kNftOverlayTable);
  const std::string name = "ingress";
  const ChainPtr chain(nftnl_chain_alloc());
  SHOAL_ASSERT(chain != nullptr);
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_TABLE, table.c_str());
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_NAME, name.c_str());
  nftnl_chain_set_u32(chain.get(), NFTNL_CHAIN_FAMILY, NFPROTO_NETDEV);
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_TYPE, "filter");
  nftnl_chain_set_u32(chain.get(), NFTNL_CHAIN_HOOKNUM, NF_NETDEV_INGRESS);
  nftnl_chain_set_s32(chain.get(), NFTNL_CHAIN_PRIO, 0);
  nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_DEV, std::string(device).c_str());
  nftnl_chain_set_u32(chain.get(), NFTNL_CHAIN_POLICY, NF_ACCEPT);
  batch.add(
      NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL,
      fmt::format("create the ingress chain of {}", device),
      [&](nlmsghdr* message) { nftnl_chain_nlmsg_build_payload(message, chain.get()); },
      NFPROTO_NETDEV);
  constexpr std::uint32_t kToHost = 0;  // PACKET_HOST of linux/if_packet.h
  NftRule rule(table, name, NFPROTO_NETDEV);
  rule.link(0, static_cast<std::uint32_t>(mac.bytes().size()), 0)
      .compare(NFT_CMP_EQ, 0,
               {reinterpret_cast<const char*>(mac.bytes().data()), mac.bytes().size()})
      .immediate_u32(0, kToHost)
      .set_meta(NFT_META_PKTTYPE, 0)
      .comment(mark);
  rule.add_to(batch, fmt::format("add the rule for frames to {}", mac.to_string()));
  SHOAL_TRY(socket_.commit(std::move(batch)));
  return true;
}

Result<> KernelNftServiceTable::remove() {
  NftBatch batch;
  for (const std::uint16_t type : {NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE}) {
    change_table(batch, type, kNftServiceTable, NFPROTO_INET);
    change_table(batch, type, kNftOverlayTable, NFPROTO_NETDEV);
  }
  return socket_.commit(std::move(batch));
}

Result<std::unique_ptr<NftServiceTable>> open_nft_service_table(std::uint32_t clients,
                                                                int netns_fd) {
  NftSocket socket = SHOAL_TRY(NftSocket::open(netns_fd));
  return std::make_unique<KernelNftServiceTable>(std::move(socket), clients);
}

}  // namespace shoal::kernel
