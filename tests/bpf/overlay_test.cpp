// SPDX-License-Identifier: Apache-2.0
// What the overlay program does with frames of other hosts, which here means: with the tunnel key
// that the harness gives them. Roles are in cast.h.
#include "tests/bpf/overlay_cast.h"

namespace shoal::bpftest {
namespace {

using OverlayTest = OverlayCast;
SHOAL_BOTH_FAMILIES(OverlayTest);

TEST_P(OverlayTest, OtherHostsPodToAPodHere) {
  Outcome run = from(kOtherHost, kVniPod, tcp(far, web, kSyn).frame());
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "TCP far > web [S] seq=1000 ack=0 ttl=63 +0");
  EXPECT_EQ(macs(run.out), "02:00:00:00:bb:05 > 02:00:00:00:aa:05");
}

TEST_P(OverlayTest, HostAddressIsTheStacksAndUnknownPodsAreDropped) {
  EXPECT_EQ(from(kOtherHost, kVniPod, tcp(far, on(self, 9000), kSyn).frame()).verdict, kPass);
  EXPECT_EQ(from(kOtherHost, kVniPod, tcp(far, beside(web, 94), kSyn).frame()).verdict, kShot);
  EXPECT_EQ(from(kOtherHost, kVniPod, tcp(far, beside(far, 2), kSyn).frame()).verdict, kShot);
  EXPECT_EQ(host.drops("UNKNOWN_POD"), 2U);
}

TEST_P(OverlayTest, StrangersAndUnknownNetworksAreDropped) {
  EXPECT_EQ(from(ip("198.18.0.66"), kVniPod, tcp(far, web, kSyn).frame()).verdict, kShot);
  EXPECT_EQ(host.drops("UNKNOWN_NODE"), 1U);
  EXPECT_EQ(from(kOtherHost, 77, tcp(far, web, kSyn).frame()).verdict, kShot);
  EXPECT_EQ(host.drops("TUNNEL"), 1U);
  // A host that has left is a stranger.
  ASSERT_TRUE(host.maps().delete_node(pod_cidr(far)));
  EXPECT_EQ(from(kOtherHost, kVniPod, tcp(far, web, kSyn).frame()).verdict, kShot);
  EXPECT_EQ(host.drops("UNKNOWN_NODE"), 2U);
}

TEST_P(OverlayTest, BalancedFrameReachesTheNamedBackendAndItsReplyComesFromTheVip) {
  Outcome run = from(kOtherHost, kVniDsr, dsr(tcp(client, vip, kSyn), web, kWebGeneration));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "TCP client > web [S] seq=1000 ack=0 ttl=64 +0");
  EXPECT_EQ(macs(run.out), "02:00:00:00:bb:05 > 02:00:00:00:aa:05");
  EXPECT_EQ(text(at_pod(from_pod(tcp(web, client, kSyn | kAck))).out),
            "TCP vip > client [SA] seq=1000 ack=0 ttl=63 +0");
}

TEST_P(OverlayTest, WhatOneHostEncodesTheOtherDecodes) {
  // This host balances to `far`; the frame is then given to a host where that pod lives (here, for
  // the test).
  host.ring(1, {kFarId}, 0);
  Outcome balanced = at_uplink(from_lan(udp(client, vip)));
  ASSERT_EQ(balanced.verdict, kRedirect);
  ASSERT_TRUE(host.maps().put_node(pod_cidr(web), {kOtherHost}));
  ASSERT_TRUE(host.maps().put_node(pod_cidr(far), {}));
  ASSERT_TRUE(host.maps().put_pod(far.ip, {veth, 9, kWebMac, kVethMac}));
  Outcome run = from(kOtherHost, kVniDsr, balanced.out);
  EXPECT_EQ(text(run.out), "UDP client > far ttl=64 +12");
  // Of an IPv6 address only the low 32 bits travel; the rest is what this host's own CIDR says.
  run = from(kOtherHost, kVniDsr, dsr(udp(client, vip), web, kWebGeneration));
  EXPECT_EQ(run.verdict, v6 ? kShot : kRedirect);
  EXPECT_EQ(host.drops("STALE_BACKEND"), v6 ? 1U : 0U);
}

// ---- questions: whose connection is it?

TEST_P(OverlayTest, WhoIsAskedAndHasTheConnectionTakesIt) {
  for (const std::uint8_t flags : {kSyn, kAck})
    from(kOtherHost, kVniDsr, dsr(tcp(client, vip, flags), web, kWebGeneration));
  Frame question = dsr(tcp(client, vip, kAck), web, kWebGeneration);
  question[1] = 'D';
  Outcome run = from(kOtherHost, kVniDsr, question);
  EXPECT_EQ(text(run.out), "TCP client > web [A] seq=1000 ack=0 ttl=64 +0");
  EXPECT_EQ(macs(run.out), "02:00:00:00:bb:05 > 02:00:00:00:aa:05");
}

TEST_P(OverlayTest, WhoIsAskedAndDoesNotHaveItSendsItBack) {
  from(kOtherHost, kVniDsr, dsr(tcp(client, vip, kSyn), web, kWebGeneration));
  const auto not_mine = [&](const Packet& p, std::uint16_t generation) {
    Frame frame = dsr(p, web, generation);
    frame[1] = 'D';
    Outcome run = from(kOtherHost, kVniDsr, frame);
    EXPECT_EQ(run.verdict, kRedirect);
    frame[1] = 'n';
    EXPECT_EQ(run.out, frame) << text(run.out);
  };
  not_mine(tcp(on(client, 1), vip, kAck), kWebGeneration);   // another client's,
  not_mine(tcp(client, on(vip, 81), kAck), kWebGeneration);  // another port's,
  not_mine(tcp(client, vip, kAck), kWebGeneration - 1);      // an earlier pod's
  not_mine(tcp(client, vip, kAck), kWebGeneration);          // nobody has answered it here,
  Packet answer = from_pod(tcp(web, client, kSyn | kAck));
  answer.seq = 4999;
  host.run("shoal_pod", answer.frame(), veth);
  Packet p = tcp(client, vip, kAck);
  for (const std::uint32_t ack : {0U, 4999U, 5000U + (1U << 20)}) {  // and not what it answers
    p.ack = ack;
    not_mine(p, kWebGeneration);
  }
  EXPECT_EQ(host.maps().flows(10).value().size(), 1U) << "a question leaves nothing";
}

// web here had the slots, then far there: it says no, and the connection is found here.
TEST_P(OverlayTest, TheAnswerLeadsToTheOwnerBefore) {
  host.ring(1, all(kWebId), 0);
  opened(client);
  host.change_ring(1, all(kFarId), 4);
  Outcome asked = at_uplink(from_lan(tcp(client, vip, kAck)));
  ASSERT_EQ(asked.out[1], 'D');
  asked.out[1] = 'n';
  Outcome run = from(kOtherHost, kVniDsr, asked.out);
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "TCP client > web [A] seq=1000 ack=0 ttl=64 +0");
  // It is asked no more.
  EXPECT_EQ(text(at_uplink(from_lan(tcp(client, vip, kAck))).out),
            "TCP client > web [A] seq=1000 ack=0 ttl=64 +0");
  EXPECT_EQ(unclaimed(), 0U);
}

// Two changes: the owners of both are asked, one after the other, on other hosts.
TEST_P(OverlayTest, EveryOwnerIsAskedAndThenThePresentOneHasIt) {
  const SocketAddress third = beside(far, 1);
  const SocketAddress fourth = beside(far, 2);
  host.backend(kThirdId, third.to_string(),
               {.generation = 4, .epoch = 2, .node = kOtherHost, .answers = true});
  host.backend(kFourthId, fourth.to_string(),
               {.generation = 5, .epoch = 2, .node = kOtherHost, .answers = true});
  host.ring(1, all(kThirdId), 0);
  host.change_ring(1, all(kFourthId), 4);
  host.change_ring(1, all(kFarId), 8);
  Outcome run = at_uplink(from_lan(tcp(client, vip, kAck)));
  const auto to = [&](const Outcome& out) {
    return fmt::format("{}{}", static_cast<char>(out.out[1]), int{out.out[5]});
  };
  const int last = far.ip.bytes()[15];
  EXPECT_EQ(to(run), fmt::format("D{}", last));
  run.out[1] = 'n';
  run = from(kOtherHost, kVniDsr, run.out);
  EXPECT_EQ(to(run), fmt::format("D{}", last + 2));
  EXPECT_EQ(to(at_uplink(from_lan(tcp(client, vip, kAck)))), fmt::format("D{}", last + 2))
      << "it has not said yes";
  run.out[1] = 'n';
  run = from(kOtherHost, kVniDsr, run.out);
  EXPECT_EQ(to(run), fmt::format("D{}", last + 1));
  EXPECT_EQ(unclaimed(), 0U);
  run.out[1] = 'n';
  run = from(kOtherHost, kVniDsr, run.out);
  EXPECT_EQ(to(run), fmt::format("d{}", last)) << "it is the present owner's, without a question";
  EXPECT_EQ(unclaimed(), 1U);
  EXPECT_EQ(to(at_uplink(from_lan(tcp(client, vip, kAck)))), fmt::format("d{}", last));
}

using Ipv6OverlayTest = OverlayTest;
INSTANTIATE_TEST_SUITE_P(Ip, Ipv6OverlayTest, testing::Values(Family::kV6), family_name);

// The frame of an answer has the low bits of an owner's address only. Hosts' IPv6 CIDRs differ in
// the upper ones, and give their first pods the same.
TEST_P(Ipv6OverlayTest, OwnersOfOtherHostsWithTheSameLowBitsAreStillToBeAsked) {
  const IpAddress third_host = ip("198.18.0.13");
  IpAddress::Bytes bytes = far.ip.bytes();
  bytes[7] ^= 1;
  const SocketAddress third{IpAddress::from_bytes(bytes), far.port};
  ASSERT_TRUE(host.maps().put_node(pod_cidr(third), {third_host}));
  host.backend(kThirdId, third.to_string(),
               {.generation = 4, .epoch = 2, .node = third_host, .answers = true});
  host.ring(1, all(kThirdId), 0);
  host.change_ring(1, all(kFarId), 4);
  Outcome run = at_uplink(from_lan(tcp(client, vip, kAck)));
  EXPECT_EQ(run.out[9], 9) << "the present owner's generation";
  run.out[1] = 'n';
  run = from(kOtherHost, kVniDsr, run.out);
  EXPECT_EQ(run.out[1], 'D');
  EXPECT_EQ(run.out[9], 4) << "the one before";
  run.out[1] = 'n';
  run = from(third_host, kVniDsr, run.out);
  EXPECT_EQ(run.out[1], 'd');
  EXPECT_EQ(run.out[9], 9);
  EXPECT_EQ(unclaimed(), 1U);
}

// A former owner's host has died, or is of a build that knows no questions: it hides nobody. What
// nobody else has is sent to it as its own, in case that it is there after all.
TEST_P(OverlayTest, WhoDoesNotAnswerIsNotAskedAndComesLast) {
  const SocketAddress third = beside(far, 1);
  host.backend(kThirdId, third.to_string(), {.generation = 4, .epoch = 2, .node = kOtherHost});
  host.ring(1, all(kWebId), 0);
  opened(client);
  host.change_ring(1, all(kThirdId), 4);
  host.change_ring(1, all(kFarId), 8);
  const auto answered_no = [&](const SocketAddress& who) {
    Outcome run = at_uplink(from_lan(tcp(who, vip, kAck)));
    EXPECT_EQ(run.out[1], 'D');
    EXPECT_EQ(run.out[5], far.ip.bytes()[15]);
    run.out[1] = 'n';
    return from(kOtherHost, kVniDsr, run.out);
  };
  EXPECT_EQ(text(answered_no(client).out), "TCP client > web [A] seq=1000 ack=0 ttl=64 +0");
  const Outcome other = answered_no(on(client, 40001));
  EXPECT_EQ(other.out[1], 'd');
  EXPECT_EQ(other.out[5], third.ip.bytes()[15]);
  // The present owner's host neither: it is asked nothing, and what a former one has is found.
  host.backend(kFarId, far.to_string(), {.generation = 9, .epoch = 1, .node = kOtherHost});
  host.change_ring(1, all(kFarId), 12);
  const SocketAddress another = on(client, 40002);
  host.ring(1, all(kWebId), 20);
  opened(another);
  host.change_ring(1, all(kFarId), 24);
  EXPECT_EQ(text(at_uplink(from_lan(tcp(another, vip, kAck))).out).substr(0, 3), "TCP");
  EXPECT_EQ(macs(at_uplink(from_lan(tcp(another, vip, kAck))).out),
            "02:00:00:00:bb:05 > 02:00:00:00:aa:05");
  EXPECT_EQ(at_uplink(from_lan(tcp(on(client, 40003), vip, kAck))).out[1], 'd');
  EXPECT_EQ(unclaimed(), 0U);
}

// Asked while it lived: when its host is known to be dead, the flow's entry hides nobody either.
TEST_P(OverlayTest, AnOwnerThatDiedWithoutAnAnswerIsPassedOver) {
  host.ring(1, all(kWebId), 0);
  opened(client);
  const SocketAddress third = beside(far, 1);
  host.backend(kThirdId, third.to_string(),
               {.generation = 4, .epoch = 2, .node = kOtherHost, .answers = true});
  host.change_ring(1, all(kThirdId), 4);
  host.change_ring(1, all(kFarId), 8);
  Outcome run = at_uplink(from_lan(tcp(client, vip, kAck)));
  run.out[1] = 'n';
  run = from(kOtherHost, kVniDsr, run.out);
  EXPECT_EQ(run.out[1], 'D');
  EXPECT_EQ(run.out[5], third.ip.bytes()[15]);
  host.backend(kThirdId, third.to_string(), {.generation = 4, .epoch = 2, .node = kOtherHost});
  run = at_uplink(from_lan(tcp(client, vip, kAck)));
  EXPECT_EQ(run.out[5], far.ip.bytes()[15]) << "from the beginning";
  run.out[1] = 'n';
  EXPECT_EQ(text(from(kOtherHost, kVniDsr, run.out).out),
            "TCP client > web [A] seq=1000 ack=0 ttl=64 +0");
}

TEST_P(OverlayTest, AnswersAboutNothingAreDropped) {
  host.ring(1, all(kFarId), 0);
  Frame answer = dsr(tcp(client, on(vip, 81), kAck), far, 9);
  answer[1] = 'n';
  EXPECT_EQ(from(kOtherHost, kVniDsr, answer).verdict, kRedirect) << "a reset";
  EXPECT_EQ(host.drops("NO_BACKEND"), 1U);
  answer[1] = 'N';
  EXPECT_EQ(from(kOtherHost, kVniDsr, answer).verdict, kShot);
  EXPECT_EQ(host.drops("MALFORMED"), 1U);
}

TEST_P(OverlayTest, StaleGenerationIsToldAtOnceButASynIsLeftToComeAgain) {
  Packet p = tcp(client, vip, kAck);
  p.ack = 555;
  Outcome run = from(kOtherHost, kVniDsr, dsr(p, web, kWebGeneration - 1));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "TCP vip > client [R] seq=555 ack=0 ttl=63 +0");
  EXPECT_EQ(macs(run.out), "02:00:00:00:00:11 > 02:00:00:00:01:01");
  EXPECT_EQ(from(kOtherHost, kVniDsr, dsr(p.with(kSyn), web, kWebGeneration - 1)).verdict, kShot);
  EXPECT_EQ(from(kOtherHost, kVniDsr, dsr(udp(client, vip), beside(web, 4), 1)).verdict, kShot);
  EXPECT_EQ(host.drops("STALE_BACKEND"), 3U);
}

TEST_P(OverlayTest, FramesThatAreNoEncodingAreMalformed) {
  Frame f = dsr(tcp(client, vip, kSyn), web, kWebGeneration);
  f[1] = 'x';
  EXPECT_EQ(from(kOtherHost, kVniDsr, f).verdict, kShot);
  const Frame whole = dsr(tcp(client, vip, kSyn), web, kWebGeneration);
  for (std::size_t bytes = shortest_run(); bytes < whole.size(); ++bytes)
    EXPECT_EQ(
        from(kOtherHost, kVniDsr, Frame(whole.begin(), whole.begin() + static_cast<long>(bytes)))
            .verdict,
        kShot);
  EXPECT_EQ(host.drops("MALFORMED"), 1U + whole.size() - shortest_run());
}

TEST_P(OverlayTest, EgressGivesThePacketOfTheStackItsWay) {
  const std::uint32_t overlay = ifindex_of("shoal-vxlan");
  Outcome run = host.run("shoal_ovl_out", tcp(on(self, 1), far, kSyn).frame(), overlay);
  EXPECT_EQ(run.verdict, kPass);
  EXPECT_EQ(macs(run.out), "02:53:48:4f:41:4c > 02:73:68:6f:61:6c");
  EXPECT_EQ(host.run("shoal_ovl_out", tcp(on(self, 1), client, kSyn).frame(), overlay).verdict,
            kShot);
}

}  // namespace
}  // namespace shoal::bpftest
