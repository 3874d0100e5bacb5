// SPDX-License-Identifier: Apache-2.0
// What the kernel holds of the service table, read back.
#include "netplane/base/strings.h"
#include "netplane/kernel/nft/kernel_nft_service_table.h"

#include <arpa/inet.h>
#include <charconv>
#include <cstring>
#include <fmt/format.h>
#include <libnftnl/chain.h>
#include <libnftnl/table.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

namespace shoal::kernel {
namespace {

using TablePtr = std::unique_ptr<nftnl_table, NftFreer<nftnl_table_free>>;
using RulePtr = std::unique_ptr<nftnl_rule, NftFreer<nftnl_rule_free>>;
using SetPtr = std::unique_ptr<nftnl_set, NftFreer<nftnl_set_free>>;

std::string text_or_empty(const char* text) { return text == nullptr ? "" : text; }

int read_comment(const nftnl_udata* item, void* to) {
  if (nftnl_udata_type(item) == NFTNL_UDATA_RULE_COMMENT)
    *static_cast<std::string*>(to) = std::string(
        static_cast<const char*>(nftnl_udata_get(item)),
        strnlen(static_cast<const char*>(nftnl_udata_get(item)), nftnl_udata_len(item)));
  return 0;
}

std::string comment_of(const nftnl_rule* rule) {
  std::string comment;
  if (!nftnl_rule_is_set(rule, NFTNL_RULE_USERDATA))
    return comment;
  std::uint32_t size = 0;
  const void* data = nftnl_rule_get_data(rule, NFTNL_RULE_USERDATA, &size);
  if (nftnl_udata_parse(data, size, read_comment, &comment) < 0)
    comment.clear();
  return comment;
}

std::string bytes_of(nftnl_set_elem* element, std::uint16_t attribute) {
  std::uint32_t size = 0;
  const void* data = nftnl_set_elem_get(element, attribute, &size);
  return data == nullptr ? std::string() : std::string(static_cast<const char*>(data), size);
}

IpAddress ip_of(std::string_view bytes) {
  IpAddress::Bytes raw{};
  if (bytes.size() == 4)
    raw[10] = raw[11] = 0xff;  // an IPv4 address lies mapped
  std::memcpy(raw.data() + raw.size() - bytes.size(), bytes.data(), bytes.size());
  return IpAddress::from_bytes(raw);
}

std::uint16_t port_of(std::string_view bytes) {
  std::uint16_t network = 0;
  std::memcpy(&network, bytes.data(), sizeof(network));
  return ntohs(network);
}

bool is_backend(std::string_view bytes) { return bytes.size() == 8 || bytes.size() == 20; }

SocketAddress backend_of(std::string_view bytes) {
  return {ip_of(bytes.substr(0, bytes.size() - 4)), port_of(bytes.substr(bytes.size() - 4))};
}

// More than any pool has: what is beyond was not put there by us.
constexpr std::uint32_t kPlacesMax = 1U << 20;

template <class T>
T number_of(std::string_view bytes) {
  T value = 0;
  std::memcpy(&value, bytes.data(), sizeof(value));
  return value;
}

// "svc/X" or "ranges/X"; nothing for other chains.
std::optional<model::NftTarget> target_of(std::string_view chain) {
  if (chain.starts_with(kServiceChainPrefix))
    return model::NftTarget{std::string(chain.substr(kServiceChainPrefix.size())), false};
  if (chain.starts_with(kRangesChainPrefix))
    return model::NftTarget{std::string(chain.substr(kRangesChainPrefix.size())), true};
  return std::nullopt;
}

std::optional<model::NftChange::Frontend> frontend_of(nftnl_set_elem* element) {
  const std::string key = bytes_of(element, NFTNL_SET_ELEM_KEY);
  const auto target =
      target_of(text_or_empty(nftnl_set_elem_get_str(element, NFTNL_SET_ELEM_CHAIN)));
  if (!target || (key.size() != 12 && key.size() != 24))
    return std::nullopt;
  const std::string_view view(key);
  const std::size_t address = key.size() - 8;
  return model::NftChange::Frontend{{ip_of(view.substr(0, address)),
                                     port_of(view.substr(address + 4)),
                                     static_cast<L4Proto>(view[address])},
                                    *target};
}

struct Counter {
  std::uint64_t packets = 0;
  bool rejects = false;
  bool drops = false;
};

int read_counter(nftnl_expr* expr, void* to) {
  auto& counter = *static_cast<Counter*>(to);
  const std::string_view name = nftnl_expr_get_str(expr, NFTNL_EXPR_NAME);
  if (name == "counter")
    counter.packets += nftnl_expr_get_u64(expr, NFTNL_EXPR_CTR_PACKETS);
  else if (name == "reject")
    counter.rejects = true;
  return 0;
}

}  // namespace

std::string rule_comment(std::uint64_t digest, std::size_t at, std::size_t of) {
  return fmt::format("shoal {:016x} {}/{}", digest, at, of);
}

std::uint64_t digest_of(const std::vector<std::string>& comments) {
  constexpr std::string_view kPrefix = "shoal ";
  constexpr std::size_t kDigits = 16;
  if (comments.empty() || !comments[0].starts_with(kPrefix) ||
      comments[0].size() < kPrefix.size() + kDigits)
    return 0;
  std::uint64_t digest = 0;
  const char* digits = comments[0].data() + kPrefix.size();
  const auto [end, error] = std::from_chars(digits, digits + kDigits, digest, 16);
  if (error != std::errc() || end != digits + kDigits)
    return 0;
  for (std::size_t at = 0; at < comments.size(); at++)
    if (comments[at] != rule_comment(digest, at + 1, comments.size()))
      return 0;
  return digest;
}

Result<std::vector<std::string>> KernelNftServiceTable::tables() {
  std::vector<std::string> names;
  SHOAL_TRY(socket_.dump(
      NFT_MSG_GETTABLE, NFPROTO_UNSPEC, "list tables", {}, [&] { names.clear(); },
      [&](const nlmsghdr* message) {
        const TablePtr table(nftnl_table_alloc());
        if (nftnl_table_nlmsg_parse(message, table.get()) < 0)
          return;
        const std::string name = text_or_empty(nftnl_table_get_str(table.get(), NFTNL_TABLE_NAME));
        const std::uint32_t family = nftnl_table_get_u32(table.get(), NFTNL_TABLE_FAMILY);
        if ((name == kNftServiceTable && family == NFPROTO_INET) ||
            (name == kNftOverlayTable && family == NFPROTO_NETDEV))
          names.push_back(name);
      }));
  return names;
}

Result<bool> KernelNftServiceTable::present() { return !SHOAL_TRY(tables()).empty(); }

// No table is no rule.
Result<> KernelNftServiceTable::each_rule(std::uint32_t family, std::string_view table,
                                          const std::function<void()>& restart,
                                          const EachRule& each) {
  const std::string name(table);
  const RulePtr filter(nftnl_rule_alloc());
  SHOAL_ASSERT(filter != nullptr);
  nftnl_rule_set_str(filter.get(), NFTNL_RULE_TABLE, name.c_str());
  nftnl_rule_set_u32(filter.get(), NFTNL_RULE_FAMILY, family);
  return socket_.dump(
      NFT_MSG_GETRULE, static_cast<std::uint16_t>(family), fmt::format("list rules of {}", table),
      [&](nlmsghdr* message) { nftnl_rule_nlmsg_build_payload(message, filter.get()); }, restart,
      [&](const nlmsghdr* message) {
        const RulePtr rule(nftnl_rule_alloc());
        if (nftnl_rule_nlmsg_parse(message, rule.get()) < 0 ||
            text_or_empty(nftnl_rule_get_str(rule.get(), NFTNL_RULE_TABLE)) != name)
          return;
        each(text_or_empty(nftnl_rule_get_str(rule.get(), NFTNL_RULE_CHAIN)),
             comment_of(rule.get()), rule.get());
      });
}

Result<> KernelNftServiceTable::each_element(const char* name, const std::function<void()>& restart,
                                             const std::function<void(nftnl_set_elem*)>& each) {
  const SetPtr set(nftnl_set_alloc());
  SHOAL_ASSERT(set != nullptr);
  nftnl_set_set_str(set.get(), NFTNL_SET_TABLE, std::string(kNftServiceTable).c_str());
  nftnl_set_set_str(set.get(), NFTNL_SET_NAME, name);
  return socket_.dump(
      NFT_MSG_GETSETELEM, NFPROTO_INET, fmt::format("list set {}", name),
      [&](nlmsghdr* message) { nftnl_set_elems_nlmsg_build_payload(message, set.get()); }, restart,
      [&](const nlmsghdr* message) {
        const SetPtr part(nftnl_set_alloc());
        if (nftnl_set_elems_nlmsg_parse(message, part.get()) < 0)
          return;
        nftnl_set_elem_foreach(
            part.get(),
            [](nftnl_set_elem* element, void* to) {
              (*static_cast<const std::function<void(nftnl_set_elem*)>*>(to))(element);
              return 0;
            },
            const_cast<std::function<void(nftnl_set_elem*)>*>(&each));
      });
}

Result<model::NftHeld> KernelNftServiceTable::read() {
  model::NftHeld held;
  const std::vector<std::string> there = SHOAL_TRY(tables());
  if (std::find(there.begin(), there.end(), kNftServiceTable) == there.end())
    return held;
  std::map<std::string, std::vector<std::string>> comments;  // by chain
  SHOAL_TRY(socket_.dump(
      NFT_MSG_GETCHAIN, NFPROTO_INET, "list chains", {}, [&] { comments.clear(); },
      [&](const nlmsghdr* message) {
        const std::unique_ptr<nftnl_chain, NftFreer<nftnl_chain_free>> chain(nftnl_chain_alloc());
        if (nftnl_chain_nlmsg_parse(message, chain.get()) == 0 &&
            text_or_empty(nftnl_chain_get_str(chain.get(), NFTNL_CHAIN_TABLE)) == kNftServiceTable)
          comments[text_or_empty(nftnl_chain_get_str(chain.get(), NFTNL_CHAIN_NAME))];
      }));
  SHOAL_TRY(each_rule(
      NFPROTO_INET, kNftServiceTable,
      [&] {
        for (auto& [chain, of_chain] : comments)
          of_chain.clear();
      },
      [&](const std::string& chain, const std::string& comment, nftnl_rule*) {
        comments[chain].push_back(comment);
      }));
  bool whole = true;
  for (const NftBaseChain& base : service_base_chains({})) {
    const std::uint64_t digest = digest_of(comments[base.name]);
    held.setup = held.setup == 0 ? digest : held.setup;
    whole = whole && digest != 0 && digest == held.setup;
  }
  if (!whole)
    held.setup = 0;
  for (const auto& [name, of_chain] : comments) {
    const auto target = target_of(name);
    if (!target)
      continue;
    const std::uint64_t digest = digest_of(of_chain);
    const auto [at, added] = held.services.try_emplace(target->chain, digest);
    if (!added && at->second != digest)
      at->second = 0;
  }
  // A set that is missing, or holds what is not ours: an earlier version's table, or somebody's
  // doing.
  const auto odd = [&] { held.setup = 0; };
  const auto read_set = [&](const std::string& set,
                            const std::function<void(nftnl_set_elem*)>& each) -> Result<> {
    Result<> done = each_element(set.c_str(), [] {}, each);
    if (!done && done.error().sys_errno() == ENOENT) {
      odd();
      return {};
    }
    return done;
  };
  for (const IpFamily family : {IpFamily::kV4, IpFamily::kV6}) {
    const NftServiceSets& sets = service_sets(family);
    const auto read_frontends = [&](const char* set, model::NftFrontends& to) {
      return read_set(set, [&](nftnl_set_elem* element) {
        if (const auto frontend = frontend_of(element))
          to[frontend->key] = frontend->target;
        else
          odd();
      });
    };
    SHOAL_TRY(read_frontends(sets.inside, held.inside));
    SHOAL_TRY(read_frontends(sets.outside, held.outside));
    for (std::uint32_t map = 0; map < kPlaceMaps; map++)
      SHOAL_TRY(read_set(places_map(family, map), [&](nftnl_set_elem* element) {
        const std::string key = bytes_of(element, NFTNL_SET_ELEM_KEY);
        const std::string backend = bytes_of(element, NFTNL_SET_ELEM_DATA);
        if (key.size() != 12 || !is_backend(backend))
          return odd();
        const auto place = number_of<std::uint32_t>(std::string_view(key).substr(8));
        if (place >= kPlacesMax)
          return odd();
        held.places[{number_of<std::uint64_t>(key), place}] = backend_of(backend);
      }));
    SHOAL_TRY(read_set(sets.members, [&](nftnl_set_elem* element) {
      const std::string key = bytes_of(element, NFTNL_SET_ELEM_KEY);
      if (key.size() < 8 || !is_backend(std::string_view(key).substr(8)))
        return odd();
      held.members.insert(
          {number_of<std::uint64_t>(key), backend_of(std::string_view(key).substr(8))});
    }));
    const auto read_addresses = [&](const char* set, std::set<IpAddress>& to) {
      return read_set(set, [&](nftnl_set_elem* element) {
        const std::string ip = bytes_of(element, NFTNL_SET_ELEM_KEY);
        if (ip.size() != 4 && ip.size() != 16)
          return odd();
        to.insert(ip_of(ip));
      });
    };
    SHOAL_TRY(read_addresses(sets.vips, held.vips));
    SHOAL_TRY(read_addresses(sets.pods, held.pods));
    if (family == IpFamily::kV4)
      SHOAL_TRY(read_addresses(kHostsSet, held.hosts));
  }
  return held;
}

Result<NftCounts> KernelNftServiceTable::counts() {
  NftCounts counts;
  const std::vector<std::string> there = SHOAL_TRY(tables());
  if (std::find(there.begin(), there.end(), kNftServiceTable) == there.end())
    return counts;
  SHOAL_TRY(each_rule(
      NFPROTO_INET, kNftServiceTable, [&] { counts = {}; },
      [&](const std::string& chain, const std::string& comment, nftnl_rule* rule) {
        Counter counter;
        nftnl_expr_foreach(rule, read_counter, &counter);
        const auto target = target_of(chain);
        if (target && target->gated) {
          counts.source_range += counter.packets;
        } else if (target && counter.rejects) {
          counts.refused[target->chain] += counter.packets;
          counts.no_backend += counter.packets;
        } else if (chain == "refuse") {
          counts.no_frontend += counter.packets;
        } else if (chain == "guard") {
          const bool pods = comment.find(" 1/") != std::string::npos ||
                            comment.find(" 2/") != std::string::npos;  // one rule a family
          (pods ? counts.spoofed : counts.stranger) += counter.packets;
        }
      }));
  for (const IpFamily family : {IpFamily::kV4, IpFamily::kV6})
    for (const char* set : {service_sets(family).inside, service_sets(family).outside})
      SHOAL_TRY(each_element(
          set, [] {},
          [&](nftnl_set_elem* element) {
            const auto frontend = frontend_of(element);
            Counter counter;
            nftnl_set_elem_expr_foreach(element, read_counter, &counter);
            if (frontend)
              counts.connections[frontend->target.chain] += counter.packets;
          }));
  return counts;
}

}  // namespace shoal::kernel
