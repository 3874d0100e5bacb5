// SPDX-License-Identifier: Apache-2.0
#include "netplane/ipam/pod_leases.h"

#include "netplane/base/fs.h"
#include "tests/fakes/fake_clock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace shoal::ipam {
namespace {

namespace fs = std::filesystem;

class PodLeasesTest : public testing::Test {
protected:
  void SetUp() override {
    std::string folder = (fs::temp_directory_path() / "shoal-pod-leases-XXXXXX").string();
    ASSERT_NE(::mkdtemp(folder.data()), nullptr);
    folder_ = folder;
  }
  void TearDown() override { fs::remove_all(folder_); }

  PodLeases open(std::vector<const char*> cidrs, PoolOptions options = {}) {
    std::vector<IpPrefix> parsed;
    for (const char* cidr : cidrs)
      parsed.push_back(*IpPrefix::parse(cidr));
    auto leases = PodLeases::open(folder_, parsed, "boot-1", clock_, options);
    EXPECT_TRUE(leases) << leases.error().message();
    return std::move(*leases);
  }
  static std::string text(const std::vector<Lease>& leases) {
    std::string out;
    for (const Lease& lease : leases)
      out += fmt::format("{}{} gen {}", out.empty() ? "" : ", ", lease.ip.to_string(),
                         lease.generation);
    return out;
  }

  fs::path folder_;
  FakeClock clock_;
};

TEST_F(PodLeasesTest, APodGetsALeaseOfEachFamilyAndKeepsThemOverARestart) {
  {
    PodLeases leases = open({"fd10:244:0:1::/64", "10.244.1.0/24"});
    EXPECT_EQ(text(*leases.allocate("a")), "10.244.1.1 gen 1, fd10:244:0:1::1 gen 1");
    EXPECT_EQ(text(*leases.allocate("b")), "10.244.1.2 gen 1, fd10:244:0:1::2 gen 1");
    EXPECT_TRUE(*leases.release_owner("a"));
    EXPECT_FALSE(*leases.release_owner("a"));
  }
  PodLeases leases = open({"10.244.1.0/24", "fd10:244:0:1::/64"});
  EXPECT_EQ(text(leases.find_owner("a")), "");
  EXPECT_EQ(text(leases.find_owner("b")), "10.244.1.2 gen 1, fd10:244:0:1::2 gen 1");
  EXPECT_THAT(leases.owners(), testing::ElementsAre("b"));
  EXPECT_EQ(text(*leases.allocate("b")), "10.244.1.2 gen 1, fd10:244:0:1::2 gen 1");
}

TEST_F(PodLeasesTest, WithoutAnIpv6CidrThereIsNoJournalOfIt) {
  PodLeases leases = open({"10.244.1.0/24"});
  EXPECT_EQ(text(*leases.allocate("a")), "10.244.1.1 gen 1");
  EXPECT_FALSE(fs::exists(folder_ / "leases-v6"));
}

// What was given before one family ran out stays the pod's until it gives it back.
TEST_F(PodLeasesTest, AFamilyThatRunsOutIsAskedAgain) {
  PodLeases leases =
      open({"10.244.1.0/24", "fd10::/126"}, {.quarantine = std::chrono::milliseconds(0)});
  ASSERT_TRUE(leases.allocate("a"));
  ASSERT_TRUE(leases.allocate("b"));
  EXPECT_EQ(leases.allocate("c").error().code(), Errc::kExhausted);
  EXPECT_EQ(text(leases.find_owner("c")), "10.244.1.3 gen 1");
  EXPECT_TRUE(*leases.release_owner("a"));
  EXPECT_EQ(text(*leases.allocate("c")), "10.244.1.3 gen 1, fd10::1 gen 2");
  EXPECT_TRUE(*leases.release_owner("c"));
  EXPECT_THAT(leases.owners(), testing::ElementsAre("b"));
}

}  // namespace
}  // namespace shoal::ipam
