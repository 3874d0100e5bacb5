// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/fake_nft.h"
#include "tests/unit/netplane/kernel/nft/nft_scenarios.h"

namespace shoal::kernel {
namespace {

struct FakeWorld {
  Nft& nft() { return fake; }
  FakeNft fake;
};
INSTANTIATE_TYPED_TEST_SUITE_P(Fake, NftSuite, FakeWorld);

TEST(FakeNft, AnInjectedFaultLeavesTheTableAsItWas) {
  FakeNft nft;
  ASSERT_TRUE(nft.apply(kUsual));
  nft.fail_at(1);
  EXPECT_FALSE(nft.apply(rules({}, {}, {})));
  EXPECT_EQ(*nft.dump(), kUsualText);
  EXPECT_TRUE(nft.apply(rules({}, {}, {})));
}

}  // namespace
}  // namespace shoal::kernel
