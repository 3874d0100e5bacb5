// SPDX-License-Identifier: Apache-2.0
// Pod to pod without a tunnel: what a pod here sends to a pod of another host, and what comes by
// the LAN from there. Roles are in cast.h; the other host is a neighbour on up0.
#include "tests/bpf/overlay_cast.h"

namespace shoal::bpftest {
namespace {

const MacAddress kOtherMac = mac("02:00:00:00:00:12");

class NativeTest : public OverlayCast {
protected:
  void SetUp() override {
    OverlayCast::SetUp();
    sh("ip neigh replace 198.18.0.12 lladdr 02:00:00:00:00:12 dev up0");
    sh("ip route replace 10.244.2.0/24 via 198.18.0.12");
    sh("ip neigh replace 2001:db8:18::12 lladdr 02:00:00:00:00:12 dev up0");
    sh("ip route replace fd00:10:244:2::/64 via 2001:db8:18::12");
    ASSERT_TRUE(host.maps().put_host({.native = true}));
    ASSERT_TRUE(host.maps().put_node(pod_cidr(far), {kOtherHost, true}));
  }
  static Packet from_other_host(Packet p) {
    p.eth_dst = kUplinkMac;
    p.eth_src = kOtherMac;
    return p;
  }
};
SHOAL_BOTH_FAMILIES(NativeTest);

TEST_P(NativeTest, WhatAPodSendsToOneOfAnotherHostLeavesByTheRouteThere) {
  Outcome run = at_pod(from_pod(tcp(web, far, kSyn)));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "TCP web > far [S] seq=1000 ack=0 ttl=63 +0");
  EXPECT_EQ(macs(run.out), "02:00:00:00:00:11 > 02:00:00:00:00:12");
  // The stack tells the sender of what goes no further.
  Packet last = from_pod(tcp(web, far, kSyn));
  last.ttl = 1;
  EXPECT_EQ(at_pod(last).verdict, kPass);
  // A host that routes do not lead to.
  ASSERT_TRUE(host.maps().put_node(pod_cidr(far), {kOtherHost}));
  EXPECT_EQ(macs(at_pod(from_pod(tcp(web, far, kSyn))).out),
            "02:53:48:4f:41:4c > 02:73:68:6f:61:6c");
}

TEST_P(NativeTest, WhatDoesNotFitIntoTheOverlayIsToldToThePod) {
  Packet large = from_pod(udp(web, far));
  large.dont_fragment = true;
  large.payload = v6 ? 1500 - 48 : 1500 - 28;
  EXPECT_EQ(text(at_pod(large).out).substr(0, 14), "UDP web > far ");
  // The tunnel's frame would not fit into one of the LAN's.
  ASSERT_TRUE(host.maps().put_node(pod_cidr(far), {kOtherHost}));
  Outcome run = at_pod(large);
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "ICMP too-big mtu=1450 far > web (web > far)");
  EXPECT_EQ(macs(run.out), "02:00:00:00:bb:05 > 02:00:00:00:aa:05");
  EXPECT_EQ(host.drops("TOO_BIG"), 1U);
}

TEST_P(NativeTest, AReplyWithTheVipGoesByTheOverlay) {
  const Frame asked = dsr(tcp(far, cluster, kSyn), web, kWebGeneration);
  ASSERT_EQ(from(kOtherHost, kVniDsr, asked).verdict, kRedirect);
  Outcome run = at_pod(from_pod(tcp(web, far, kSyn | kAck)));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "TCP cluster > far [SA] seq=1000 ack=0 ttl=63 +0");
  EXPECT_EQ(macs(run.out), "02:53:48:4f:41:4c > 02:73:68:6f:61:6c");
}

TEST_P(NativeTest, APodOfAnotherHostReachesAPodHereAndThisHost) {
  Outcome run = at_uplink(from_other_host(tcp(far, web, kSyn)));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "TCP far > web [S] seq=1000 ack=0 ttl=63 +0");
  EXPECT_EQ(macs(run.out), "02:00:00:00:bb:05 > 02:00:00:00:aa:05");
  EXPECT_EQ(at_uplink(from_other_host(tcp(far, self, kSyn))).verdict, kPass);
  // By the overlay it may come, too: from a host of the other mode.
  EXPECT_EQ(from(kOtherHost, kVniPod, tcp(far, web, kSyn).frame()).verdict, kRedirect);
}

TEST_P(NativeTest, APodsAddressIsTakenFromItsHostOnly) {
  EXPECT_EQ(at_uplink(from_lan(tcp(far, web, kSyn))).verdict, kShot) << "c1 says it is far";
  EXPECT_EQ(at_uplink(from_lan(tcp(far, self, kSyn))).verdict, kShot);
  EXPECT_EQ(at_uplink(from_other_host(tcp(beside(web, 1), web, kSyn))).verdict, kShot)
      << "one of this host's own";
  EXPECT_EQ(host.drops("SPOOFED_SOURCE"), 3U);
  // By another device than the one that leads to its host.
  ASSERT_TRUE(host.loader().attach_uplink(ifindex_of("shl1peer")));
  Packet astray = from_other_host(tcp(far, web, kSyn));
  astray.eth_dst = kWebMac;  // that device's own
  EXPECT_EQ(host.run("shoal_uplink", astray.frame(), ifindex_of("shl1peer")).verdict, kShot);
  ASSERT_TRUE(host.loader().detach_uplink(ifindex_of("shl1peer")));
  // A neighbour that is not known cannot be held against anything.
  sh("ip neigh del 198.18.0.12 dev up0");
  EXPECT_EQ(at_uplink(from_lan(tcp(far, web, kSyn))).verdict, kRedirect);
  // Others are no pods: the stack's, as ever.
  EXPECT_EQ(at_uplink(from_lan(tcp(client, web, kSyn))).verdict, kPass);
}

TEST_P(NativeTest, AlsoForAServiceAddress) {
  host.ring(1, {kWebId}, 0);
  EXPECT_EQ(at_uplink(from_lan(tcp(far, vip, kSyn))).verdict, kShot) << "c1 says it is far";
  EXPECT_EQ(at_uplink(from_other_host(tcp(beside(web, 1), vip, kSyn))).verdict, kShot)
      << "one of this host's own";
  EXPECT_EQ(host.drops("SPOOFED_SOURCE"), 2U);
  EXPECT_EQ(text(at_uplink(from_other_host(tcp(far, vip, kSyn))).out),
            "TCP far > web [S] seq=1000 ack=0 ttl=64 +0");
  EXPECT_EQ(at_uplink(from_lan(tcp(client, vip, kSyn))).verdict, kRedirect);
}

TEST_P(NativeTest, NoPodSendsToMany) {
  for (const char* many : {"ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01"}) {
    Packet p = from_other_host(udp(far, self));
    p.eth_dst = mac(many);
    EXPECT_EQ(at_uplink(p).verdict, kShot) << many;
    p = from_other_host(udp(client, self));
    p.eth_dst = mac(many);
    EXPECT_EQ(at_uplink(p).verdict, kPass) << "no pod, " << many;
  }
  EXPECT_EQ(host.drops("SPOOFED_SOURCE"), 2U);
  // Somebody else's, which the stack leaves alone: this device hears all of the wire.
  Packet p = from_lan(tcp(far, vip, kSyn));
  p.eth_dst = mac("02:99:99:99:99:99");
  EXPECT_EQ(at_uplink(p).verdict, kPass);
}

TEST_P(NativeTest, OnAHostOfTheOtherModeTheStackHasIt) {
  ASSERT_TRUE(host.maps().put_host({}));
  EXPECT_EQ(at_uplink(from_other_host(tcp(far, web, kSyn))).verdict, kPass);
}

}  // namespace
}  // namespace shoal::bpftest
