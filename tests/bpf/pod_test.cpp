// SPDX-License-Identifier: Apache-2.0
// What the pod program does with frames that a pod sends. Roles are in cast.h.
#include "tests/bpf/cast.h"

namespace shoal::bpftest {
namespace {

using PodTest = CastTest;

TEST_F(PodTest, OnlyItsOwnSourceAddress) {
  EXPECT_EQ(at_pod(from_pod(tcp(at("10.244.1.6:1"), kClient, kSyn))).verdict, kShot);
  EXPECT_EQ(at_pod(from_pod(tcp(kVip, kClient, kAck))).verdict, kShot);
  EXPECT_EQ(host.drops("SPOOFED_SOURCE"), 2U);
  // Another pod's address, from this pod's device.
  ASSERT_TRUE(host.maps().put_pod(ip("10.244.1.6"), {veth + 1000, 1, kWebMac, kVethMac}));
  EXPECT_EQ(at_pod(from_pod(tcp(at("10.244.1.6:1"), kClient, kSyn))).verdict, kShot);
  EXPECT_EQ(at_pod(from_pod(tcp(kWeb, kClient, kSyn))).verdict, kPass);
}

TEST_F(PodTest, ReplyOfABalancedFlowComesFromTheVip) {
  host.ring(1, {kWebId}, 0);
  at_uplink(from_lan(tcp(kClient, kVip, kSyn)));
  Outcome run = at_pod(from_pod(tcp(kWeb, kClient, kSyn | kAck)));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out),
            "TCP 198.18.100.1:80 > 198.18.0.101:40000 [SA] seq=1000 ack=0 ttl=63 +0");
  EXPECT_EQ(macs(run.out), "02:00:00:00:00:11 > 02:00:00:00:01:01");  // the neighbour is known
  at_uplink(from_lan(udp(kClient, kVip)));
  EXPECT_EQ(text(at_pod(from_pod(udp(kWeb, kClient))).out),
            "UDP 198.18.100.1:80 > 198.18.0.101:40000 ttl=63 +12");
}

TEST_F(PodTest, ReplyToAnUnresolvedNeighbourIsRedirectedNotDropped) {
  host.ring(1, {kWebId}, 0);
  const SocketAddress stranger = at("198.18.0.202:40000");
  at_uplink(from_lan(tcp(stranger, kVip, kSyn)));
  Outcome run = at_pod(from_pod(tcp(kWeb, stranger, kSyn | kAck)));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out),
            "TCP 198.18.100.1:80 > 198.18.0.202:40000 [SA] seq=1000 ack=0 ttl=63 +0");
}

TEST_F(PodTest, ReplyToThisHostItselfGoesToTheStack) {
  host.ring(1, {kWebId}, 0);
  const SocketAddress self = at("198.18.0.11:40000");
  at_uplink(from_lan(tcp(self, kVip, kSyn)));
  Outcome run = at_pod(from_pod(tcp(kWeb, self, kSyn | kAck)));
  EXPECT_EQ(run.verdict, kPass);
  EXPECT_EQ(text(run.out), "TCP 198.18.100.1:80 > 198.18.0.11:40000 [SA] seq=1000 ack=0 ttl=64 +0");
}

TEST_F(PodTest, DirectConnectionFromThePortOfAClosedFlowIsNotTranslated) {
  host.ring(1, {kWebId}, 0);
  at_uplink(from_lan(tcp(kClient, kVip, kSyn)));
  at_uplink(from_lan(tcp(kClient, kVip, kFin | kAck)));
  EXPECT_EQ(at_pod(from_pod(tcp(kWeb, kClient, kFin | kAck))).verdict, kRedirect);
  EXPECT_EQ(at_pod(from_pod(tcp(kWeb, kClient, kSyn | kAck))).verdict,
            kPass);  // the stack's, from its own address
  EXPECT_EQ(at_pod(from_pod(tcp(kWeb, kClient, kAck))).verdict, kPass);
}

TEST_F(PodTest, ServiceAddressThatNoHookTranslatedIsBalancedHere) {
  host.ring(1, {kFarId}, 0);
  Packet p = from_pod(tcp(at("10.244.1.5:5555"), kClusterIp, kSyn));
  Outcome run = at_pod(p);
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(run.out[1], 'd');
  EXPECT_EQ(text(run.out), text(p.frame()));
}

TEST_F(PodTest, BalancedToItselfIsANamedDrop) {
  host.ring(1, {kWebId}, 0);
  EXPECT_EQ(at_pod(from_pod(tcp(at("10.244.1.5:5555"), kClusterIp, kSyn))).verdict, kShot);
  EXPECT_EQ(host.drops("HAIRPIN"), 1U);
}

TEST_F(PodTest, RefusalsComeBackToThePod) {
  Outcome run = at_pod(from_pod(tcp(at("10.244.1.5:5555"), kClusterIp, kSyn)));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "TCP 10.96.0.10:80 > 10.244.1.5:5555 [RA] seq=0 ack=1001 ttl=64 +0");
  EXPECT_EQ(macs(run.out), "02:00:00:00:bb:05 > 02:00:00:00:aa:05");
}

TEST_F(PodTest, PodsHereAndElsewhereAreReachedDirectly) {
  const MacAddress db_mac = mac("02:00:00:00:aa:06"), db_host = mac("02:00:00:00:bb:06");
  ASSERT_TRUE(host.maps().put_pod(ip("10.244.1.6"), {veth + 1, 1, db_mac, db_host}));
  Outcome run = at_pod(from_pod(tcp(kWeb, at("10.244.1.6:5432"), kSyn)));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "TCP 10.244.1.5:8080 > 10.244.1.6:5432 [S] seq=1000 ack=0 ttl=63 +0");
  EXPECT_EQ(macs(run.out), db_host.to_string() + " > " + db_mac.to_string());
  run = at_pod(from_pod(tcp(kWeb, kFar, kSyn)));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "TCP 10.244.1.5:8080 > 10.244.2.7:8080 [S] seq=1000 ack=0 ttl=63 +0");
  EXPECT_EQ(macs(run.out), "02:53:48:4f:41:4c > 02:73:68:6f:61:6c");
  // Our own CIDR, but nobody: the stack says so. An expiring hop limit too.
  EXPECT_EQ(at_pod(from_pod(tcp(kWeb, at("10.244.1.77:1"), kSyn))).verdict, kPass);
  Packet expiring = from_pod(tcp(kWeb, kFar, kSyn));
  expiring.ttl = 1;
  EXPECT_EQ(at_pod(expiring).verdict, kPass);
}

TEST_F(PodTest, FragmentsBetweenPodsPassButNotToAVip) {
  Packet p = from_pod(udp(kWeb, kFar));
  p.fragment = 185;
  EXPECT_EQ(at_pod(p).verdict, kRedirect);
  p.to = kClusterIp;
  EXPECT_EQ(at_pod(p).verdict, kShot);
  EXPECT_EQ(host.drops("FRAGMENT"), 1U);
}

TEST_F(PodTest, ShortHeadersAreDroppedAndOtherProtocolsPass) {
  const Frame whole = from_pod(tcp(kWeb, kFar, kSyn)).frame();
  for (std::size_t bytes = kShortestRun; bytes < whole.size(); ++bytes)
    EXPECT_EQ(
        host.run("shoal_pod", Frame(whole.begin(), whole.begin() + static_cast<long>(bytes)), veth)
            .verdict,
        kShot)
        << bytes;
  EXPECT_EQ(host.run("shoal_pod", arp_request(kWebMac, kWeb.ip, ip("169.254.1.1")), veth).verdict,
            kPass);
}

}  // namespace
}  // namespace shoal::bpftest
