// SPDX-License-Identifier: Apache-2.0
// On the real kernel, in network namespaces of its own.
#include "netplane/kernel/nft/nft.h"

#include "netplane/kernel/rtnl/netns.h"

namespace shoal::kernel {
namespace {

NftRules rules(std::vector<const char*> pods, std::vector<const char*> cluster,
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

class NftTest : public testing::Test {
protected:
  void SetUp() override {
    auto netns = create_netns();
    ASSERT_TRUE(netns) << netns.error().message();
    netns_ = std::move(*netns);
    auto nft = open_nft(netns_.get());
    ASSERT_TRUE(nft) << nft.error().message();
    nft_ = std::move(*nft);
  }
  UniqueFd netns_;
  std::unique_ptr<Nft> nft_;
};

TEST_F(NftTest, TheKernelHoldsWhatWasApplied) {
  EXPECT_EQ(*nft_->dump(), "");
  for (const NftRules& wanted :
       {rules({"10.244.1.0/24"}, {"10.244.0.0/16", "10.96.0.0/16"}, {"198.18.0.11", "198.18.0.12"}),
        rules({"10.244.1.0/24", "10.244.2.0/24"}, {"10.0.0.0/8", "10.96.0.0/16"}, {}),
        rules({"10.244.7.0/24"}, {"0.0.0.0/0"}, {"198.18.0.13", "198.18.0.13"})}) {
    const auto applied = nft_->apply(wanted);
    ASSERT_TRUE(applied) << applied.error().message();
    EXPECT_EQ(*nft_->dump(), render(wanted));
  }
  ASSERT_TRUE(nft_->remove());
  EXPECT_EQ(*nft_->dump(), "");
  EXPECT_TRUE(nft_->remove());
}

TEST_F(NftTest, ManyHostsFit) {
  NftRules wanted = rules({"10.244.1.0/24"}, {"10.244.0.0/16"}, {});
  for (std::uint32_t i = 0; i < kNftSetElementsMax; i++)
    wanted.nodes.push_back(IpAddress::v4(0xc6120000U + i));
  const auto applied = nft_->apply(wanted);
  ASSERT_TRUE(applied) << applied.error().message();
  EXPECT_EQ(*nft_->dump(), render(wanted));
  wanted.nodes.push_back(IpAddress::v4(0xc6130000U));
  EXPECT_EQ(nft_->apply(wanted).error().code(), Errc::kExhausted);
}

TEST_F(NftTest, RefusesIpv6AndKeepsTheTable) {
  const NftRules good = rules({"10.244.1.0/24"}, {"10.244.0.0/16"}, {});
  ASSERT_TRUE(nft_->apply(good));
  EXPECT_EQ(nft_->apply(rules({"2001:db8::/64"}, {}, {})).error().code(), Errc::kUnsupported);
  EXPECT_EQ(*nft_->dump(), render(good));
}

TEST_F(NftTest, NoForeignChainDropsInAFreshNamespace) {
  EXPECT_TRUE(nft_->foreign_drops()->empty());
}

}  // namespace
}  // namespace shoal::kernel
