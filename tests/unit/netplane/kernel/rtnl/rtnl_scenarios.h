// SPDX-License-Identifier: Apache-2.0
// The scenarios themselves, as a typed suite; rtnl_test.cpp runs them on the kernel,
// rtnl_fake_test.cpp on the fake.
#pragma once

#include "tests/unit/netplane/kernel/rtnl/rtnl_world.h"

#include <gmock/gmock.h>

namespace shoal::kernel {

inline IpAddress ip(const char* text) { return *IpAddress::parse(text); }
inline IpPrefix prefix(const char* text) { return *IpPrefix::parse(text); }
inline MacAddress mac(const char* text) { return *MacAddress::parse(text); }

#define EXPECT_OK(expr)                                                                            \
  do {                                                                                             \
    const auto& expect_ok_result = (expr);                                                         \
    EXPECT_TRUE(expect_ok_result.has_value())                                                      \
        << (expect_ok_result ? "" : expect_ok_result.error().message());                           \
  } while (false)
#define EXPECT_FAILS(expr, wanted)                                                                 \
  do {                                                                                             \
    const auto& expect_fails_result = (expr);                                                      \
    ASSERT_FALSE(expect_fails_result.has_value());                                                 \
    EXPECT_EQ(expect_fails_result.error().code(), wanted)                                          \
        << expect_fails_result.error().message();                                                  \
  } while (false)

// Only the lines about one link.
inline std::string lines_about(const std::string& dump, std::string_view link) {
  std::string result;
  for (std::size_t at = 0; at < dump.size();) {
    const std::size_t end = dump.find('\n', at);
    const std::string line = dump.substr(at, end - at + 1);
    if (line.find(" " + std::string(link) + " ") != std::string::npos)
      result += line;
    at = end + 1;
  }
  return result;
}

inline const PodNetSpec kPod = {.host_link = "shl0badcafe",
                                .ips = {*IpAddress::parse("10.244.1.7")},
                                .pod_mac = *MacAddress::parse("02:00:00:00:00:07"),
                                .host_mac = *MacAddress::parse("02:00:00:00:00:01"),
                                .mtu = 1450};

inline constexpr const char* kHostSide =
    "link shl0badcafe kind veth mac 02:00:00:00:00:01 mtu 1450 up group 7563372\n"
    "neighbour 10.244.1.7 dev shl0badcafe mac 02:00:00:00:00:07 permanent\n"
    "route 10.244.1.7/32 dev shl0badcafe scope link proto 83\n";
inline constexpr const char* kPodSide =
    "address 10.244.1.7/32 dev eth0 scope global\n"
    "link eth0 kind veth mac 02:00:00:00:00:07 mtu 1450 up\n"
    "neighbour 169.254.1.1 dev eth0 mac 02:00:00:00:00:01 permanent\n"
    "route 0.0.0.0/0 via 169.254.1.1 dev eth0 scope global mtu 1450 proto 83\n"
    "route 169.254.1.1/32 dev eth0 scope link proto 83\n";

// The same with an IPv6 address beside it.
inline const PodNetSpec kDualPod = [] {
  PodNetSpec spec = kPod;
  spec.ips.push_back(ip("fd10:244:0:1::7"));
  return spec;
}();

inline constexpr const char* kDualHostSide =
    "link shl0badcafe kind veth mac 02:00:00:00:00:01 mtu 1450 up group 7563372\n"
    "neighbour 10.244.1.7 dev shl0badcafe mac 02:00:00:00:00:07 permanent\n"
    "neighbour fd10:244:0:1::7 dev shl0badcafe mac 02:00:00:00:00:07 permanent\n"
    "route 10.244.1.7/32 dev shl0badcafe scope link proto 83\n"
    "route fd10:244:0:1::7/128 dev shl0badcafe scope global metric 1024 proto 83\n";
inline constexpr const char* kDualPodSide =
    "address 10.244.1.7/32 dev eth0 scope global\n"
    "address fd10:244:0:1::7/128 dev eth0 scope global\n"
    "link eth0 kind veth mac 02:00:00:00:00:07 mtu 1450 up\n"
    "neighbour 169.254.1.1 dev eth0 mac 02:00:00:00:00:01 permanent\n"
    "neighbour fe80::1 dev eth0 mac 02:00:00:00:00:01 permanent\n"
    "route 0.0.0.0/0 via 169.254.1.1 dev eth0 scope global mtu 1450 proto 83\n"
    "route 169.254.1.1/32 dev eth0 scope link proto 83\n"
    "route ::/0 via fe80::1 dev eth0 scope global mtu 1450 metric 1024 proto 83\n";

TYPED_TEST_SUITE_P(RtnlSuite);

TYPED_TEST_P(RtnlSuite, AVethHasItsNamesMacsAndMtuFromTheStart) {
  const auto made = this->host_->create_veth({.name = "v0",
                                              .mac = mac("02:00:00:00:00:0a"),
                                              .peer_name = "v1",
                                              .peer_mac = mac("02:00:00:00:00:0b"),
                                              .peer_netns_fd = this->pod_->netns_fd(),
                                              .mtu = 1400,
                                              .group = 7});
  ASSERT_TRUE(made) << made.error().message();
  EXPECT_EQ(made->kind, "veth");
  EXPECT_EQ(made->mac, mac("02:00:00:00:00:0a"));
  EXPECT_EQ(made->mtu, 1400U);
  EXPECT_EQ(made->group, 7U);
  EXPECT_FALSE(made->up);
  const auto peer = this->pod_->link("v1");
  ASSERT_TRUE(peer);
  EXPECT_EQ(peer->mac, mac("02:00:00:00:00:0b"));
  EXPECT_EQ(peer->peer_index, made->index);
  EXPECT_EQ(made->peer_index, peer->index);
  EXPECT_FAILS(this->host_->link("v1"), Errc::kNotFound);
  EXPECT_FAILS(this->host_->create_veth({.name = "v0", .peer_name = "v2"}), Errc::kExists);
  EXPECT_FAILS(this->host_->create_veth({.name = "a-name-that-is-too-long", .peer_name = "v2"}),
               Errc::kInvalid);
}

TYPED_TEST_P(RtnlSuite, DeletingAnEndTakesTheOtherAlong) {
  const auto made = this->host_->create_veth(
      {.name = "v0", .peer_name = "v1", .peer_netns_fd = this->pod_->netns_fd()});
  ASSERT_TRUE(made);
  EXPECT_OK(this->host_->delete_link(made->index));
  EXPECT_FAILS(this->host_->link("v0"), Errc::kNotFound);
  EXPECT_FAILS(this->pod_->link("v1"), Errc::kNotFound);
  EXPECT_FAILS(this->host_->delete_link(made->index), Errc::kNotFound);
  // The names are free at once.
  EXPECT_OK(this->host_->create_veth(
      {.name = "v0", .peer_name = "v1", .peer_netns_fd = this->pod_->netns_fd()}));
}

TYPED_TEST_P(RtnlSuite, AddressesRoutesAndNeighboursAreReplacedAndDeleted) {
  const auto link = this->host_->create_veth({.name = "v0", .peer_name = "v1"});
  ASSERT_TRUE(link);
  EXPECT_OK(this->host_->set_link_up(link->index, true));
  EXPECT_OK(this->host_->set_link_up(this->host_->link("v1")->index, true));

  const LinkAddress address{.link = link->index, .ip = ip("192.0.2.1"), .prefix_length = 24};
  EXPECT_OK(this->host_->replace_address(address));
  EXPECT_OK(this->host_->replace_address(address));
  EXPECT_THAT(*this->host_->addresses(), testing::Contains(address));

  Route route{.destination = prefix("10.244.2.0/24"),
              .link = link->index,
              .gateway = ip("192.0.2.9"),
              .source = ip("192.0.2.1"),
              .mtu = 1400,
              .metric = 5};
  EXPECT_OK(this->host_->replace_route(route));
  EXPECT_THAT(*this->host_->routes(Family::kV4), testing::Contains(route));
  route.gateway = ip("192.0.2.10");
  EXPECT_OK(this->host_->replace_route(route));
  EXPECT_THAT(*this->host_->routes(Family::kV4), testing::Contains(route));
  route.gateway = ip("203.0.113.1");
  EXPECT_FALSE(this->host_->replace_route(route));
  route.onlink = true;
  EXPECT_OK(this->host_->replace_route(route));
  EXPECT_THAT(*this->host_->routes(Family::kV4), testing::Contains(route));
  EXPECT_OK(this->host_->delete_route(route));
  EXPECT_FAILS(this->host_->delete_route(route), Errc::kNotFound);

  Neighbour neighbour{.link = link->index, .ip = ip("192.0.2.9"), .mac = mac("02:00:00:00:00:99")};
  EXPECT_OK(this->host_->replace_neighbour(neighbour));
  neighbour.mac = mac("02:00:00:00:00:98");
  EXPECT_OK(this->host_->replace_neighbour(neighbour));
  EXPECT_THAT(*this->host_->neighbours(), testing::Contains(neighbour));
  EXPECT_OK(this->host_->delete_neighbour(neighbour));
  EXPECT_FAILS(this->host_->delete_neighbour(neighbour), Errc::kNotFound);
  EXPECT_OK(this->host_->delete_address(address));
  EXPECT_FAILS(this->host_->delete_address(address), Errc::kNotFound);
}

TYPED_TEST_P(RtnlSuite, TheOverlayDeviceIsMadeOnceAndKept) {
  const VxlanSpec spec{.name = "shoal-vxlan", .mac = mac("02:00:00:00:0e:01"), .mtu = 1450};
  const auto made = ensure_overlay(*this->host_, spec);
  ASSERT_TRUE(made) << made.error().message();
  EXPECT_EQ(made->kind, "vxlan");
  EXPECT_EQ(made->mac, spec.mac);
  EXPECT_TRUE(made->up);
  // Without an address, rp_filter would drop what comes from outside by way of another host.
  const LinkAddress own{made->index, ip("169.254.1.1"), 32, Scope::kLink};
  EXPECT_THAT(*this->host_->addresses(), testing::Contains(own));
  const auto again = ensure_overlay(*this->host_, spec);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->index, made->index);
  VxlanSpec changed = spec;
  changed.mtu = 1400;
  EXPECT_EQ(ensure_overlay(*this->host_, changed)->mtu, 1400U);
  EXPECT_EQ(this->host_->link("shoal-vxlan")->index, made->index);
  changed.mac = mac("02:00:00:00:0e:02");
  const auto other = ensure_overlay(*this->host_, changed);
  ASSERT_TRUE(other) << other.error().message();
  EXPECT_EQ(other->mac, changed.mac);
  EXPECT_EQ(*this->host_->sysctl("ipv4/conf/shoal-vxlan/rp_filter"), "2");
}

// What a host without BPF tells the tunnel device by, in both families.
TYPED_TEST_P(RtnlSuite, RoutesHaveTunnelHeads) {
  const auto overlay = ensure_overlay(
      *this->host_, {.name = "shoal-vxlan", .mac = mac("02:00:00:00:0e:01"), .mtu = 1450}, true);
  ASSERT_TRUE(overlay) << overlay.error().message();
  std::vector<Route> wanted;
  for (const char* to : {"10.244.2.0/24", "fd10:244:0:2::/64"}) {
    const IpPrefix destination = *IpPrefix::parse(to);
    wanted.push_back({.destination = destination,
                      .link = overlay->index,
                      .scope = destination.is_v4() ? Scope::kLink : Scope::kGlobal,
                      .metric = default_metric(destination.family()),
                      .encap = RouteEncap{1, IpAddress::v4(0xc612000c)}});
    const auto set = this->host_->replace_route(wanted.back());
    ASSERT_TRUE(set) << set.error().message();
    EXPECT_THAT(*this->host_->routes(destination.family()), testing::Contains(wanted.back()));
  }
  wanted[0].encap->remote = IpAddress::v4(0xc612000d);
  ASSERT_TRUE(this->host_->replace_route(wanted[0]));
  EXPECT_THAT(*this->host_->routes(Family::kV4), testing::Contains(wanted[0]));
  for (const Route& route : wanted) {
    const auto gone = this->host_->delete_route(route);
    EXPECT_TRUE(gone) << gone.error().message();
    EXPECT_THAT(*this->host_->routes(route.destination.family()),
                testing::Not(testing::Contains(route)));
  }
}

TYPED_TEST_P(RtnlSuite, ProxyEntriesAreKeptApartFromNeighbours) {
  const auto overlay = ensure_overlay(
      *this->host_, {.name = "shoal-vxlan", .mac = mac("02:00:00:00:0e:01"), .mtu = 1450}, true);
  ASSERT_TRUE(overlay) << overlay.error().message();
  const std::vector<Proxy> wanted = {{overlay->index, *IpAddress::parse("198.18.0.209")},
                                     {overlay->index, *IpAddress::parse("2001:db8:1::d1")}};
  const auto before = *this->host_->neighbours();
  for (int i = 0; i < 2; i++)
    for (const Proxy& proxy : wanted) {
      const auto set = this->host_->replace_proxy(proxy);
      ASSERT_TRUE(set) << set.error().message();
    }
  EXPECT_THAT(*this->host_->proxies(), testing::UnorderedElementsAreArray(wanted));
  EXPECT_EQ(*this->host_->neighbours(), before);
  for (const Proxy& proxy : wanted)
    EXPECT_TRUE(this->host_->delete_proxy(proxy));
  EXPECT_TRUE(this->host_->proxies()->empty());
  EXPECT_EQ(this->host_->delete_proxy(wanted[0]).error().code(), Errc::kNotFound);
}

TYPED_TEST_P(RtnlSuite, APodIsAttached) {
  const auto attached = attach_pod(*this->host_, *this->pod_, kPod);
  ASSERT_TRUE(attached) << attached.error().message();
  EXPECT_EQ(lines_about(*dump_network(*this->host_), "shl0badcafe"), kHostSide);
  EXPECT_EQ(lines_about(*dump_network(*this->pod_), "eth0"), kPodSide);
  EXPECT_TRUE(this->pod_->link("lo")->up);
  EXPECT_EQ(attached->host_ifindex, this->host_->link("shl0badcafe")->index);
  EXPECT_EQ(attached->pod_ifindex, this->pod_->link("eth0")->index);
  EXPECT_EQ(*this->host_->sysctl("ipv4/conf/shl0badcafe/rp_filter"), "0");
  EXPECT_EQ(pod_links(*this->host_)->size(), 1U);
}

TYPED_TEST_P(RtnlSuite, APodOfTwoFamiliesIsAttachedAndMended) {
  const auto first = attach_pod(*this->host_, *this->pod_, kDualPod);
  ASSERT_TRUE(first) << first.error().message();
  EXPECT_EQ(lines_about(*dump_network(*this->host_), "shl0badcafe"), kDualHostSide);
  EXPECT_EQ(lines_about(*dump_network(*this->pod_), "eth0"), kDualPodSide);
  EXPECT_OK(this->pod_->delete_address(
      {.link = first->pod_ifindex, .ip = kDualPod.ips[1], .prefix_length = 128}));
  EXPECT_OK(this->host_->delete_route({.destination = IpPrefix::host(kDualPod.ips[1]),
                                       .link = first->host_ifindex,
                                       .metric = default_metric(IpFamily::kV6)}));
  const auto second = attach_pod(*this->host_, *this->pod_, kDualPod);
  ASSERT_TRUE(second) << second.error().message();
  EXPECT_EQ(*second, *first);
  EXPECT_EQ(lines_about(*dump_network(*this->host_), "shl0badcafe"), kDualHostSide);
  EXPECT_EQ(lines_about(*dump_network(*this->pod_), "eth0"), kDualPodSide);
}

TYPED_TEST_P(RtnlSuite, AttachingAgainMendsAndKeepsThePair) {
  const auto first = attach_pod(*this->host_, *this->pod_, kPod);
  ASSERT_TRUE(first);
  EXPECT_OK(this->host_->delete_route({.destination = IpPrefix::host(kPod.ips[0]),
                                       .link = first->host_ifindex,
                                       .scope = Scope::kLink}));
  EXPECT_OK(this->pod_->set_link_up(first->pod_ifindex, false));
  const auto second = attach_pod(*this->host_, *this->pod_, kPod);
  ASSERT_TRUE(second) << second.error().message();
  EXPECT_EQ(*second, *first);
  EXPECT_EQ(lines_about(*dump_network(*this->host_), "shl0badcafe"), kHostSide);
  EXPECT_EQ(lines_about(*dump_network(*this->pod_), "eth0"), kPodSide);
}

TYPED_TEST_P(RtnlSuite, APodThatHasANewNamespaceGetsANewPair) {
  ASSERT_TRUE(attach_pod(*this->host_, *this->pod_, kPod));
  // `host` stands in for the sandbox that the pod had before: the pair's other end lies elsewhere.
  auto pair = this->pod_->link("eth0");
  ASSERT_TRUE(pair);
  EXPECT_OK(this->host_->delete_link(this->host_->link("shl0badcafe")->index));
  ASSERT_TRUE(this->host_->create_veth({.name = kPod.host_link,
                                        .mac = kPod.host_mac,
                                        .peer_name = "stale",
                                        .peer_mac = kPod.pod_mac,
                                        .group = kPodLinkGroup}));
  const auto attached = attach_pod(*this->host_, *this->pod_, kPod);
  ASSERT_TRUE(attached) << attached.error().message();
  EXPECT_EQ(lines_about(*dump_network(*this->pod_), "eth0"), kPodSide);
  EXPECT_FAILS(this->host_->link("stale"), Errc::kNotFound);
}

TYPED_TEST_P(RtnlSuite, AnotherProgramsLinkIsLeftAlone) {
  ASSERT_TRUE(this->host_->create_veth({.name = kPod.host_link, .peer_name = "other"}));
  EXPECT_FAILS(attach_pod(*this->host_, *this->pod_, kPod), Errc::kExists);
  EXPECT_OK(this->host_->link("other"));
  EXPECT_FAILS(this->pod_->link("eth0"), Errc::kNotFound);
}

TYPED_TEST_P(RtnlSuite, DetachingLeavesNothingAndMayBeRepeated) {
  ASSERT_TRUE(attach_pod(*this->host_, *this->pod_, kPod));
  EXPECT_OK(detach_pod(*this->host_, kPod.host_link));
  EXPECT_EQ(lines_about(*dump_network(*this->host_), "shl0badcafe"), "");
  EXPECT_EQ(lines_about(*dump_network(*this->pod_), "eth0"), "");
  EXPECT_OK(detach_pod(*this->host_, kPod.host_link));
  EXPECT_TRUE(pod_links(*this->host_)->empty());
}

REGISTER_TYPED_TEST_SUITE_P(RtnlSuite, AVethHasItsNamesMacsAndMtuFromTheStart,
                            RoutesHaveTunnelHeads, ProxyEntriesAreKeptApartFromNeighbours,
                            DeletingAnEndTakesTheOtherAlong,
                            AddressesRoutesAndNeighboursAreReplacedAndDeleted,
                            TheOverlayDeviceIsMadeOnceAndKept, APodIsAttached,
                            APodOfTwoFamiliesIsAttachedAndMended,
                            AttachingAgainMendsAndKeepsThePair,
                            APodThatHasANewNamespaceGetsANewPair, AnotherProgramsLinkIsLeftAlone,
                            DetachingLeavesNothingAndMayBeRepeated);

}  // namespace shoal::kernel
