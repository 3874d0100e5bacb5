// SPDX-License-Identifier: Apache-2.0
// What the uplink program does with frames from the LAN. Roles are in cast.h.
#include "netplane/base/clock.h"
#include "netplane/base/random.h"
#include "netplane/base/unique_fd.h"
#include "tests/bpf/cast.h"

#include <cstring>
#include <linux/if_packet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <map>
#include <set>

namespace shoal::bpftest {
namespace {

class UplinkTest : public BothFamilies {
protected:
  // Any address of the family but special ones, all bits of it in play.
  IpAddress some_address(Random& random) const {
    if (!v6)
      return IpAddress::v4(0xc6120000U + static_cast<std::uint32_t>(random.below(65536)));
    IpAddress::Bytes bytes{0x20, 0x01};
    for (std::size_t i = 2; i < bytes.size(); ++i)
      bytes[i] = static_cast<std::uint8_t>(random.next());
    return IpAddress::from_bytes(bytes);
  }
  void with_affinity() {
    host.frontend(vip.to_string(), L4Proto::kTcp, {.inside = 1, .outside = 1, .affinity_s = 600});
  }
};
SHOAL_BOTH_FAMILIES(UplinkTest);

TEST_P(UplinkTest, SynToLocalBackendIsRewrittenAndGivenToThePod) {
  host.ring(1, {kWebId}, 0);
  Outcome run = at_uplink(from_lan(tcp(client, vip, kSyn)));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "TCP client > web [S] seq=1000 ack=0 ttl=64 +0");
  EXPECT_EQ(macs(run.out), "02:00:00:00:bb:05 > 02:00:00:00:aa:05");
}

TEST_P(UplinkTest, UdpChecksumIsKeptRightAndAbsentStaysAbsent) {
  host.ring(1, {kWebId}, 0);
  Packet p = from_lan(udp(client, vip));
  EXPECT_EQ(text(at_uplink(p).out), "UDP client > web ttl=64 +12");
  p.udp_checksum = false;
  Frame out = at_uplink(p).out;
  EXPECT_EQ(text(out), "UDP client > web ttl=64 +12");
  EXPECT_EQ(out[out.size() - 12 - 2], 0);
  EXPECT_EQ(out[out.size() - 12 - 1], 0);
}

TEST_P(UplinkTest, RemoteBackendTravelsInTheEthernetHeaderAndThePacketIsUntouched) {
  host.ring(1, {kFarId}, 0);
  Packet p = from_lan(tcp(client, vip, kSyn));
  Outcome run = at_uplink(p);
  EXPECT_EQ(run.verdict, kRedirect);
  const Frame sent = p.frame();
  EXPECT_EQ(Frame(run.out.begin() + 14, run.out.end()), Frame(sent.begin() + 14, sent.end()))
      << text(run.out);
  // 02 'd' the last of 10.244.2.7 or fd00:10:244:2::7, 02 'D' generation 9, port 8080
  const Frame v4_eth{0x02, 'd', 10, 244, 2, 7, 0x02, 'D', 0, 9, 0x1f, 0x90, 0x08, 0x00};
  const Frame v6_eth{0x02, 'd', 0, 0, 0, 7, 0x02, 'D', 0, 9, 0x1f, 0x90, 0x86, 0xdd};
  EXPECT_EQ(Frame(run.out.begin(), run.out.begin() + 14), v6 ? v6_eth : v4_eth);
}

// Of TCP no entry says where a connection is, but the ring and whoever has it.
TEST_P(UplinkTest, ConnectionKeepsItsBackendThroughRingChanges) {
  host.ring(1, all(kWebId), 0);
  opened(client);
  EXPECT_EQ(host.maps().flows(10).value().size(), 1U) << "the reply's";
  std::uint32_t block = 0;
  for (const model::BackendId other : {kThirdId, kFourthId}) {
    host.change_ring(1, all(other), block += 4);
    EXPECT_EQ(text(at_uplink(from_lan(tcp(client, vip, kAck))).out),
              "TCP client > web [A] seq=1000 ack=0 ttl=64 +0");
    // Another connection goes by the new ring, to a pod that for this test is not there.
    EXPECT_EQ(at_uplink(from_lan(tcp(on(client, 40001), vip, kSyn))).verdict, kShot);
  }
  // Even where nobody takes new ones.
  host.change_ring(1, {}, block + 4);
  EXPECT_EQ(at_uplink(from_lan(tcp(on(client, 40002), vip, kSyn))).verdict, kRedirect);
  EXPECT_EQ(host.drops("NO_BACKEND"), 1U);
  EXPECT_EQ(unclaimed(), 0U);
}

TEST_P(UplinkTest, ConnectionGoesOnWhenNobodyTakesNewOnes) {
  host.ring(1, all(kWebId), 0);
  opened(client);
  host.change_ring(1, {}, 4);
  EXPECT_EQ(text(at_uplink(from_lan(tcp(client, vip, kAck))).out),
            "TCP client > web [A] seq=1000 ack=0 ttl=64 +0");
  EXPECT_NE(text(at_uplink(from_lan(tcp(on(client, 40002), vip, kSyn))).out).find(" [RA] "),
            std::string::npos);
}

TEST_P(UplinkTest, TheOwnerOnAnotherHostIsAsked) {
  host.ring(1, all(kWebId), 0);
  opened(client);
  host.change_ring(1, all(kFarId), 4);
  EXPECT_EQ(at_uplink(from_lan(tcp(client, vip, kAck))).out[1], 'D');
  EXPECT_EQ(at_uplink(from_lan(tcp(on(client, 40001), vip, kAck))).out[1], 'D');
  EXPECT_EQ(at_uplink(from_lan(tcp(on(client, 40001), vip, kSyn))).out[1], 'd') << "a new one";
  // In slots that have not moved there is no question.
  host.ring(1, all(kFarId), 8);
  EXPECT_EQ(at_uplink(from_lan(tcp(client, vip, kAck))).out[1], 'd');
}

TEST_P(UplinkTest, OnlySlotsThatMovedAreLookedInto) {
  std::vector<model::BackendId> half = all(kWebId);
  std::fill(half.begin() + 32, half.end(), kFarId);
  host.ring(1, half, 0);
  host.change_ring(1, all(kFarId), 4);
  std::map<char, int> kinds;
  for (std::uint16_t port = 1; port <= 512; port++)
    kinds[static_cast<char>(at_uplink(from_lan(tcp(on(client, port), vip, kAck))).out[1])]++;
  EXPECT_NEAR(kinds['D'], 256, 80);
  EXPECT_NEAR(kinds['d'], 256, 80);
  EXPECT_EQ(kinds['D'] + kinds['d'], 512);
}

// Nobody has it: the present owner answers as it does to what it does not know, and it is counted.
TEST_P(UplinkTest, WhatNobodyHasIsThePresentOwners) {
  host.ring(1, all(kThirdId), 0);
  host.change_ring(1, all(kWebId), 4);
  for (int i = 0; i < 3; i++)
    EXPECT_EQ(text(at_uplink(from_lan(tcp(client, vip, kAck))).out),
              "TCP client > web [A] seq=1000 ack=0 ttl=64 +0");
  EXPECT_EQ(unclaimed(), 1U);
}

TEST_P(UplinkTest, SynIsThePresentOwners) {
  host.ring(1, all(kWebId), 0);
  at_uplink(from_lan(tcp(client, vip, kSyn)));
  host.change_ring(1, all(kFarId), 4);
  EXPECT_EQ(at_uplink(from_lan(tcp(client, vip, kFin | kAck))).out[1], 'D');
  EXPECT_EQ(at_uplink(from_lan(tcp(client, vip, kSyn))).out[1], 'd');
}

// A client uses its ports again, while the pod that had them last still has the slot's connections.
TEST_P(UplinkTest, AClosedConnectionClaimsNoLaterOneWithItsPorts) {
  const SocketAddress third = beside(web, kThirdId);
  ASSERT_TRUE(host.maps().put_pod(third.ip, {veth, kWebGeneration, kWebMac, kVethMac}));
  const auto sends = [&](std::uint8_t flags, std::uint32_t ack) {
    Packet p = from_lan(tcp(client, vip, flags));
    p.ack = ack;
    const std::string out = text(at_uplink(p).out);
    return out.substr(0, out.rfind(" ["));
  };
  const auto answers = [&](const SocketAddress& pod, std::uint8_t flags, std::uint32_t seq) {
    Packet p = from_pod(tcp(pod, client, flags));
    p.seq = seq;
    EXPECT_EQ(at_pod(p).verdict, kRedirect);
  };
  const std::string to_third = "TCP client > " + third.to_string();
  for (const bool client_first : {false, true}) {
    SCOPED_TRACE(client_first);
    host.ring(1, all(kWebId), 0);
    EXPECT_EQ(sends(kSyn, 0), "TCP client > web");
    answers(web, kSyn | kAck, 4999);
    EXPECT_EQ(sends(kAck, 5000), "TCP client > web");
    if (client_first)
      sends(kFin | kAck, 90'005'000);  // it has read much
    answers(web, kFin | kAck, 90'005'000);
    // Its last words are its own, also where the slot has moved on: a client far away still answers
    // what was sent long before the end.
    host.change_ring(1, all(kThirdId), 4);
    if (!client_first) {
      EXPECT_EQ(sends(kAck, 90'005'000 - (16U << 20)), "TCP client > web");
    }
    EXPECT_EQ(sends(client_first ? kAck : kFin | kAck, 90'005'001), "TCP client > web");
    EXPECT_EQ(sends(kSyn, 0), to_third);
    answers(third, kSyn | kAck, 0x7000'0000);
    EXPECT_EQ(sends(kAck, 0x7000'0001), to_third);
    host.change_ring(1, all(kWebId), 8);
    EXPECT_EQ(sends(kAck, 0x7000'0001), to_third);
    sends(kFin | kAck, 0x7000'0001);
    answers(third, kFin | kAck, 0x7000'0001);
  }
  EXPECT_EQ(unclaimed(), 0U);
}

// The pod that a late or forged SYN came to has begun another connection, which the client does not
// go on with: what it sends answers somebody else, and goes to who has it.
TEST_P(UplinkTest, ALateSynTakesNoConnectionAway) {
  const SocketAddress third = beside(web, kThirdId);
  ASSERT_TRUE(host.maps().put_pod(third.ip, {veth, kWebGeneration, kWebMac, kVethMac}));
  host.ring(1, all(kWebId), 0);
  const auto sends = [&](const SocketAddress& who, std::uint8_t flags, std::uint32_t ack) {
    Packet p = from_lan(tcp(who, vip, flags));
    p.ack = ack;
    const std::string out = text(at_uplink(p).out);
    return out.substr(0, out.rfind(" ["));
  };
  const auto answers = [&](const SocketAddress& pod, const SocketAddress& to, std::uint32_t seq) {
    Packet p = from_pod(tcp(pod, to, kSyn | kAck));
    p.seq = seq;
    EXPECT_EQ(at_pod(p).verdict, kRedirect);
  };
  const std::string to_third = "TCP client > " + third.to_string();
  EXPECT_EQ(sends(client, kSyn, 0), "TCP client > web");
  answers(web, client, 4999);
  EXPECT_EQ(sends(client, kAck, 5000), "TCP client > web");
  host.change_ring(1, all(kThirdId), 4);
  EXPECT_EQ(sends(client, kSyn, 0), to_third);
  EXPECT_EQ(sends(client, kAck, 5100), "TCP client > web") << "before the other pod answers,";
  answers(third, client, 0x7000'0000);
  EXPECT_EQ(sends(client, kAck, 5100), "TCP client > web") << "and after";
  // Whom it answers has it, the wrap of sequence numbers included.
  const SocketAddress anew = on(client, 40001);
  EXPECT_EQ(sends(anew, kSyn, 0), sends(anew, kSyn, 0));
  answers(third, anew, 0xffff'ffff);
  host.change_ring(1, all(kWebId), 8);
  for (const std::uint32_t ack : {0U, 1'000U, 9'000'000U})
    EXPECT_NE(sends(anew, kAck, ack).find(third.to_string()), std::string::npos) << ack;
  EXPECT_EQ(unclaimed(), 0U);
}

// A connection that has ended is known for a minute more.
TEST_P(UplinkTest, ClosedConnectionIsForgotten) {
  host.ring(1, all(kWebId), 0);
  opened(client);
  at_uplink(from_lan(tcp(client, vip, kFin | kAck)));
  host.change_ring(1, all(kThirdId), 4);
  EXPECT_EQ(text(at_uplink(from_lan(tcp(client, vip, kAck))).out).substr(0, 17),
            "TCP client > web ");
  host.age_flows(61);
  EXPECT_EQ(at_uplink(from_lan(tcp(client, vip, kAck))).verdict, kShot);
  EXPECT_EQ(unclaimed(), 1U);
}

// With session affinity a connection has an entry. A client that was not answered asks again, or
// comes back with the same port: by then its host may be known to be dead.
TEST_P(UplinkTest, SynOnAFlowOfADrainingBackendPicksAnew) {
  with_affinity();
  host.ring(1, {kFarId}, 0);
  EXPECT_EQ(at_uplink(from_lan(tcp(client, vip, kSyn))).out[1], 'd');
  host.ring(1, {kWebId}, 1);
  EXPECT_EQ(at_uplink(from_lan(tcp(client, vip, kSyn))).out[1], 'd') << "a repetition";
  host.backend(kFarId, far.to_string(),
               {.generation = 9, .epoch = 1, .node = kOtherHost, .draining = true});
  EXPECT_EQ(text(at_uplink(from_lan(tcp(client, vip, kSyn))).out).substr(0, 17),
            "TCP client > web ");
}

// Late or forged, it is not what moves a connection that drains.
TEST_P(UplinkTest, SynOnAnOpenFlowOfADrainingBackendMovesNothing) {
  with_affinity();
  host.ring(1, {kFarId}, 0);
  for (const std::uint8_t flags : {kSyn, kAck})
    EXPECT_EQ(at_uplink(from_lan(tcp(client, vip, flags))).out[1], 'd');
  host.ring(1, {kWebId}, 1);
  host.backend(kFarId, far.to_string(),
               {.generation = 9, .epoch = 1, .node = kOtherHost, .draining = true});
  for (const std::uint8_t flags : {kSyn, kAck, kSyn})
    EXPECT_EQ(at_uplink(from_lan(tcp(client, vip, flags))).out[1], 'd');
  // Nobody is there any more who would speak.
  host.age_flows(61);
  EXPECT_EQ(text(at_uplink(from_lan(tcp(client, vip, kSyn))).out).substr(0, 17),
            "TCP client > web ");
}

// Affinity is switched off: its connections stay where it led them, and new ones go by the ring.
TEST_P(UplinkTest, WithoutAffinityAnyMoreConnectionsThatItLedStay) {
  with_affinity();
  host.ring(1, all(kFarId), 0);
  for (const std::uint8_t flags : {kSyn, kAck})
    EXPECT_EQ(at_uplink(from_lan(tcp(client, vip, flags))).out[1], 'd');
  host.ring(1, all(kWebId), 4);
  host.frontend(vip.to_string(), L4Proto::kTcp, {.inside = 1, .outside = 1, .entries = true});
  const auto to_web = [&](const SocketAddress& who, std::uint8_t flags) {
    const std::string out = text(at_uplink(from_lan(tcp(who, vip, flags))).out);
    return out.find("> web [") != std::string::npos;
  };
  EXPECT_FALSE(to_web(client, kAck));
  EXPECT_FALSE(to_web(client, kSyn)) << "late, or forged";
  EXPECT_TRUE(to_web(on(client, 40001), kSyn));
  EXPECT_TRUE(to_web(on(client, 40001), kAck));
  EXPECT_TRUE(to_web(on(client, 40002), kAck));
  EXPECT_EQ(unclaimed(), 0U);
  // When it is over, the same address and port begin by the ring.
  EXPECT_FALSE(to_web(client, kFin | kAck));
  EXPECT_TRUE(to_web(client, kSyn));
  EXPECT_TRUE(to_web(client, kAck));
}

TEST_P(UplinkTest, BackendIdGivenToAnotherEndsTheFlow) {
  host.ring(1, {kFarId}, 0);
  at_uplink(from_lan(udp(client, vip)));
  host.ring(1, {kWebId}, 1);
  EXPECT_EQ(at_uplink(from_lan(udp(client, vip))).out[1], 'd');
  host.backend(kFarId, beside(far, 1).to_string(),
               {.generation = 1, .epoch = 2, .node = kOtherHost});
  EXPECT_EQ(text(at_uplink(from_lan(udp(client, vip))).out), "UDP client > web ttl=64 +12");
}

TEST_P(UplinkTest, MidFlowPacketOfAnUnknownFlowPicksByHash) {
  host.ring(1, {kWebId}, 0);
  EXPECT_EQ(text(at_uplink(from_lan(tcp(client, vip, kAck))).out),
            "TCP client > web [A] seq=1000 ack=0 ttl=64 +0");
}

TEST_P(UplinkTest, NoBackendIsRefusedByReset) {
  Packet p = from_lan(tcp(client, vip, kSyn));
  Outcome run = at_uplink(p);
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "TCP vip > client [RA] seq=0 ack=1001 ttl=64 +0");
  EXPECT_EQ(macs(run.out), "02:00:00:00:00:11 > 02:00:00:00:01:01");
  EXPECT_EQ(run.out.size(), v6 ? 74U : 54U);
  p = p.with(kAck);
  p.ack = 777;
  p.payload = 901;
  EXPECT_EQ(text(at_uplink(p).out), "TCP vip > client [R] seq=777 ack=0 ttl=64 +0");
  p = p.with(kFin);
  EXPECT_EQ(text(at_uplink(p).out), "TCP vip > client [RA] seq=0 ack=1902 ttl=64 +0");
  EXPECT_EQ(at_uplink(p.with(kRst)).verdict, kShot);
  EXPECT_EQ(host.drops("NO_BACKEND"), 4U);
  model::ServiceIndex service = 1;
  EXPECT_EQ(host.maps().service_stats({&service, 1}).value()[0].refused, 4U);
}

TEST_P(UplinkTest, NoBackendIsRefusedByPortUnreachable) {
  Outcome run = at_uplink(from_lan(udp(client, vip)));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "ICMP port-unreachable vip > client (client > vip)");
  EXPECT_EQ(run.out.size(), v6 ? 110U : 70U);
}

TEST_P(UplinkTest, OtherPortOfAVipIsRefusedAndInsideFrontendsAreNotForOutsiders) {
  host.ring(1, {kWebId}, 0);
  Outcome run = at_uplink(from_lan(tcp(client, on(vip, 81), kSyn)));
  EXPECT_EQ(text(run.out), "TCP vip:81 > client [RA] seq=0 ack=1001 ttl=64 +0");
  run = at_uplink(from_lan(tcp(client, cluster, kSyn)));
  EXPECT_EQ(text(run.out), "TCP cluster > client [RA] seq=0 ack=1001 ttl=64 +0");
  EXPECT_EQ(host.drops("NO_FRONTEND"), 2U);
}

TEST_P(UplinkTest, StaleLocalBackendIsNotDelivered) {
  host.ring(1, {kWebId}, 0);
  ASSERT_TRUE(host.maps().put_pod(web.ip, {veth, kWebGeneration + 1, kWebMac, kVethMac}));
  EXPECT_EQ(at_uplink(from_lan(tcp(client, vip, kSyn))).verdict, kShot);
  EXPECT_EQ(host.drops("STALE_BACKEND"), 1U);
}

TEST_P(UplinkTest, EchoToAVipIsAnswered) {
  Outcome run = host.run("shoal_uplink", echo_request(from_lan(tcp(client, vip, 0))), uplink);
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "ICMP echo-reply vip > client");
  EXPECT_EQ(macs(run.out), "02:00:00:00:00:11 > 02:00:00:00:01:01");
}

TEST_P(UplinkTest, WhatIsNotForAServiceIsTheStacks) {
  EXPECT_EQ(at_uplink(from_lan(tcp(client, self, kSyn))).verdict, kPass);
  Packet elsewhere = from_lan(tcp(client, vip, kSyn));
  elsewhere.eth_dst = mac("02:99:99:99:99:99");  // on the wire, but not for this host
  EXPECT_EQ(at_uplink(elsewhere).verdict, kPass);
}

// Every length of a good frame, and random bytes in good frames: a verdict, no crash, and nothing
// balanced that lies.
TEST_P(UplinkTest, TruncatedAndMutatedFramesAreSurvived) {
  host.ring(1, {kWebId, kFarId}, 0);
  const std::uint64_t seed = SystemRandom().next();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  SeededRandom random(seed);
  for (const Packet& p : {from_lan(tcp(client, vip, kSyn)), from_lan(udp(client, vip))}) {
    const Frame whole = p.frame();
    for (std::size_t bytes = shortest_run(); bytes < whole.size(); ++bytes) {
      Outcome run = host.run(
          "shoal_uplink", Frame(whole.begin(), whole.begin() + static_cast<long>(bytes)), uplink);
      EXPECT_NE(run.verdict, kRedirect) << bytes << " bytes of " << text(whole);
    }
    for (int round = 0; round < 2000; ++round) {
      Frame bent = whole;
      for (std::uint64_t n = 1 + random.below(4); n > 0; --n)
        bent[12 + random.below(bent.size() - 12)] = static_cast<std::uint8_t>(random.next());
      Outcome run = host.run("shoal_uplink", bent, uplink);
      EXPECT_TRUE(run.verdict == kPass || run.verdict == kShot || run.verdict == kRedirect)
          << run.verdict;
    }
  }
}

TEST_P(UplinkTest, TcpHeaderThatContradictsItselfIsDropped) {
  const std::size_t tcp_at = v6 ? 14 + 40 : 14 + 20;
  Frame bent = from_lan(tcp(client, vip, kSyn)).frame();
  bent[tcp_at + 12] = 15 << 4;  // a data offset beyond the datagram
  EXPECT_EQ(host.run("shoal_uplink", bent, uplink).verdict, kShot);
  bent[tcp_at + 12] = 4 << 4;  // or inside the header
  EXPECT_EQ(host.run("shoal_uplink", bent, uplink).verdict, kShot);
  EXPECT_EQ(host.drops("MALFORMED"), 2U);
}

// `shoal trace` computes the hash again: it must name the backend that the program picks, for flows
// that differ in every part of the key. Neighbouring slots have different backends, so a number
// that is off by one in its upper bits is seen.
TEST_P(UplinkTest, TheHashOfUserSpaceIsTheProgramsHash) {
  constexpr std::uint32_t kSlots = 8192;
  constexpr std::uint32_t kBackends = 128;
  constexpr std::size_t kFlows = 2'000;
  std::vector<model::BackendId> slots;
  for (std::uint32_t slot = 0; slot < kSlots; ++slot)
    slots.push_back(100 + slot % kBackends);
  for (std::uint32_t id = 100; id < 100 + kBackends; ++id)
    host.backend(id, beside(far, id).to_string(),
                 {.generation = 1, .epoch = 1, .node = kOtherHost});
  host.ring(1, slots, 32);
  const std::uint64_t seed = SystemRandom().next();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  SeededRandom random(seed);
  const SocketAddress vips[] = {vip, on(beside(vip, 76), 65535), on(beside(cluster, 1023), 1)};
  for (const SocketAddress& to : vips)
    for (const L4Proto proto : {L4Proto::kTcp, L4Proto::kUdp})
      host.frontend(to.to_string(), proto, 1, true);
  const int program = host.program("shoal_uplink");
  for (std::size_t i = 0; i < kFlows; ++i) {
    const SocketAddress who{some_address(random),
                            static_cast<std::uint16_t>(1 + random.below(65535))};
    const SocketAddress& to = vips[random.below(std::size(vips))];
    const bool is_tcp = random.below(2) == 0;
    const kernel::FlowTuple tuple{is_tcp ? L4Proto::kTcp : L4Proto::kUdp, who, to};
    const Frame out =
        host.run_fd(program, from_lan(is_tcp ? tcp(who, to, kSyn) : udp(who, to)).frame(), uplink)
            .out;
    const std::uint32_t number = kernel::flow_hash(tuple, host.options().hash_seed);
    const model::BackendId picked = slots[kernel::ring_slot(number, kSlots)];
    const IpAddress address = beside(far, picked).ip;
    ASSERT_TRUE(std::equal(out.begin() + 2, out.begin() + 6, address.bytes().begin() + 12))
        << who.to_string();
    const auto flow = host.maps().find_flow(tuple).value();
    ASSERT_EQ(flow.has_value(), !is_tcp);
    ASSERT_EQ(flow ? flow->backend : picked, picked) << who.to_string();
  }
  EXPECT_FALSE(host.maps().find_flow({L4Proto::kTcp, {far.ip, 1}, vip}).value());
}

TEST_P(UplinkTest, TheFlowTableIsTalliedInSteps) {
  with_affinity();
  host.ring(1, {kFarId}, 0);
  constexpr std::uint16_t kFlows = 9'000;
  const int program = host.program("shoal_uplink");
  for (std::uint16_t i = 0; i < kFlows; ++i) {
    const SocketAddress who = on(client, static_cast<std::uint16_t>(10'000 + i));
    host.run_fd(program, from_lan(tcp(who, vip, kSyn)).frame(), uplink);
    if (i < 100)
      host.run_fd(program, from_lan(tcp(who, vip, kFin | kAck)).frame(), uplink);
  }
  kernel::TableWalk walk;
  kernel::Tally tally;
  unsigned steps = 1;
  while (host.maps().tally(kernel::LruTable::kFlows, walk, tally).value())
    ++steps;
  EXPECT_EQ(tally.entries, kFlows);
  EXPECT_EQ(tally.closing, 100U);
  EXPECT_EQ(tally.active, kFlows - 100U);
  EXPECT_GE(steps, kFlows / kernel::kWalkEntriesMax + 1);
  EXPECT_TRUE(walk.at.empty());
}

TEST_P(UplinkTest, TheFlowTableIsReadInStepsOfABoundedSize) {
  with_affinity();
  host.ring(1, {kFarId}, 0);
  constexpr std::uint16_t kFlows = 9'000;
  const int program = host.program("shoal_uplink");
  for (std::uint16_t i = 0; i < kFlows; ++i)
    host.run_fd(
        program,
        from_lan(tcp(on(client, static_cast<std::uint16_t>(10'000 + i)), vip, kSyn)).frame(),
        uplink);
  kernel::TableWalk walk;
  std::set<std::uint16_t> ports;
  bool more = true;
  while (more) {
    std::size_t in_step = 0;
    more = host.maps()
               .next_flows(walk,
                           [&](const kernel::Flow& flow) {
                             ports.insert(flow.source.port);
                             ++in_step;
                           })
               .value();
    EXPECT_LE(in_step, kernel::kWalkEntriesMax);
  }
  EXPECT_EQ(ports.size(), kFlows);
  EXPECT_EQ(host.maps().flows(5'000).value().size(), 5'000U);
}

TEST_P(UplinkTest, CountersCountPacketsBytesAndFlows) {
  host.ring(1, {kWebId}, 0);
  at_uplink(from_lan(tcp(client, vip, kSyn)));
  at_uplink(from_lan(tcp(client, vip, kAck)));
  model::ServiceIndex service = 1;
  EXPECT_EQ(host.maps().service_stats({&service, 1}).value()[0],
            (kernel::ServiceStats{
                .connects = 0, .flows = 1, .packets = 2, .bytes = v6 ? 148U : 108U, .refused = 0}));
  ASSERT_TRUE(host.maps().clear_service_stats(std::array{service}));
  EXPECT_EQ(host.maps().service_stats({&service, 1}).value()[0], kernel::ServiceStats{});
  auto flows = host.maps().flows(10).value();
  ASSERT_EQ(flows.size(), 1U);
  EXPECT_TRUE(flows[0].reverse);
  EXPECT_EQ(flows[0].source, web);
  EXPECT_EQ(flows[0].destination, client);
  EXPECT_EQ(flows[0].translated, vip);
}

// On a real device, which takes the tag off before the program sees the frame.
TEST_P(UplinkTest, AFrameOfVlanZeroIsForThisDeviceAndOneOfAnotherIsNot) {
  const UniqueFd wire(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
  ASSERT_TRUE(wire) << strerror(errno);
  const Frame whole = from_lan(udp(client, on(vip, 81))).frame();
  const auto send = [&](std::uint8_t vlan) {
    Frame tagged = whole;
    const Frame tag{0x81, 0x00, 0xa0, vlan};  // of priority 5
    tagged.insert(tagged.begin() + 12, tag.begin(), tag.end());
    sockaddr_ll to{};
    to.sll_family = AF_PACKET;
    to.sll_ifindex = static_cast<int>(ifindex_of("up0peer"));
    return ::sendto(wire.get(), tagged.data(), tagged.size(), 0,
                    reinterpret_cast<const sockaddr*>(&to),
                    sizeof(to)) == static_cast<ssize_t>(tagged.size());
  };
  ASSERT_TRUE(send(7));
  ASSERT_TRUE(send(0));
  const MonoTime until = SystemClock().now() + std::chrono::seconds(5);
  while (host.drops("NO_FRONTEND") == 0 && SystemClock().now() < until)
    ::usleep(1000);
  EXPECT_EQ(host.drops("NO_FRONTEND"), 1U);
}

}  // namespace
}  // namespace shoal::bpftest
