// SPDX-License-Identifier: Apache-2.0
// Packets that are too large for the overlay, and datagrams in fragments. Roles are in cast.h; the
// overlay carries 1450 bytes.
#include "netplane/base/clock.h"
#include "tests/bpf/overlay_cast.h"

namespace shoal::bpftest {
namespace {

constexpr std::size_t kOverlayMtu = 1450;

class SizesTest : public OverlayCast {
protected:
  std::size_t ip_bytes() const { return v6 ? 40 : 20; }
  // As large as an IP packet of `bytes`.
  Packet sized(Packet p, std::size_t bytes) const {
    p.payload = bytes - ip_bytes() - (p.protocol == 6 ? 20 : 8);
    p.dont_fragment = true;
    return p;
  }
  bool is_dsr(const Outcome& run) const {
    return run.verdict == kRedirect && run.out[0] == 0x02 && run.out[1] == 'd';
  }
  // The parts of one datagram, as its sender makes them.
  static Packet first(Packet p) {
    p.fragment = 0x2000;
    p.payload = 600;
    return p;
  }
  static Packet last(Packet p) {
    p.fragment = 76;  // * 8 bytes
    p.payload = 300;
    return p;
  }
};
SHOAL_BOTH_FAMILIES(SizesTest);

// ---- too large ----------------------------------------------------------------------------------

TEST_P(SizesTest, WhatTheOverlayCannotCarryIsToldToTheClient) {
  host.ring(1, {kFarId}, 0);
  for (const Packet& p : {from_lan(udp(client, vip)), from_lan(tcp(client, vip, kAck))}) {
    EXPECT_TRUE(is_dsr(at_uplink(sized(p, kOverlayMtu))));
    Outcome run = at_uplink(sized(p, kOverlayMtu + 1));
    EXPECT_EQ(run.verdict, kRedirect);
    EXPECT_EQ(text(run.out), "ICMP too-big mtu=1450 vip > client (client > vip)");
    EXPECT_EQ(macs(run.out), "02:00:00:00:00:11 > 02:00:00:00:01:01");
  }
  EXPECT_EQ(host.drops("TOO_BIG"), 2U);
  // A pod's packet that no socket hook translated.
  EXPECT_EQ(text(at_pod(sized(from_pod(udp(on(web, 5555), cluster)), 1451)).out),
            "ICMP too-big mtu=1450 cluster > web (web:5555 > cluster)");
}

TEST_P(SizesTest, APodHereTakesWhateverTheLanCarries) {
  host.ring(1, {kWebId}, 0);
  EXPECT_EQ(text(at_uplink(sized(from_lan(udp(client, vip)), 1500)).out),
            fmt::format("UDP client > web ttl=64 +{}", 1500 - ip_bytes() - 8));
}

TEST_P(SizesTest, WhatMayBeFragmentedIs) {
  host.ring(1, {kFarId}, 0);
  Packet p = sized(from_lan(udp(client, vip)), 1500);
  p.dont_fragment = false;  // which IPv6 does not know: there only senders fragment
  EXPECT_EQ(is_dsr(at_uplink(p)), !v6);
  EXPECT_EQ(host.drops("TOO_BIG"), v6 ? 1U : 0U);
}

TEST_P(SizesTest, ManySegmentsInOneAreAsLargeAsEachOfThem) {
  host.ring(1, {kFarId}, 0);
  const int program = host.program("shoal_uplink");
  const Packet p = sized(from_lan(tcp(client, vip, kAck)), 3000);
  const auto headers = static_cast<std::uint32_t>(ip_bytes() + 20);
  EXPECT_TRUE(is_dsr(host.run_fd(program, p.frame(), uplink, kOverlayMtu - headers)));
  EXPECT_EQ(text(host.run_fd(program, p.frame(), uplink, kOverlayMtu - headers + 1).out),
            "ICMP too-big mtu=1450 vip > client (client > vip)");
}

TEST_P(SizesTest, WithoutAnOverlayNothingIsTooLargeForIt) {
  host.ring(1, {kFarId}, 0);
  ASSERT_TRUE(host.loader().detach_overlay(ifindex_of("shoal-vxlan")));
  EXPECT_EQ(at_uplink(sized(from_lan(udp(client, vip)), 1500)).verdict, kShot);
  EXPECT_EQ(host.drops("TUNNEL"), 1U);
  EXPECT_EQ(host.drops("TOO_BIG"), 0U);
}

// ---- the MSS ------------------------------------------------------------------------------------

TEST_P(SizesTest, ASynToAnotherHostAsksForNoMoreThanTheOverlayCarries) {
  const std::string fits = v6 ? "mss=1390" : "mss=1410";
  const std::vector<std::pair<std::vector<std::uint8_t>, std::string>> rows = {
      {{2, 4, 0x05, 0xb4}, fits},
      {{2, 4, 0xff, 0xff, 4, 2, 1, 1}, fits},
      {{1, 2, 4, 0x05, 0xb4, 1, 1, 1}, fits},  // at an odd byte
      {{4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 2, 4, 0x23, 0x00}, fits},
      {{2, 4, 0x04, 0x00}, "mss=1024"},
      {{4, 2, 1, 1}, ""},
      {{}, ""},
      {{0, 2, 4, 5}, ""},     // nothing after the end
      {{99, 0, 2, 4}, ""},    // nonsense
      {{99, 200, 2, 4}, ""},  // beyond the header
  };
  host.ring(1, {kFarId}, 0);
  std::uint16_t port = 41000;
  for (const auto& [options, mss] : rows) {
    SCOPED_TRACE(testing::PrintToString(options));
    Packet p = from_lan(tcp(on(client, ++port), vip, kSyn));
    p.tcp_options = options;
    EXPECT_EQ(text(at_uplink(p).out),
              fmt::format("TCP client:{} > vip [S] seq=1000 ack=0 ttl=64 +0{}{}", port,
                          mss.empty() ? "" : " ", mss));
  }
  // To a pod here it goes as it is, and so does what is no SYN.
  Packet p = from_lan(tcp(client, vip, kAck));
  p.tcp_options = {2, 4, 0x05, 0xb4};
  EXPECT_THAT(text(at_uplink(p).out), testing::HasSubstr("mss=1460"));
  host.ring(1, {kWebId}, 1);
  p = from_lan(tcp(on(client, 42000), vip, kSyn));
  p.tcp_options = {2, 4, 0x05, 0xb4};
  EXPECT_THAT(text(at_uplink(p).out), testing::HasSubstr("mss=1460"));
}

TEST_P(SizesTest, TheAnswerToASynDoesToo) {
  host.ring(1, {kWebId}, 0);
  at_uplink(from_lan(tcp(client, vip, kSyn)));
  Packet p = from_pod(tcp(web, client, kSyn | kAck));
  p.tcp_options = {2, 4, 0x23, 0x00};
  EXPECT_EQ(text(at_pod(p).out),
            fmt::format("TCP vip > client [SA] seq=1000 ack=0 ttl=63 +0 mss={}", v6 ? 1390 : 1410));
  p = from_pod(tcp(web, on(client, 1), kSyn | kAck));  // nothing of a service's
  p.tcp_options = {2, 4, 0x23, 0x00};
  EXPECT_EQ(at_pod(p).out, p.frame());
}

// ---- fragments ----------------------------------------------------------------------------------

TEST_P(SizesTest, FragmentsFollowTheirFirstToALocalBackend) {
  host.ring(1, {kWebId}, 0);
  const Packet p = from_lan(udp(client, vip));
  EXPECT_EQ(text(at_uplink(first(p)).out), "UDP client > web ttl=64 +600");
  host.ring(1, {kFarId}, 1);
  Outcome run = at_uplink(last(p));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "UDP-FRAGMENT client > web");
  EXPECT_EQ(macs(run.out), "02:00:00:00:bb:05 > 02:00:00:00:aa:05");
  const model::ServiceIndex service = 1;
  const kernel::ServiceStats stats = host.maps().service_stats({&service, 1}).value()[0];
  EXPECT_EQ(stats.packets, 2U);
  EXPECT_EQ(stats.flows, 1U);
}

TEST_P(SizesTest, FragmentsFollowTheirFirstToAnotherHost) {
  host.ring(1, {kFarId}, 0);
  const Packet p = from_lan(udp(client, vip));
  Outcome head = at_uplink(first(p)), tail = at_uplink(last(p));
  EXPECT_TRUE(is_dsr(head));
  EXPECT_TRUE(is_dsr(tail));
  EXPECT_EQ(Frame(head.out.begin(), head.out.begin() + 14),
            Frame(tail.out.begin(), tail.out.begin() + 14));
  ASSERT_TRUE(host.maps().put_node(pod_cidr(web), {kOtherHost}));
  ASSERT_TRUE(host.maps().put_node(pod_cidr(far), {}));
  ASSERT_TRUE(host.maps().put_pod(far.ip, {veth, 9, kWebMac, kVethMac}));
  // There the frame itself says to whom, in whatever order they come.
  EXPECT_EQ(text(from(kOtherHost, kVniDsr, tail.out).out), "UDP-FRAGMENT client > far");
  EXPECT_EQ(text(from(kOtherHost, kVniDsr, head.out).out), "UDP client > far ttl=64 +600");
}

TEST_P(SizesTest, FragmentsWithoutTheirFirstAreCounted) {
  host.ring(1, {kWebId}, 0);
  Packet p = from_lan(udp(client, vip));
  EXPECT_EQ(at_uplink(last(p)).verdict, kShot);
  at_uplink(first(p));
  p.id = 0x1235;
  EXPECT_EQ(at_uplink(last(p)).verdict, kShot);
  p = from_lan(udp(beside(client, 1), vip));
  EXPECT_EQ(at_uplink(last(p)).verdict, kShot);
  EXPECT_EQ(at_uplink(last(from_lan(tcp(client, vip, kAck)))).verdict, kShot);
  EXPECT_EQ(host.drops("FRAGMENT"), 4U);
  // A backend that is another one now gets none of it.
  p = from_lan(udp(client, vip));
  at_uplink(first(p));
  host.backend(kWebId, web.to_string(), {.generation = kWebGeneration, .epoch = 2, .local = true});
  EXPECT_EQ(at_uplink(last(p)).verdict, kShot);
  EXPECT_EQ(host.drops("FRAGMENT"), 5U);
}

TEST_P(SizesTest, FragmentsToANodePortFollowAndOthersAreTheStacks) {
  host.ring(1, {kWebId}, 0);
  const SocketAddress node_port = on(self, 30080);
  host.frontend(node_port.to_string(), L4Proto::kUdp, {.inside = 1, .outside = 1});
  Packet p = from_lan(udp(client, node_port));
  EXPECT_EQ(at_uplink(last(p)).verdict, kPass);
  at_uplink(first(p));
  EXPECT_EQ(text(at_uplink(last(p)).out), "UDP-FRAGMENT client > web");
}

TEST_P(SizesTest, AReplyInFragmentsComesFromTheVip) {
  host.ring(1, {kWebId}, 0);
  at_uplink(from_lan(udp(client, vip)));
  const Packet reply = from_pod(udp(web, client));
  EXPECT_EQ(text(at_pod(first(reply)).out), "UDP vip > client ttl=63 +600");
  Outcome run = at_pod(last(reply));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "UDP-FRAGMENT vip > client");
  EXPECT_EQ(macs(run.out), "02:00:00:00:00:11 > 02:00:00:00:01:01");
  // The pod's own datagram to the same client, by chance with the same identification.
  const Packet own = from_pod(udp(on(web, 9), client));
  EXPECT_EQ(at_pod(first(own)).verdict, kPass);
  run = at_pod(last(own));
  EXPECT_EQ(run.verdict, kPass);
  EXPECT_EQ(text(run.out), "UDP-FRAGMENT web > client");
}

TEST_P(SizesTest, FragmentsOfAPodToAServiceFollowToo) {
  host.ring(1, {kFarId}, 0);
  const Packet p = from_pod(udp(on(web, 5555), cluster));
  EXPECT_EQ(at_pod(last(p)).verdict, kShot);
  EXPECT_TRUE(is_dsr(at_pod(first(p))));
  EXPECT_TRUE(is_dsr(at_pod(last(p))));
  EXPECT_EQ(host.drops("FRAGMENT"), 1U);
}

// The sender of a fragment that is too large is told: it makes smaller ones.
TEST_P(SizesTest, TooLargeFragmentsAreToldOrFragmented) {
  host.ring(1, {kFarId}, 0);
  Packet p = first(from_lan(udp(client, vip)));
  p.payload = v6 ? 1496 - 40 - 8 - 8 : 1496 - 20 - 8;
  Outcome run = at_uplink(p);
  if (v6)
    EXPECT_EQ(text(run.out), "ICMP too-big mtu=1450 vip > client (client > vip)");
  else
    EXPECT_TRUE(is_dsr(run));
  p.fragment = 0x2000 | 185;
  run = at_uplink(p);
  if (v6)
    EXPECT_EQ(text(run.out), "ICMP too-big mtu=1450 vip > client (client > vip)");
  else
    EXPECT_TRUE(is_dsr(run));
}

// Those who are told are bounded (1,000 a second, 50 at once), and the others counted.
TEST_P(SizesTest, NoMoreAreToldByIcmpThanTheKernelItselfWouldTell) {
  constexpr std::uint64_t kBurst = 50, kRunsMax = 20'000;
  const Packet refused = from_lan(udp(client, on(vip, 81)));
  const MonoTime began = SystemClock().now();
  std::uint64_t told = 0;
  while (told < kRunsMax && at_uplink(refused).verdict == kRedirect)
    told++;
  const auto took = SystemClock().now() - began;
  ASSERT_EQ(host.drops("ICMP_LIMIT"), 1U);
  EXPECT_EQ(host.drops("NO_FRONTEND"), told);
  EXPECT_GE(told, kBurst);
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(took).count();
  EXPECT_LE(told, kBurst + 1 + static_cast<std::uint64_t>(ms));
  // A reset is no ICMP, and is told.
  EXPECT_EQ(at_uplink(from_lan(tcp(client, on(vip, 81), kSyn))).verdict, kRedirect);
}

}  // namespace
}  // namespace shoal::bpftest
