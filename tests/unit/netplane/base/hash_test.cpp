// SPDX-License-Identifier: Apache-2.0
#include "netplane/base/hash.h"

#include <algorithm>

namespace shoal {
namespace {

// Placement depends on these numbers: a change of hash is a change of the cluster's protocol.
TEST(Hash, IsPinned) {
  EXPECT_EQ(hash64(""), mix64(0xcbf29ce484222325U));
  EXPECT_EQ(hash64("shoal"), hash64("shoal", 0));
  EXPECT_NE(hash64("shoal", 1), hash64("shoal", 2));
}

TEST(Rendezvous, OrderOfCandidatesDoesNotMatter) {
  const std::vector<std::string> a = {"h1", "h2", "h3", "h4"};
  const std::vector<std::string> b = {"h4", "h2", "h1", "h3"};
  for (int i = 0; i < 100; i++) {
    const std::string key = fmt::format("key{}", i);
    EXPECT_EQ(rendezvous_rank(key, a), rendezvous_rank(key, b));
    EXPECT_EQ(rendezvous_owner(key, a), rendezvous_rank(key, b).front());
  }
  EXPECT_EQ(rendezvous_owner("k", {}), "");
}

TEST(Rendezvous, RemovingAHostMovesOnlyItsKeys) {
  const std::vector<std::string> all = {"h1", "h2", "h3", "h4", "h5"};
  const std::vector<std::string> less = {"h1", "h2", "h4", "h5"};
  int owned = 0;
  for (int i = 0; i < 1000; i++) {
    const std::string key = fmt::format("key{}", i);
    const std::string before = rendezvous_owner(key, all);
    owned += before == "h3";
    if (before != "h3") {
      EXPECT_EQ(rendezvous_owner(key, less), before);
    }
  }
  EXPECT_NEAR(owned, 200, 60);
}

}  // namespace
}  // namespace shoal
