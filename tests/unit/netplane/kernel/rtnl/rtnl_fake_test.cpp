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
  static Route default_route(std::uint32_t link, const char* gateway, std::uint32_t metric = 0) {
    return {.destination = IpPrefix::containing(IpAddress::v4(0), 0),
            .link = link,
            .gateway = ip(gateway),
            .metric = metric,
            .protocol = 3};
  }
  std::vector<std::string> chosen(const UplinkWish& wish = {}) const {
    const auto uplinks = choose_uplinks(host_, wish);
    if (!uplinks)
      return {uplinks.error().message()};
    std::vector<std::string> names;
    for (const Uplink& uplink : *uplinks)
      names.push_back(uplink.name);
    return names;
  }
  Uplink main(const UplinkWish& wish = {}) const { return choose_uplinks(host_, wish)->front(); }
  Link& link(std::string_view name) { return *std::ranges::find(host_.links, name, &Link::name); }

  HostNetwork host_ = {
      .links = {{.index = 1, .name = "lo", .mtu = 65536, .up = true},
                {.index = 2, .name = "eth0", .mtu = 1500, .up = true},
                {.index = 3, .name = "eth1", .mtu = 9000, .up = true}},
      .addresses = {{.link = 2, .ip = ip("192.0.2.5"), .prefix_length = 24},
                    {.link = 3, .ip = ip("198.51.100.5"), .prefix_length = 24}},
      .routes = {default_route(2, "192.0.2.1")},
  };
  using Names = std::vector<std::string>;
};

TEST_F(Uplinks, TheDefaultRouteLeads) {
  EXPECT_EQ(chosen(), Names{"eth0"});
  EXPECT_EQ(main().address, ip("192.0.2.5"));
  EXPECT_EQ(main().gateway, ip("192.0.2.1"));
  EXPECT_EQ(main().subnets, std::vector{prefix("192.0.2.0/24")});
  // The one with the lower metric first; both are uplinks.
  host_.routes[0].metric = 100;
  host_.routes.push_back(default_route(3, "198.51.100.1", 50));
  EXPECT_EQ(chosen(), (Names{"eth1", "eth0"}));
  // Other tables are somebody's policy.
  host_.routes[1].table = 100;
  EXPECT_EQ(chosen(), Names{"eth0"});
}

TEST_F(Uplinks, TheUnderlayAddressWinsOverTheDefaultRouteAndTheNameOverBoth) {
  EXPECT_EQ(chosen({.address = ip("198.51.100.5")}), (Names{"eth1", "eth0"}));
  EXPECT_EQ(main({.address = ip("198.51.100.5")}).mtu, 9000U);
  EXPECT_EQ(chosen({.device = "eth1"}), (Names{"eth1", "eth0"}));
  EXPECT_FALSE(main({.device = "eth1"}).gateway);
}

TEST_F(Uplinks, NamesAndPatternsSayWhich) {
  EXPECT_EQ(chosen({.names = {"eth*"}}), (Names{"eth0", "eth1"}));
  EXPECT_EQ(chosen({.names = {"eth1"}}), Names{"eth1"});  // and not the default route's
  EXPECT_EQ(chosen({.device = "eth0", .names = {"eth1"}}), (Names{"eth0", "eth1"}));
  host_.links.push_back({.index = 4, .name = "eth0.100", .kind = "vlan", .mtu = 1500, .up = true});
  EXPECT_EQ(chosen({.names = {"eth0", "*.100"}}), (Names{"eth0", "eth0.100"}));
  // A pattern takes only what is up, and no container's.
  link("eth1").up = false;
  host_.links.push_back({.index = 5, .name = "docker0", .kind = "bridge", .up = true});
  host_.links.push_back({.index = 6, .name = "shoal-vxlan", .kind = "vxlan", .up = true});
  host_.links.push_back(
      {.index = 7, .name = "shl0badcafe", .kind = "veth", .up = true, .group = kPodLinkGroup});
  EXPECT_EQ(chosen({.names = {"*"}}), (Names{"eth0", "eth0.100"}));
}

TEST_F(Uplinks, AMasterStandsForItsPorts) {
  host_.links.push_back({.index = 4, .name = "bond0", .kind = "bond", .mtu = 1500, .up = true});
  link("eth0").master = link("eth1").master = 4;
  host_.addresses = {{.link = 4, .ip = ip("192.0.2.5"), .prefix_length = 24}};
  host_.routes = {default_route(4, "192.0.2.1")};
  EXPECT_EQ(chosen(), Names{"bond0"});
  EXPECT_EQ(chosen({.names = {"eth*"}}), Names{"bond0"});
  EXPECT_EQ(chosen({.device = "eth1"}), Names{"bond0"});
  host_.routes.clear();
  EXPECT_EQ(chosen(), Names{"bond0"}) << "of three that are up, two are ports";
  link("bond0").kind = "vrf";
  EXPECT_THAT(chosen({.names = {"eth*"}}).front(), testing::HasSubstr("none of eth* is a link"));
}

TEST_F(Uplinks, AMastersMasterStandsForItsPortsToo) {
  host_.links.push_back({.index = 4, .name = "bond0", .kind = "bond", .up = true});
  host_.links.push_back({.index = 5, .name = "br0", .kind = "bridge", .mtu = 1500, .up = true});
  link("eth0").master = link("eth1").master = 4;
  link("bond0").master = 5;
  host_.addresses = {{.link = 5, .ip = ip("192.0.2.5"), .prefix_length = 24}};
  host_.routes = {default_route(5, "192.0.2.1")};
  for (const char* name : {"eth*", "bond0", "br0"})
    EXPECT_EQ(chosen({.names = {name}}), Names{"br0"}) << name;
  EXPECT_EQ(chosen({.device = "eth1"}), Names{"br0"});
  host_.routes.clear();
  EXPECT_EQ(chosen(), Names{"br0"}) << "of four that are up, three are ports";
}

TEST_F(Uplinks, WhatHasNoEthernetIsNoneAndIsNamedWhenAskedFor) {
  host_.links.push_back(
      {.index = 4, .name = "wg0", .kind = "wireguard", .mtu = 1420, .up = true, .ethernet = false});
  host_.addresses.push_back({.link = 4, .ip = ip("203.0.113.5"), .prefix_length = 24});
  host_.routes.insert(host_.routes.begin(), default_route(4, "203.0.113.1"));
  host_.routes[1].metric = 100;
  EXPECT_EQ(chosen(), Names{"eth0"}) << "whatever the metrics";
  EXPECT_EQ(chosen({.names = {"eth0", "wg0"}}), Names{"eth0"});
  EXPECT_THAT(missing_uplinks(host_, {.names = {"eth0", "wg*"}}), testing::IsEmpty());
  EXPECT_EQ(unfit_uplinks(host_, {.names = {"eth0", "wg*"}}), Names{"wg0"});
  EXPECT_THAT(unfit_uplinks(host_, {}), testing::IsEmpty());
  // As the way to the other hosts it will do.
  EXPECT_EQ(chosen({.address = ip("203.0.113.5")}), (Names{"wg0", "eth0"}));
  EXPECT_EQ(unfit_uplinks(host_, {.address = ip("203.0.113.5")}), Names{"wg0"});
  EXPECT_FALSE(main({.device = "wg0"}).ethernet);
  EXPECT_EQ(unfit_uplinks(host_, {.device = "wg0"}), Names{"wg0"});
  host_.routes.clear();
  link("eth1").up = false;
  EXPECT_EQ(chosen(), Names{"eth0"}) << "the only link";
}

TEST_F(Uplinks, ADefaultRouteByTwoDevicesHasTwoUplinks) {
  host_.routes.push_back(default_route(3, "198.51.100.1"));
  EXPECT_EQ(chosen(), (Names{"eth0", "eth1"}));
}

TEST_F(Uplinks, WithoutADefaultRouteTheOnlyLinkServes) {
  host_.routes.clear();
  EXPECT_THAT(chosen().front(), testing::HasSubstr("2 links are up"));
  link("eth1").up = false;
  EXPECT_EQ(chosen(), Names{"eth0"});
  // What an agent that ran here before has made is no choice.
  host_.links.push_back({.index = 4, .name = "shoal-vxlan", .kind = "vxlan", .up = true});
  host_.links.push_back(
      {.index = 5, .name = "shl0badcafe", .kind = "veth", .up = true, .group = kPodLinkGroup});
  host_.links.push_back({.index = 6, .name = "docker0", .kind = "bridge", .up = true});
  EXPECT_EQ(chosen(), Names{"eth0"});
}

TEST_F(Uplinks, RoutesMayCarryLessThanTheirLink) {
  EXPECT_EQ(main().mtu, 1500U);
  host_.routes[0].advmss = 1360;
  EXPECT_EQ(main().mtu, 1400U);
  host_.routes[0].mtu = 1450;
  EXPECT_EQ(main().mtu, 1450U) << "an mtu says more than an advmss";
  host_.routes.push_back({.destination = prefix("192.0.2.0/24"), .link = 2, .mtu = 1380});
  EXPECT_EQ(main().mtu, 1380U);
  host_.routes.back().destination = prefix("203.0.113.0/24");
  EXPECT_EQ(main().mtu, 1450U) << "not where the other hosts are";
  host_.routes[0].mtu = 9000;
  EXPECT_EQ(main().mtu, 1500U);
}

TEST_F(Uplinks, OnlyALastingIpv6AddressIsTold) {
  EXPECT_FALSE(main().address_v6);
  host_.addresses.push_back(
      {.link = 2, .ip = ip("2001:db8::1"), .prefix_length = 64, .lasting = false});
  EXPECT_FALSE(main().address_v6);
  host_.addresses.push_back({.link = 2, .ip = ip("2001:db8::7"), .prefix_length = 64});
  host_.addresses.push_back({.link = 2, .ip = ip("2001:db8::5"), .prefix_length = 64});
  EXPECT_EQ(main().address_v6, ip("2001:db8::5"));
}

TEST_F(Uplinks, AnAddressIsToldOfWhereItsSubnetIs) {
  host_.routes.push_back({.destination = IpPrefix(), .link = 3, .gateway = ip("fe80::9")});
  const auto uplinks = *choose_uplinks(host_, {.names = {"eth*"}});
  ASSERT_EQ(uplinks.size(), 2U);
  EXPECT_EQ(uplink_towards(uplinks, ip("192.0.2.77")).name, "eth0");
  EXPECT_EQ(uplink_towards(uplinks, ip("198.51.100.77")).name, "eth1");
  EXPECT_EQ(uplink_towards(uplinks, ip("203.0.113.77")).name, "eth0") << "the default route's";
  EXPECT_EQ(uplink_towards(uplinks, ip("2001:db8:9::1")).name, "eth1") << "of its own family";
}

TEST_F(Uplinks, ErrorsSayWhatThereIs) {
  EXPECT_THAT(chosen({.device = "eth7"}).front(), testing::HasSubstr("eth0, eth1"));
  EXPECT_THAT(chosen({.names = {"eth9", "bond*"}}).front(),
              testing::AllOf(testing::HasSubstr("eth9, bond*"), testing::HasSubstr("eth0, eth1")));
  EXPECT_THAT(chosen({.address = ip("203.0.113.9")}).front(), testing::HasSubstr("203.0.113.9"));
  EXPECT_THAT(chosen({.device = "eth0", .address = ip("198.51.100.5")}).front(),
              testing::HasSubstr("does not have the address"));
  host_.addresses.clear();
  EXPECT_THAT(chosen({.device = "eth0"}).front(), testing::HasSubstr("no IPv4 address"));
}

// The host does not go with one of its links.
TEST_F(Uplinks, ANameThatIsNotThereIsPassedOverAndToldOf) {
  EXPECT_EQ(chosen({.names = {"eth0", "bond*"}}), Names{"eth0"});
  EXPECT_EQ(missing_uplinks(host_, {.names = {"eth0", "bond*", "eth7"}}), (Names{"bond*", "eth7"}));
}

TEST_F(Uplinks, TheirNumberIsBounded) {
  for (std::uint32_t i = 0; i < kUplinksMax; i++)
    host_.links.push_back(
        {.index = 100 + i, .name = "eno1." + std::to_string(i), .mtu = 1500, .up = true});
  EXPECT_THAT(chosen({.names = {"eth0", "eno1.*"}}).front(), testing::HasSubstr("64 is the most"));
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
