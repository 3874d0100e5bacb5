// SPDX-License-Identifier: Apache-2.0
// What holds of every Nft, as a typed suite: nft_test.cpp runs it on the kernel, nft_fake_test.cpp
// on the fake.
#pragma once

#include "netplane/kernel/nft/nft.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace shoal::kernel {

inline NftRules rules(std::vector<const char*> pods, std::vector<const char*> cluster,
                      std::vector<const char*> nodes) {
  NftRules out;
  for (const char* text : pods)
    out.pods.push_back(*IpPrefix::parse(text));
  for (const char* text : cluster)
    out.cluster.push_back(*IpPrefix::parse(text));
  for (const char* text : nodes)
    out.nodes.push_back(*IpAddress::parse(text));
  return out;
}

inline NftRules with_tunnel(NftRules rules, std::uint16_t port) {
  rules.tunnel_port = port;
  return rules;
}

inline const NftRules kUsual = with_tunnel(
    rules({"10.244.1.0/24"}, {"10.244.0.0/16", "10.96.0.0/16"}, {"198.18.0.12", "198.18.0.11"}),
    4789);

inline constexpr const char* kUsualText =
    "chain output type filter hook output priority -300 policy accept\n"
    "chain postrouting type nat hook postrouting priority 100 policy accept\n"
    "chain prerouting type filter hook prerouting priority -300 policy accept\n"
    "rule output ip daddr @nodes udp dport 4789 notrack\n"
    "rule postrouting ip saddr @pods ip daddr != @cluster ip daddr != @nodes oifname != \"shl*\" "
    "oifname != \"shoal-vxlan\" counter masquerade fully-random\n"
    "rule prerouting ip saddr @nodes udp dport 4789 notrack\n"
    "set cluster 10.244.0.0/16\n"
    "set cluster 10.96.0.0/16\n"
    "set nodes 198.18.0.11\n"
    "set nodes 198.18.0.12\n"
    "set pods 10.244.1.0/24\n";

// World has an `nft()`.
template <class World>
class NftSuite : public testing::Test {
protected:
  Nft& nft() { return world_.nft(); }
  std::string dump() { return nft().dump().value_or("no dump"); }
  World world_;
};
TYPED_TEST_SUITE_P(NftSuite);

TYPED_TEST_P(NftSuite, ReadsBackWhatItWrote) {
  EXPECT_EQ(this->dump(), "");
  ASSERT_TRUE(this->nft().apply(kUsual));
  EXPECT_EQ(this->dump(), kUsualText);
  EXPECT_EQ(render(kUsual), kUsualText);
}

TYPED_TEST_P(NftSuite, MarkedPacketsLeaveWithAnAddressOfThisHost) {
  NftRules marked = kUsual;
  marked.mark = 0x00800000;
  marked.self_v4 = *IpAddress::parse("198.18.0.11");
  marked.self_v6 = *IpAddress::parse("2001:db8::11");
  ASSERT_TRUE(this->nft().apply(marked));
  EXPECT_EQ(this->dump(), render(marked));
  for (const char* line :
       {"rule postrouting mark & 0x00800000 oifname \"shoal-vxlan\" counter snat ip 198.18.0.11 "
        "fully-random\n",
        "rule postrouting mark & 0x00800000 oifname \"shoal-vxlan\" counter snat ip6 2001:db8::11 "
        "fully-random\n",
        "rule postrouting mark & 0x00800000 counter masquerade fully-random\n"})
    EXPECT_THAT(this->dump(), testing::HasSubstr(line));
}

TYPED_TEST_P(NftSuite, ReplacesTheWholeTable) {
  ASSERT_TRUE(this->nft().apply(kUsual));
  for (const NftRules& wanted :
       {rules({"10.244.1.0/24", "10.244.2.0/24"}, {"10.0.0.0/8", "10.96.0.0/16"}, {}),
        with_tunnel(rules({"10.244.7.0/24"}, {"0.0.0.0/0"}, {"198.18.0.13", "198.18.0.13"}), 65535),
        rules({}, {"255.255.255.0/24", "0.0.0.0/24"}, {}),
        rules({"10.244.0.0/24"}, {"10.0.1.0/24", "10.0.2.0/24"}, {})}) {
    const auto applied = this->nft().apply(wanted);
    ASSERT_TRUE(applied) << applied.error().message();
    EXPECT_EQ(this->dump(), render(wanted));
  }
  EXPECT_THAT(this->dump(), testing::HasSubstr("set cluster 10.0.1.0-10.0.2.255\n"));
}

TYPED_TEST_P(NftSuite, TwoFamiliesHaveSetsAndARuleEach) {
  const NftRules both = rules({"10.244.1.0/24", "fd10:244:0:1::/64"},
                              {"10.244.0.0/16", "fd10:244::/48", "fd10:96::/112"},
                              {"198.18.0.11", "2001:db8:1::11", "2001:db8:1::12"});
  ASSERT_TRUE(this->nft().apply(both));
  EXPECT_EQ(this->dump(), render(both));
  EXPECT_EQ(
      this->dump(),
      "chain postrouting type nat hook postrouting priority 100 policy accept\n"
      "rule postrouting ip saddr @pods ip daddr != @cluster ip daddr != @nodes oifname != "
      "\"shl*\" oifname != \"shoal-vxlan\" counter masquerade fully-random\n"
      "rule postrouting ip6 saddr @pods6 ip6 daddr != @cluster6 ip6 daddr != @nodes6 oifname != "
      "\"shl*\" oifname != \"shoal-vxlan\" counter masquerade fully-random\n"
      "set cluster 10.244.0.0/16\n"
      "set cluster6 fd10:244::/48\n"
      "set cluster6 fd10:96::/112\n"
      "set nodes 198.18.0.11\n"
      "set nodes6 2001:db8:1::11\n"
      "set nodes6 2001:db8:1::12\n"
      "set pods 10.244.1.0/24\n"
      "set pods6 fd10:244:0:1::/64\n");
  for (const NftRules& odd :
       {rules({"fd00::/64"}, {"::/0"}, {}), rules({"fd00::/64"}, {"ffff::/16", "::/32"}, {}),
        rules({"fd00::/64"}, {"fd01::/64", "fd01:0:0:1::/64", "fd01:0:0:2::/64"}, {})}) {
    ASSERT_TRUE(this->nft().apply(odd));
    EXPECT_EQ(this->dump(), render(odd));
  }
  EXPECT_THAT(this->dump(),
              testing::HasSubstr("set cluster6 fd01::-fd01::2:ffff:ffff:ffff:ffff\n"));
  ASSERT_TRUE(this->nft().apply(kUsual));
  EXPECT_EQ(this->dump(), kUsualText);
}

TYPED_TEST_P(NftSuite, RemovingMayBeRepeated) {
  ASSERT_TRUE(this->nft().apply(kUsual));
  EXPECT_TRUE(this->nft().remove());
  EXPECT_EQ(this->dump(), "");
  EXPECT_TRUE(this->nft().remove());
}

TYPED_TEST_P(NftSuite, ManyHostsFitAndTooManyAreRefused) {
  NftRules many = kUsual;
  for (std::uint32_t i = 0; i < kNftSetElementsMax - 2; i++)
    many.nodes.push_back(IpAddress::v4(0xc6130000U + i));
  const auto applied = this->nft().apply(many);
  ASSERT_TRUE(applied) << applied.error().message();
  EXPECT_EQ(this->dump(), render(many));
  NftRules too_many = many;
  too_many.nodes.push_back(IpAddress::v4(0xc6140000U));
  EXPECT_EQ(this->nft().apply(too_many).error().code(), Errc::kExhausted);
  EXPECT_EQ(this->dump(), render(many));
}

TYPED_TEST_P(NftSuite, WhatIsWrongIsRefusedAndTheTableStays) {
  ASSERT_TRUE(this->nft().apply(kUsual));
  for (const char* link : {"", "*", "a-name-that-is-too-long"}) {
    NftRules odd = kUsual;
    odd.internal_links = {link};
    EXPECT_EQ(this->nft().apply(odd).error().code(), Errc::kInvalid) << link;
  }
  // Without IPv6 pods there is nothing to say about IPv6.
  const NftRules v4 = rules({"10.244.1.0/24"}, {"fd00::/8"}, {"2001:db8::1"});
  EXPECT_TRUE(this->nft().apply(v4));
  EXPECT_EQ(this->dump(), render(v4));
  EXPECT_THAT(this->dump(), testing::Not(testing::HasSubstr("::")));
}

REGISTER_TYPED_TEST_SUITE_P(NftSuite, ReadsBackWhatItWrote,
                            MarkedPacketsLeaveWithAnAddressOfThisHost, ReplacesTheWholeTable,
                            TwoFamiliesHaveSetsAndARuleEach, RemovingMayBeRepeated,
                            ManyHostsFitAndTooManyAreRefused, WhatIsWrongIsRefusedAndTheTableStays);

}  // namespace shoal::kernel
