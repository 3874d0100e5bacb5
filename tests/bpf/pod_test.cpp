// SPDX-License-Identifier: Apache-2.0
// What the pod program does with frames that a pod sends. Roles are in cast.h.
#include "tests/bpf/cast.h"

namespace shoal::bpftest {
namespace {

using PodTest = BothFamilies;
SHOAL_BOTH_FAMILIES(PodTest);

TEST_P(PodTest, OnlyItsOwnSourceAddress) {
  EXPECT_EQ(at_pod(from_pod(tcp(beside(web, 1), client, kSyn))).verdict, kShot);
  EXPECT_EQ(at_pod(from_pod(tcp(vip, client, kAck))).verdict, kShot);
  EXPECT_EQ(host.drops("SPOOFED_SOURCE"), 2U);
  // Another pod's address, from this pod's device.
  ASSERT_TRUE(host.maps().put_pod(beside(web, 1).ip, {veth + 1000, 1, kWebMac, kVethMac}));
  EXPECT_EQ(at_pod(from_pod(tcp(beside(web, 1), client, kSyn))).verdict, kShot);
  EXPECT_EQ(at_pod(from_pod(tcp(web, client, kSyn))).verdict, kPass);
}

TEST_P(PodTest, ReplyOfABalancedFlowComesFromTheVip) {
  host.ring(1, {kWebId}, 0);
  at_uplink(from_lan(tcp(client, vip, kSyn)));
  Outcome run = at_pod(from_pod(tcp(web, client, kSyn | kAck)));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "TCP vip > client [SA] seq=1000 ack=0 ttl=63 +0");
  EXPECT_EQ(macs(run.out), "02:00:00:00:00:11 > 02:00:00:00:01:01");  // the neighbour is known
  at_uplink(from_lan(udp(client, vip)));
  EXPECT_EQ(text(at_pod(from_pod(udp(web, client))).out), "UDP vip > client ttl=63 +12");
}

TEST_P(PodTest, ReplyToAnUnresolvedNeighbourIsRedirectedNotDropped) {
  host.ring(1, {kWebId}, 0);
  const SocketAddress stranger = beside(client, 101);
  at_uplink(from_lan(tcp(stranger, vip, kSyn)));
  Outcome run = at_pod(from_pod(tcp(web, stranger, kSyn | kAck)));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "TCP vip > " + stranger.to_string() + " [SA] seq=1000 ack=0 ttl=63 +0");
}

TEST_P(PodTest, ReplyToThisHostItselfGoesToTheStack) {
  host.ring(1, {kWebId}, 0);
  at_uplink(from_lan(tcp(self, vip, kSyn)));
  Outcome run = at_pod(from_pod(tcp(web, self, kSyn | kAck)));
  EXPECT_EQ(run.verdict, kPass);
  EXPECT_EQ(text(run.out), "TCP vip > self [SA] seq=1000 ack=0 ttl=64 +0");
}

TEST_P(PodTest, DirectConnectionFromThePortOfAClosedFlowIsNotTranslated) {
  host.ring(1, {kWebId}, 0);
  at_uplink(from_lan(tcp(client, vip, kSyn)));
  at_uplink(from_lan(tcp(client, vip, kFin | kAck)));
  EXPECT_EQ(at_pod(from_pod(tcp(web, client, kFin | kAck))).verdict, kRedirect);
  EXPECT_EQ(at_pod(from_pod(tcp(web, client, kSyn | kAck))).verdict,
            kPass);  // the stack's, from its own address
  EXPECT_EQ(at_pod(from_pod(tcp(web, client, kAck))).verdict, kPass);
}

TEST_P(PodTest, ServiceAddressThatNoHookTranslatedIsBalancedHere) {
  host.ring(1, {kFarId}, 0);
  Packet p = from_pod(tcp(on(web, 5555), cluster, kSyn));
  Outcome run = at_pod(p);
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(run.out[1], 'd');
  EXPECT_EQ(text(run.out), text(p.frame()));
}

// Both ends of a connection cannot be the pod's own address, so the VIP stands for the client.
TEST_P(PodTest, BalancedToItselfItSeesTheVipAsItsClient) {
  host.ring(1, {kWebId}, 0);
  Outcome run = at_pod(from_pod(tcp(on(web, 5555), cluster, kSyn)));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "TCP cluster:5555 > web [S] seq=1000 ack=0 ttl=64 +0");
  EXPECT_EQ(macs(run.out), "02:00:00:00:bb:05 > 02:00:00:00:aa:05");
  run = at_pod(from_pod(tcp(web, on(cluster, 5555), kSyn | kAck)));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "TCP cluster > web:5555 [SA] seq=1000 ack=0 ttl=63 +0");
  EXPECT_EQ(macs(run.out), "02:00:00:00:bb:05 > 02:00:00:00:aa:05");
  EXPECT_EQ(text(at_pod(from_pod(udp(on(web, 5555), cluster))).out),
            "UDP cluster:5555 > web ttl=64 +12");
  EXPECT_EQ(text(at_pod(from_pod(udp(web, on(cluster, 5555)))).out),
            "UDP cluster > web:5555 ttl=63 +12");
}

TEST_P(PodTest, FragmentsOfAPodToItselfAreANamedDrop) {
  host.ring(1, {kWebId}, 0);
  Packet p = from_pod(udp(on(web, 5555), cluster));
  p.fragment = 0x2000;
  p.payload = 600;
  EXPECT_EQ(at_pod(p).verdict, kRedirect);
  p.fragment = 76;
  EXPECT_EQ(at_pod(p).verdict, kShot);
  EXPECT_EQ(host.drops("HAIRPIN"), 1U);
  p = from_pod(udp(web, on(cluster, 5555)));
  p.id = 0x4321;
  p.fragment = 0x2000;
  p.payload = 600;
  EXPECT_EQ(at_pod(p).verdict, kRedirect);
  p.fragment = 76;
  EXPECT_EQ(at_pod(p).verdict, kShot);
  EXPECT_EQ(host.drops("FRAGMENT"), 1U);
}

TEST_P(PodTest, RefusalsComeBackToThePod) {
  Outcome run = at_pod(from_pod(tcp(on(web, 5555), cluster, kSyn)));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "TCP cluster > web:5555 [RA] seq=0 ack=1001 ttl=64 +0");
  EXPECT_EQ(macs(run.out), "02:00:00:00:bb:05 > 02:00:00:00:aa:05");
}

TEST_P(PodTest, PodsHereAndElsewhereAreReachedDirectly) {
  const MacAddress db_mac = mac("02:00:00:00:aa:06"), db_host = mac("02:00:00:00:bb:06");
  ASSERT_TRUE(host.maps().put_pod(beside(web, 1).ip, {veth + 1, 1, db_mac, db_host}));
  Outcome run = at_pod(from_pod(tcp(web, on(beside(web, 1), 5432), kSyn)));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out),
            "TCP web > " + on(beside(web, 1), 5432).to_string() + " [S] seq=1000 ack=0 ttl=63 +0");
  EXPECT_EQ(macs(run.out), db_host.to_string() + " > " + db_mac.to_string());
  run = at_pod(from_pod(tcp(web, far, kSyn)));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "TCP web > far [S] seq=1000 ack=0 ttl=63 +0");
  EXPECT_EQ(macs(run.out), "02:53:48:4f:41:4c > 02:73:68:6f:61:6c");
  // Our own CIDR, but nobody: the stack says so. An expiring hop limit too.
  EXPECT_EQ(at_pod(from_pod(tcp(web, beside(web, 72), kSyn))).verdict, kPass);
  Packet expiring = from_pod(tcp(web, far, kSyn));
  expiring.ttl = 1;
  EXPECT_EQ(at_pod(expiring).verdict, kPass);
}

TEST_P(PodTest, FragmentsBetweenPodsPassButNotToAVip) {
  Packet p = from_pod(udp(web, far));
  p.fragment = 185;
  EXPECT_EQ(at_pod(p).verdict, kRedirect);
  p.to = cluster;
  EXPECT_EQ(at_pod(p).verdict, kShot);
  EXPECT_EQ(host.drops("FRAGMENT"), 1U);
}

TEST_P(PodTest, ShortHeadersAreDroppedAndOtherProtocolsPass) {
  const Frame whole = from_pod(tcp(web, far, kSyn)).frame();
  for (std::size_t bytes = shortest_run(); bytes < whole.size(); ++bytes)
    EXPECT_EQ(
        host.run("shoal_pod", Frame(whole.begin(), whole.begin() + static_cast<long>(bytes)), veth)
            .verdict,
        kShot)
        << bytes;
  EXPECT_EQ(host.run("shoal_pod", arp_request(kWebMac, ip("10.244.1.5"), ip("169.254.1.1")), veth)
                .verdict,
            kPass);
}

}  // namespace
}  // namespace shoal::bpftest
