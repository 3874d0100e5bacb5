// SPDX-License-Identifier: Apache-2.0
// Backends that are no pods: processes of this host and of another, and machines outside of the
// cluster; and pods of other hosts by SNAT. Their packets go by the stack, and their replies get
// the VIP back as they leave it. Roles are in cast.h.
#include "tests/bpf/overlay_cast.h"

namespace shoal::bpftest {
namespace {

constexpr std::uint32_t kToHost = 0x00400000;  // SHOAL_MARK_TO_HOST
constexpr model::BackendId kSelfId = 3, kOutsideId = 4, kOtherSelfId = 5;

class StackTest : public OverlayCast {
protected:
  void SetUp() override {
    OverlayCast::SetUp();
    me = on(self, 9000);
    outside = {v6 ? ip("2001:db8:18::77") : ip("198.18.0.77"), 5432};
    entry = {.v4 = cast_of(Family::kV4).self.ip,
             .v6 = cast_of(Family::kV6).self.ip,
             .stack_backends = true};
    ASSERT_TRUE(host.maps().put_host(entry));
    host.backend(kSelfId, me.to_string(), {.epoch = 1, .local = true, .stack = true});
    host.backend(kOutsideId, outside.to_string(), {.epoch = 1, .stack = true});
    host.backend(kOtherSelfId, beside(me, 1).to_string(),
                 {.epoch = 1, .node = kOtherHost, .stack = true});
  }
  Outcome leaving_uplink(const Packet& p) { return host.run("shoal_up_out", p.frame(), uplink); }
  Outcome leaving_to_pod(const Packet& p) { return host.run("shoal_pod_out", p.frame(), veth); }
  Outcome leaving_to_overlay(const Packet& p) {
    return host.run("shoal_ovl_out", p.frame(), ifindex_of("shoal-vxlan"));
  }
  // As another host's program encodes a process of this one.
  static Frame to_self(const Packet& p, const SocketAddress& backend) {
    Frame f = dsr(p, backend, 0);
    f[1] = 'h';
    return f;
  }
  // The other host's pods are reached by SNAT from outside, or by DSR again.
  void far_by_snat(bool snat, bool answers = true) {
    entry.snat = true;  // stays for a while
    ASSERT_TRUE(host.maps().put_host(entry));
    host.backend(
        kFarId, far.to_string(),
        {.generation = 9, .epoch = 1, .node = kOtherHost, .snat = snat, .answers = answers});
  }
  static Frame asked(const Packet& p, const SocketAddress& backend, std::uint16_t generation) {
    Frame f = dsr(p, backend, generation);
    f[1] = 'D';
    return f;
  }
  static Frame not_mine(const Packet& p, const SocketAddress& backend, std::uint16_t generation) {
    Frame f = dsr(p, backend, generation);
    f[1] = 'n';
    return f;
  }
  std::string named(const Frame& frame) const {
    return bpftest::text(frame, {{"client", client},
                                 {"vip", vip},
                                 {"cluster", cluster},
                                 {"web", web},
                                 {"far", far},
                                 {"me", me},
                                 {"outside", outside}});
  }

  SocketAddress me, outside;
  model::HostEntry entry;
};
SHOAL_BOTH_FAMILIES(StackTest);

TEST_P(StackTest, AProcessOfThisHostIsReachedByTheStackAndAnswersFromTheVip) {
  host.ring(1, {kSelfId}, 0);
  Outcome run = at_uplink(from_lan(tcp(client, vip, kSyn)));
  EXPECT_EQ(run.verdict, kPass);
  EXPECT_EQ(named(run.out), "TCP client > me [S] seq=1000 ack=0 ttl=64 +0");
  EXPECT_EQ(run.mark, 0U);
  run = leaving_uplink(tcp(me, client, kSyn | kAck));
  EXPECT_EQ(run.verdict, kPass);
  EXPECT_EQ(named(run.out), "TCP vip > client [SA] seq=1000 ack=0 ttl=64 +0");
  EXPECT_EQ(named(at_uplink(from_lan(udp(client, vip))).out), "UDP client > me ttl=64 +12");
  EXPECT_EQ(named(leaving_uplink(udp(me, client)).out), "UDP vip > client ttl=64 +12");
  // What else the host sends is its own.
  for (const Packet& own : {tcp(on(me, 22), client, kAck), udp(me, on(client, 1))})
    EXPECT_EQ(leaving_uplink(own).out, own.frame());
}

TEST_P(StackTest, APodsPacketGoesThereToo) {
  host.ring(1, {kSelfId}, 0);
  Outcome run = at_pod(from_pod(tcp(on(web, 5555), cluster, kSyn)));
  EXPECT_EQ(run.verdict, kPass);
  EXPECT_EQ(named(run.out), "TCP web:5555 > me [S] seq=1000 ack=0 ttl=64 +0");
  run = leaving_to_pod(tcp(me, on(web, 5555), kSyn | kAck));
  EXPECT_EQ(run.verdict, kPass);
  EXPECT_EQ(named(run.out), "TCP cluster > web:5555 [SA] seq=1000 ack=0 ttl=64 +0");
}

TEST_P(StackTest, AnErrorOfTheHostIsTheVips) {
  host.ring(1, {kSelfId}, 0);
  at_uplink(from_lan(udp(client, vip)));
  IcmpError error{
      .kind = "port-unreachable", .from = me.ip, .to = client.ip, .about = udp(client, me).frame()};
  const Outcome run = host.run("shoal_up_out", error.frame(), uplink);
  EXPECT_EQ(run.verdict, kPass);
  EXPECT_EQ(named(run.out), "ICMP port-unreachable vip > client (client > vip)");
}

TEST_P(StackTest, AMachineOutsideSeesOutsideClientsMasqueradedAndPodsToo) {
  host.ring(1, {kOutsideId}, 0);
  Outcome run = at_uplink(from_lan(tcp(client, vip, kSyn)));
  EXPECT_EQ(run.verdict, kPass);
  EXPECT_EQ(named(run.out), "TCP client > outside [S] seq=1000 ack=0 ttl=64 +0");
  EXPECT_EQ(run.mark, kernel::kMasqueradeMark);
  EXPECT_EQ(named(leaving_uplink(tcp(outside, client, kSyn | kAck)).out),
            "TCP vip > client [SA] seq=1000 ack=0 ttl=64 +0");
  // A pod's is masqueraded as all that it sends to the outside.
  run = at_pod(from_pod(tcp(on(web, 5555), cluster, kSyn)));
  EXPECT_EQ(run.verdict, kPass);
  EXPECT_EQ(named(run.out), "TCP web:5555 > outside [S] seq=1000 ack=0 ttl=64 +0");
  EXPECT_EQ(run.mark, 0U);
  EXPECT_EQ(named(leaving_to_pod(tcp(outside, on(web, 5555), kSyn | kAck)).out),
            "TCP cluster > web:5555 [SA] seq=1000 ack=0 ttl=64 +0");
}

TEST_P(StackTest, AProcessOfAnotherHostIsReachedByDsr) {
  host.ring(1, {kOtherSelfId}, 0);
  Outcome run = at_uplink(from_lan(tcp(client, vip, kSyn)));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(run.out, to_self(from_lan(tcp(client, vip, kSyn)), beside(me, 1)));
}

TEST_P(StackTest, AndThatHostGivesItToItsStack) {
  Outcome run = from(kOtherHost, kVniDsr, to_self(tcp(client, vip, kSyn), me));
  EXPECT_EQ(run.verdict, kPass);
  EXPECT_EQ(named(run.out), "TCP client > me [S] seq=1000 ack=0 ttl=64 +0");
  EXPECT_EQ(named(leaving_uplink(tcp(me, client, kSyn | kAck)).out),
            "TCP vip > client [SA] seq=1000 ack=0 ttl=64 +0");
  // The client is a pod of the other host.
  run = from(kOtherHost, kVniDsr, to_self(tcp(far, cluster, kSyn), me));
  EXPECT_EQ(named(run.out), "TCP far > me [S] seq=1000 ack=0 ttl=64 +0");
  EXPECT_EQ(named(leaving_to_overlay(tcp(me, far, kSyn | kAck)).out),
            "TCP cluster > far [SA] seq=1000 ack=0 ttl=64 +0");
  // Nobody's address.
  EXPECT_EQ(from(kOtherHost, kVniDsr, to_self(tcp(client, vip, kSyn), beside(me, 9))).verdict,
            kShot);
  EXPECT_EQ(host.drops("STALE_BACKEND"), 1U);
}

TEST_P(StackTest, AnAddressWrittenByHandIsWhoeverHasIt) {
  // Not even this host, when its own ends like the pod's.
  entry.v6 = IpAddress::from_bytes({0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5});
  ASSERT_TRUE(host.maps().put_host(entry));
  host.backend(kWebId, web.to_string(), {.epoch = 2, .local = true});
  host.ring(1, {kWebId}, 0);
  EXPECT_EQ(named(at_uplink(from_lan(tcp(client, vip, kSyn))).out),
            "TCP client > web [S] seq=1000 ack=0 ttl=64 +0");
  EXPECT_EQ(named(from(kOtherHost, kVniDsr, dsr(tcp(client, vip, kSyn), web, 0)).out),
            "TCP client > web [S] seq=1000 ack=0 ttl=64 +0");
}

TEST_P(StackTest, WithSnatPodsOfOtherHostsAreReachedByTheStack) {
  far_by_snat(true);
  host.ring(1, {kFarId}, 0);
  Packet p = from_lan(tcp(client, vip, kSyn));
  p.tcp_options = {2, 4, 0x05, 0xb4};
  Outcome run = at_uplink(p);
  EXPECT_EQ(run.verdict, kPass);
  EXPECT_EQ(run.mark, kernel::kMasqueradeMark);
  EXPECT_EQ(named(run.out),
            fmt::format("TCP client > far [S] seq=1000 ack=0 ttl=64 +0 mss={}", v6 ? 1390 : 1410));
  EXPECT_EQ(named(leaving_uplink(tcp(far, client, kSyn | kAck)).out),
            "TCP vip > client [SA] seq=1000 ack=0 ttl=64 +0");
  p = from_lan(udp(client, vip));
  p.payload = 1451 - (v6 ? 40 : 20) - 8;
  p.dont_fragment = true;
  EXPECT_EQ(named(at_uplink(p).out), "ICMP too-big mtu=1450 vip > client (client > vip)");
  // Pods' packets know the way without that.
  EXPECT_EQ(at_pod(from_pod(tcp(on(web, 5555), cluster, kSyn))).verdict, kRedirect);
}

TEST_P(StackTest, WhatIsOpenGoesOnAsItBeganWhenDsrBecomesSnat) {
  host.ring(1, {kFarId}, 0);
  const Packet open = from_lan(tcp(client, vip, kAck));
  EXPECT_EQ(at_uplink(open).verdict, kRedirect);
  far_by_snat(true);
  // Nobody knows here whose it is: its host is asked.
  Outcome run = at_uplink(open);
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(run.out, asked(open, far, 9));
  // That one does not know it: a connection by SNAT, of which this host has forgotten.
  run = from(kOtherHost, kVniDsr, not_mine(open, far, 9));
  EXPECT_EQ(run.verdict, kPass);
  EXPECT_EQ(run.mark, kernel::kMasqueradeMark);
  EXPECT_EQ(named(run.out), "TCP client > far [A] seq=1000 ack=0 ttl=64 +0");
  // And remembers from now on.
  run = at_uplink(open);
  EXPECT_EQ(run.verdict, kPass);
  EXPECT_EQ(run.mark, kernel::kMasqueradeMark);
  // A new one does not ask.
  EXPECT_EQ(at_uplink(from_lan(tcp(on(client, 7), vip, kSyn))).mark, kernel::kMasqueradeMark);
  EXPECT_EQ(at_uplink(from_lan(udp(client, vip))).mark, kernel::kMasqueradeMark);
}

// Nor does one whose host would not answer.
TEST_P(StackTest, AHostThatWouldNotAnswerIsNotAskedWhenDsrBecomesSnat) {
  host.ring(1, {kFarId}, 0);
  far_by_snat(true, false);
  const Outcome run = at_uplink(from_lan(tcp(client, vip, kAck)));
  EXPECT_EQ(run.verdict, kPass);
  EXPECT_EQ(run.mark, kernel::kMasqueradeMark);
}

TEST_P(StackTest, WhatIsOpenGoesOnAsItBeganWhenSnatBecomesDsr) {
  host.ring(1, {kFarId}, 0);
  far_by_snat(true);
  EXPECT_EQ(at_uplink(from_lan(tcp(client, vip, kSyn))).verdict, kPass);
  EXPECT_EQ(at_uplink(from_lan(udp(client, vip))).verdict, kPass);
  leaving_uplink(tcp(far, client, kSyn | kAck));
  Packet third = from_lan(tcp(client, vip, kAck));
  third.ack = 1001;
  at_uplink(third);
  far_by_snat(false);
  for (const Packet& open : {from_lan(tcp(client, vip, kAck)), from_lan(udp(client, vip))}) {
    const Outcome run = at_uplink(open);
    EXPECT_EQ(run.verdict, kPass);
    EXPECT_EQ(run.mark, kernel::kMasqueradeMark);
  }
  // What is new, and what was open before SNAT, goes by DSR, and nobody is asked.
  for (const Packet& other :
       {from_lan(tcp(on(client, 7), vip, kSyn)), from_lan(tcp(on(client, 8), vip, kAck))}) {
    const Outcome run = at_uplink(other);
    EXPECT_EQ(run.verdict, kRedirect);
    EXPECT_EQ(run.out, dsr(other, far, 9));
  }
}

// Service addresses are routed to the overlay device, for processes whose sockets no hook sees.
TEST_P(StackTest, AProcessOfThisHostIsBalancedAtTheOverlayDevice) {
  const SocketAddress asker = on(self, 5555);
  host.ring(1, {kWebId}, 0);
  Outcome run = leaving_to_overlay(tcp(asker, cluster, kSyn));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(named(run.out), "TCP me:5555 > web [S] seq=1000 ack=0 ttl=64 +0");
  EXPECT_EQ(macs(run.out), "02:00:00:00:bb:05 > 02:00:00:00:aa:05");
  // The pod's reply comes to the stack by the overlay device, where the VIP is routed.
  run = at_pod(from_pod(tcp(web, asker, kSyn | kAck)));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(run.mark, kToHost);
  EXPECT_EQ(named(run.out), "TCP cluster > me:5555 [SA] seq=1000 ack=0 ttl=64 +0");
  host.ring(1, {kFarId}, 1);
  run = leaving_to_overlay(udp(asker, cluster));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(run.out, dsr(udp(asker, cluster), far, 9));
}

TEST_P(StackTest, AProcessOfThisHostAsksAnotherOne) {
  const SocketAddress asker = on(self, 5555);
  host.ring(1, {kSelfId}, 0);
  Outcome run = leaving_to_overlay(tcp(asker, cluster, kSyn));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(run.mark, kToHost);
  EXPECT_EQ(named(run.out), "TCP cluster:5555 > me [S] seq=1000 ack=0 ttl=64 +0");
  run = leaving_to_overlay(tcp(me, on(cluster, 5555), kSyn | kAck));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(run.mark, kToHost);
  EXPECT_EQ(named(run.out), "TCP cluster > me:5555 [SA] seq=1000 ack=0 ttl=64 +0");
}

// By another host's node port: that one sends it here, where its client is this host.
TEST_P(StackTest, AProcessOfThisHostAsksAnotherOneByAnotherHost) {
  const SocketAddress asker = on(self, 5555);
  Outcome run = from(kOtherHost, kVniDsr, to_self(tcp(asker, vip, kSyn), me));
  EXPECT_EQ(run.verdict, kPass);
  EXPECT_EQ(named(run.out), "TCP vip:5555 > me [S] seq=1000 ack=0 ttl=64 +0");
  run = leaving_uplink(tcp(me, on(vip, 5555), kSyn | kAck));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(run.mark, kToHost);
  EXPECT_EQ(named(run.out), "TCP vip > me:5555 [SA] seq=1000 ack=0 ttl=64 +0");
  // It closes, and the host that was asked, which is seen as the client, asks by itself from that
  // port.
  EXPECT_EQ(from(kOtherHost, kVniDsr, to_self(tcp(asker, vip, kAck), me)).verdict, kPass);
  EXPECT_EQ(leaving_uplink(tcp(me, on(vip, 5555), kFin | kAck)).verdict, kRedirect);
  EXPECT_EQ(from(kOtherHost, kVniDsr, to_self(tcp(asker, vip, kFin | kAck), me)).verdict, kPass);
  EXPECT_EQ(from(kOtherHost, kVniDsr, to_self(tcp(asker, vip, kAck), me)).verdict, kPass);
  EXPECT_EQ(leaving_uplink(tcp(me, on(vip, 5555), kAck)).verdict, kRedirect);
  const Packet answer = tcp(me, on(vip, 5555), kSyn | kAck);
  const Outcome direct = leaving_uplink(answer);
  EXPECT_EQ(direct.verdict, kPass);
  EXPECT_EQ(named(direct.out), "TCP me > vip:5555 [SA] seq=1000 ack=0 ttl=64 +0");
  // Until this one asks once more.
  EXPECT_EQ(from(kOtherHost, kVniDsr, to_self(tcp(asker, vip, kSyn), me)).verdict, kPass);
  EXPECT_EQ(leaving_uplink(answer).verdict, kRedirect);
  // What a datagram's later fragments belong to is not known then.
  Packet later = udp(asker, vip);
  later.fragment = 64;
  EXPECT_EQ(from(kOtherHost, kVniDsr, to_self(later, me)).verdict, kShot);
  EXPECT_EQ(host.drops("HAIRPIN"), 1U);
}

TEST_P(StackTest, AProcessOfThisHostAsksAMachineOutside) {
  const SocketAddress asker = on(self, 5555);
  host.ring(1, {kOutsideId}, 0);
  Outcome run = leaving_to_overlay(tcp(asker, cluster, kSyn));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(run.mark, 0U);
  EXPECT_EQ(named(run.out), "TCP me:5555 > outside [S] seq=1000 ack=0 ttl=63 +0");
  run = at_uplink(from_lan(tcp(outside, asker, kSyn | kAck)));
  EXPECT_EQ(run.verdict, kPass);
  EXPECT_EQ(named(run.out), "TCP cluster > me:5555 [SA] seq=1000 ack=0 ttl=64 +0");
}

TEST_P(StackTest, AProcessOfThisHostIsRefusedAtOnceAndAnsweredEchoes) {
  const SocketAddress asker = on(self, 5555);
  Outcome run = leaving_to_overlay(tcp(asker, cluster, kSyn));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(run.mark, kToHost);
  EXPECT_EQ(named(run.out), "TCP cluster > me:5555 [RA] seq=0 ack=1001 ttl=64 +0");
  run = host.run("shoal_ovl_out", echo_request(tcp(asker, cluster, 0)), ifindex_of("shoal-vxlan"));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(run.mark, kToHost);
  // An address of the range that no service has.
  EXPECT_EQ(leaving_to_overlay(tcp(asker, beside(cluster, 1), kSyn)).verdict, kShot);
  EXPECT_EQ(host.drops("UNKNOWN_POD"), 1U);
}

TEST_P(StackTest, WithoutSuchBackendsWhatLeavesIsNotLookedAt) {
  host.ring(1, {kSelfId}, 0);
  at_uplink(from_lan(tcp(client, vip, kSyn)));
  ASSERT_TRUE(host.maps().put_host({.v4 = entry.v4, .v6 = entry.v6}));
  const Packet reply = tcp(me, client, kSyn | kAck);
  EXPECT_EQ(leaving_uplink(reply).out, reply.frame());
}

}  // namespace
}  // namespace shoal::bpftest
