// SPDX-License-Identifier: Apache-2.0
// KernelNftServiceTable: the real NftServiceTable. Private to nft/.
#pragma once

#include "netplane/kernel/nft/nft_batch.h"
#include "netplane/kernel/nft/nft_rule.h"
#include "netplane/kernel/nft/nft_service_table.h"

#include <functional>
#include <libnftnl/set.h>
#include <optional>
#include <utility>
#include <vector>

namespace shoal::kernel {

inline constexpr std::string_view kServiceChainPrefix = "svc/";
inline constexpr std::string_view kRangesChainPrefix = "ranges/";

// The sets of one family.
struct NftServiceSets {
  const char *inside, *outside, *clients, *members, *vips, *pods, *selves;
};
inline constexpr NftServiceSets kServiceSets4{"inside4", "outside4", "clients4", "members4",
                                              "vips4",   "pods4",    "selves4"};
inline constexpr NftServiceSets kServiceSets6{"inside6", "outside6", "clients6", "members6",
                                              "vips6",   "pods6",    "selves6"};
inline constexpr const char* kHostsSet = "hosts";
// Places lie in several maps, by their pool: the kernel looks at every rule that uses a map when an
// element is added, and at every element when a rule is.
inline constexpr std::uint32_t kPlaceMaps = 128;
std::string places_map(IpFamily family, std::uint64_t pool);  // "places4/7f"
inline const NftServiceSets& service_sets(IpFamily family) {
  return family == IpFamily::kV4 ? kServiceSets4 : kServiceSets6;
}

// Chains that are no service's, with the rules that a setup gives them.
struct NftBaseChain {
  std::string name;
  const char* type = nullptr;  // nullptr: no hook, others lead to it
  std::uint32_t hook = 0;
  std::int32_t priority = 0;
  std::vector<NftRule> rules;
};
std::vector<NftBaseChain> service_base_chains(const model::NftSetup& setup);
std::vector<NftRule> service_rules(const model::NftService& service);
std::vector<NftRule> ranges_rules(const model::NftService& service);

// What a rule says of itself: the digest of what its chain was made from, its place, their number.
std::string rule_comment(std::uint64_t digest, std::size_t at, std::size_t of);
// The digest, when these are all of a chain's rules in their order; 0 otherwise.
std::uint64_t digest_of(const std::vector<std::string>& comments);

class KernelNftServiceTable final : public NftServiceTable {
public:
  KernelNftServiceTable(NftSocket socket, std::uint32_t clients)
      : socket_(std::move(socket)), clients_(clients) {}

  Result<> commit(const model::NftChange& change) override;
  Result<model::NftHeld> read() override;
  Result<NftCounts> counts() override;
  Result<bool> accept_overlay(std::string_view device, const MacAddress& mac) override;
  Result<bool> present() override;
  Result<> remove() override;

private:
  using EachRule =
      std::function<void(const std::string& chain, const std::string& comment, nftnl_rule* rule)>;
  Result<> each_rule(std::uint32_t family, std::string_view table,
                     const std::function<void()>& restart, const EachRule& each);
  Result<> each_element(const char* set, const std::function<void()>& restart,
                        const std::function<void(nftnl_set_elem*)>& each);
  Result<std::vector<std::string>> tables();

  NftSocket socket_;
  std::uint32_t clients_;
};

}  // namespace shoal::kernel
