// SPDX-License-Identifier: Apache-2.0
// The nftables objects of Shoal's table, built with libnftnl, and their description as text. Inside
// of netplane/kernel/nft only.
#pragma once

#include "netplane/kernel/nft/nft.h"

#include <libnftnl/chain.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace shoal::kernel::nft {

template <auto Free>
struct Deleter {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};
using TablePtr = std::unique_ptr<nftnl_table, Deleter<nftnl_table_free>>;
using ChainPtr = std::unique_ptr<nftnl_chain, Deleter<nftnl_chain_free>>;
using SetPtr = std::unique_ptr<nftnl_set, Deleter<nftnl_set_free>>;
using RulePtr = std::unique_ptr<nftnl_rule, Deleter<nftnl_rule_free>>;

inline constexpr const char* kChain = "postrouting";
inline constexpr const char* kPodsSet = "pods";
inline constexpr const char* kClusterSet = "cluster";
inline constexpr const char* kNodesSet = "nodes";

// [first, last], host byte order; sorted, merged.
using Range = std::pair<std::uint32_t, std::uint32_t>;
Result<std::vector<Range>> ranges_of(const std::vector<IpPrefix>& prefixes);
Result<std::vector<Range>> ranges_of(const std::vector<IpAddress>& addresses);

TablePtr make_table();
ChainPtr make_chain();
// interval: holds ranges; otherwise single addresses.
SetPtr make_set(const char* name, std::uint32_t id, bool interval,
                const std::vector<Range>& ranges);
RulePtr make_rule(const std::vector<std::string>& internal_links);

std::string describe(const nftnl_chain* chain);
// "set pods 10.244.1.0-10.244.1.255": one line a range.
std::vector<std::string> describe(const std::string& set, const std::vector<Range>& ranges);
std::vector<Range> elements_of(nftnl_set* set, bool interval);
std::string describe(nftnl_rule* rule);

}  // namespace shoal::kernel::nft
