// SPDX-License-Identifier: Apache-2.0
// The scenarios on the fake; faults at every step; and the pure parts.
#include "tests/unit/netplane/kernel/rtnl/rtnl_scenarios.h"

#include "netplane/kernel/rtnl/garp.h"

namespace shoal::kernel {
namespace {

INSTANTIATE_TYPED_TEST_SUITE_P(Fake, RtnlSuite, FakeWorld);

// Every change of an attach fails once; nothing may be left, and the next attach must succeed.
TEST(PodNet, AFailureAtAnyStepLeavesNothingHalfMade) {
  unsigned steps = 0;
  {
    FakeWorld world;
    auto host = world.open(world.host_fd());
    auto pod = world.open(world.pod_fd());
    ASSERT_TRUE(attach_pod(*host, *pod, kPod));
    steps = world.net.changes();
  }
  ASSERT_GT(steps, 8U);
  for (unsigned step = 1; step <= steps; ++step) {
    SCOPED_TRACE(step);
    FakeWorld world;
    auto host = world.open(world.host_fd());
    auto pod = world.open(world.pod_fd());
    world.net.fail_at(step);
    const auto attached = attach_pod(*host, *pod, kPod);
    ASSERT_FALSE(attached);
    EXPECT_THAT(attached.error().message(), testing::HasSubstr("attach 10.244.1.7"));
    EXPECT_EQ(lines_about(*dump_network(*host), "shl0badcafe"), "");
    EXPECT_EQ(lines_about(*dump_network(*pod), "eth0"), "");
    ASSERT_TRUE(attach_pod(*host, *pod, kPod));
    EXPECT_EQ(lines_about(*dump_network(*host), "shl0badcafe"), kHostSide);
  }
}

TEST(PodNet, AFailureLeavesAnEarlierPairAlone) {
  FakeWorld world;
  auto host = world.open(world.host_fd());
  auto pod = world.open(world.pod_fd());
  ASSERT_TRUE(attach_pod(*host, *pod, kPod));
  world.net.fail_at(3);
  ASSERT_FALSE(attach_pod(*host, *pod, kPod));
  EXPECT_EQ(lines_about(*dump_network(*host), "shl0badcafe"), kHostSide);
}

TEST(PodNet, NamesAndMacsFollowFromTheUid) {
  const PodNetSpec one = make_pod_net_spec("uid-1", {ip("10.244.1.7")}, 1450);
  EXPECT_EQ(one, make_pod_net_spec("uid-1", {ip("10.244.1.7")}, 1450));
  const PodNetSpec two = make_pod_net_spec("uid-2", {ip("10.244.1.7")}, 1450);
  EXPECT_NE(one.host_link, two.host_link);
  EXPECT_NE(one.pod_mac, two.pod_mac);
  EXPECT_NE(one.pod_mac, one.host_mac);
  EXPECT_TRUE(one.host_link.starts_with("shl"));
  EXPECT_EQ(one.host_link.size(), 11U);
}

class Uplinks : public testing::Test {
protected:
  std::vector<Link> links_ = {
      {.index = 1, .name = "lo", .mtu = 65536, .up = true},
      {.index = 2, .name = "eth0", .mtu = 1500, .up = true},
      {.index = 3, .name = "eth1", .mtu = 9000, .up = true},
  };
  std::vector<LinkAddress> addresses_ = {
      {.link = 2, .ip = ip("192.0.2.5"), .prefix_length = 24},
      {.link = 3, .ip = ip("198.51.100.5"), .prefix_length = 24},
  };
  std::vector<Route> routes_ = {{.destination = IpPrefix::containing(IpAddress::v4(0), 0),
                                 .link = 2,
                                 .gateway = ip("192.0.2.1")}};
};

TEST_F(Uplinks, TheDefaultRouteLeads) {
  const auto uplink = choose_uplink(links_, addresses_, routes_, {}, std::nullopt);
  ASSERT_TRUE(uplink);
  EXPECT_EQ(uplink->name, "eth0");
  EXPECT_EQ(uplink->address, ip("192.0.2.5"));
  EXPECT_EQ(uplink->gateway, ip("192.0.2.1"));
  Route better = routes_[0];
  routes_[0].metric = 100;
  better.link = 3;
  better.metric = 50;
  routes_.push_back(better);
  EXPECT_EQ(choose_uplink(links_, addresses_, routes_, {}, std::nullopt)->name, "eth1");
}

TEST_F(Uplinks, TheUnderlayAddressWinsOverTheDefaultRouteAndTheNameOverBoth) {
  EXPECT_EQ(choose_uplink(links_, addresses_, routes_, {}, ip("198.51.100.5"))->name, "eth1");
  EXPECT_EQ(choose_uplink(links_, addresses_, routes_, {}, ip("198.51.100.5"))->mtu, 9000U);
  EXPECT_EQ(choose_uplink(links_, addresses_, routes_, "eth1", std::nullopt)->name, "eth1");
  EXPECT_FALSE(choose_uplink(links_, addresses_, routes_, "eth1", std::nullopt)->gateway);
}

TEST_F(Uplinks, WithoutADefaultRouteTheOnlyLinkServes) {
  EXPECT_FAILS(choose_uplink(links_, addresses_, {}, {}, std::nullopt), Errc::kNotFound);
  links_[2].up = false;
  EXPECT_EQ(choose_uplink(links_, addresses_, {}, {}, std::nullopt)->name, "eth0");
  // What an agent that ran here before has made is no choice.
  links_.push_back({.index = 4, .name = "shoal-vxlan", .kind = "vxlan", .up = true});
  links_.push_back(
      {.index = 5, .name = "shl0badcafe", .kind = "veth", .up = true, .group = kPodLinkGroup});
  EXPECT_EQ(choose_uplink(links_, addresses_, {}, {}, std::nullopt)->name, "eth0");
}

TEST_F(Uplinks, ErrorsSayWhatThereIs) {
  const auto missing = choose_uplink(links_, addresses_, routes_, "eth7", std::nullopt);
  EXPECT_THAT(missing.error().message(), testing::HasSubstr("eth0, eth1"));
  const auto nobody = choose_uplink(links_, addresses_, routes_, {}, ip("203.0.113.9"));
  EXPECT_THAT(nobody.error().message(), testing::HasSubstr("203.0.113.9"));
  const auto wrong = choose_uplink(links_, addresses_, routes_, "eth0", ip("198.51.100.5"));
  EXPECT_FALSE(wrong);
}

std::string hex_of(const std::string& bytes) {
  std::string out;
  for (const char c : bytes)
    out += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return out;
}

TEST(Garp, ArpFramesByteForByte) {
  const auto frames = announcement_frames(ip("198.18.0.210"), mac("02:5a:00:00:00:01"));
  ASSERT_EQ(frames.size(), 2U);
  EXPECT_EQ(hex_of(frames[0]), "ffffffffffff025a000000010806"
                               "0001080006040001"
                               "025a00000001c61200d2"
                               "000000000000c61200d2");
  EXPECT_EQ(hex_of(frames[1]), "ffffffffffff025a000000010806"
                               "0001080006040002"
                               "025a00000001c61200d2"
                               "ffffffffffffc61200d2");
}

TEST(Garp, NeighbourAdvertisementByteForByte) {
  const auto frames = announcement_frames(ip("2001:db8:1::d2"), mac("02:5a:00:00:00:01"));
  ASSERT_EQ(frames.size(), 1U);
  const std::string text = hex_of(frames[0]);
  EXPECT_EQ(text.substr(0, 28), "333300000001025a0000000186dd");
  EXPECT_EQ(text.substr(28, 16), "6000000000203aff");
  // The checksum over pseudo header and message, its own field included, comes to all ones.
  std::uint32_t sum = 32 + 58;
  for (std::size_t i = 14 + 8; i + 1 < frames[0].size(); i += 2)
    sum += (static_cast<std::uint32_t>(static_cast<unsigned char>(frames[0][i])) << 8) |
           static_cast<unsigned char>(frames[0][i + 1]);
  while (sum >> 16)
    sum = (sum & 0xffff) + (sum >> 16);
  EXPECT_EQ(sum, 0xffffU);
}

}  // namespace
}  // namespace shoal::kernel
