// SPDX-License-Identifier: Apache-2.0
// What the uplink program does with frames from the LAN. Roles are in cast.h.
#include "netplane/base/random.h"
#include "tests/bpf/cast.h"
#include "tests/bpf/chi_square.h"

#include <map>

namespace shoal::bpftest {
namespace {

using UplinkTest = CastTest;

TEST_F(UplinkTest, SynToLocalBackendIsRewrittenAndGivenToThePod) {
  host.ring(1, {kWebId}, 0);
  Outcome run = at_uplink(from_lan(tcp(kClient, kVip, kSyn)));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "TCP 198.18.0.101:40000 > 10.244.1.5:8080 [S] seq=1000 ack=0 ttl=64 +0");
  EXPECT_EQ(macs(run.out), "02:00:00:00:bb:05 > 02:00:00:00:aa:05");
}

TEST_F(UplinkTest, UdpChecksumIsKeptRightAndAbsentStaysAbsent) {
  host.ring(1, {kWebId}, 0);
  Packet p = from_lan(udp(kClient, kVip));
  EXPECT_EQ(text(at_uplink(p).out), "UDP 198.18.0.101:40000 > 10.244.1.5:8080 ttl=64 +12");
  p.udp_checksum = false;
  Frame out = at_uplink(p).out;
  EXPECT_EQ(text(out), "UDP 198.18.0.101:40000 > 10.244.1.5:8080 ttl=64 +12");
  EXPECT_EQ(out[40], 0);
  EXPECT_EQ(out[41], 0);
}

TEST_F(UplinkTest, IpOptionsAreSteppedOver) {
  host.ring(1, {kWebId}, 0);
  for (std::size_t options : {4, 20, 40}) {
    Packet p = from_lan(tcp(kClient, kVip, kSyn));
    p.options = options;
    Outcome run = at_uplink(p);
    EXPECT_EQ(run.verdict, kRedirect) << options;
    EXPECT_EQ(text(run.out),
              "TCP 198.18.0.101:40000 > 10.244.1.5:8080 [S] seq=1000 ack=0 ttl=64 +0")
        << options;
  }
}

TEST_F(UplinkTest, RemoteBackendTravelsInTheEthernetHeaderAndThePacketIsUntouched) {
  host.ring(1, {kFarId}, 0);
  Packet p = from_lan(tcp(kClient, kVip, kSyn));
  Outcome run = at_uplink(p);
  EXPECT_EQ(run.verdict, kRedirect);
  const Frame sent = p.frame();
  EXPECT_EQ(Frame(run.out.begin() + 14, run.out.end()), Frame(sent.begin() + 14, sent.end()))
      << text(run.out);
  // 02 'd' 10.244.2.7, 02 'D' generation 9, port 8080
  EXPECT_EQ(Frame(run.out.begin(), run.out.begin() + 14),
            (Frame{0x02, 'd', 10, 244, 2, 7, 0x02, 'D', 0, 9, 0x1f, 0x90, 0x08, 0x00}));
}

TEST_F(UplinkTest, FlowKeepsItsBackendThroughRingChanges) {
  host.ring(1, {kWebId}, 0);
  ASSERT_EQ(at_uplink(from_lan(tcp(kClient, kVip, kSyn))).verdict, kRedirect);
  host.ring(1, {kFarId}, 1);
  Outcome later = at_uplink(from_lan(tcp(kClient, kVip, kAck)));
  EXPECT_EQ(text(later.out),
            "TCP 198.18.0.101:40000 > 10.244.1.5:8080 [A] seq=1000 ack=0 ttl=64 +0");
  // A repeated SYN is no reason to move an open flow; another connection goes by the new ring.
  EXPECT_EQ(text(at_uplink(from_lan(tcp(kClient, kVip, kSyn))).out).substr(0, 41),
            "TCP 198.18.0.101:40000 > 10.244.1.5:8080 ");
  Outcome other = at_uplink(from_lan(tcp(at("198.18.0.101:40001"), kVip, kSyn)));
  EXPECT_EQ(other.out[1], 'd');
  // Even with no ring at all.
  ASSERT_TRUE(host.maps().switch_ring(1, {}));
  EXPECT_EQ(text(at_uplink(from_lan(tcp(kClient, kVip, kAck))).out),
            "TCP 198.18.0.101:40000 > 10.244.1.5:8080 [A] seq=1000 ack=0 ttl=64 +0");
}

TEST_F(UplinkTest, SynAfterFinPicksAnew) {
  host.ring(1, {kWebId}, 0);
  at_uplink(from_lan(tcp(kClient, kVip, kSyn)));
  host.ring(1, {kFarId}, 1);
  Outcome fin = at_uplink(from_lan(tcp(kClient, kVip, kFin | kAck)));
  EXPECT_EQ(text(fin.out).substr(0, 41), "TCP 198.18.0.101:40000 > 10.244.1.5:8080 ");
  Outcome last_ack = at_uplink(from_lan(tcp(kClient, kVip, kAck)));
  EXPECT_EQ(text(last_ack.out).substr(0, 41), "TCP 198.18.0.101:40000 > 10.244.1.5:8080 ");
  Outcome syn = at_uplink(from_lan(tcp(kClient, kVip, kSyn)));
  EXPECT_EQ(syn.out[1], 'd') << text(syn.out);
}

TEST_F(UplinkTest, BackendIdGivenToAnotherEndsTheFlow) {
  host.ring(1, {kFarId}, 0);
  at_uplink(from_lan(udp(kClient, kVip)));
  host.ring(1, {kWebId}, 1);
  EXPECT_EQ(at_uplink(from_lan(udp(kClient, kVip))).out[1], 'd');
  host.backend(kFarId, "10.244.2.8:8080", {.generation = 1, .epoch = 2, .node = kOtherHost});
  EXPECT_EQ(text(at_uplink(from_lan(udp(kClient, kVip))).out),
            "UDP 198.18.0.101:40000 > 10.244.1.5:8080 ttl=64 +12");
}

TEST_F(UplinkTest, MidFlowPacketOfAnUnknownFlowPicksByHash) {
  host.ring(1, {kWebId}, 0);
  EXPECT_EQ(text(at_uplink(from_lan(tcp(kClient, kVip, kAck))).out),
            "TCP 198.18.0.101:40000 > 10.244.1.5:8080 [A] seq=1000 ack=0 ttl=64 +0");
}

TEST_F(UplinkTest, NoBackendIsRefusedByReset) {
  Packet p = from_lan(tcp(kClient, kVip, kSyn));
  Outcome run = at_uplink(p);
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out),
            "TCP 198.18.100.1:80 > 198.18.0.101:40000 [RA] seq=0 ack=1001 ttl=64 +0");
  EXPECT_EQ(macs(run.out), "02:00:00:00:00:11 > 02:00:00:00:01:01");
  EXPECT_EQ(run.out.size(), 54U);
  p = p.with(kAck);
  p.ack = 777;
  p.payload = 901;
  EXPECT_EQ(text(at_uplink(p).out),
            "TCP 198.18.100.1:80 > 198.18.0.101:40000 [R] seq=777 ack=0 ttl=64 +0");
  p = p.with(kFin);
  EXPECT_EQ(text(at_uplink(p).out),
            "TCP 198.18.100.1:80 > 198.18.0.101:40000 [RA] seq=0 ack=1902 ttl=64 +0");
  EXPECT_EQ(at_uplink(p.with(kRst)).verdict, kShot);
  EXPECT_EQ(host.drops("NO_BACKEND"), 4U);
  model::ServiceIndex service = 1;
  EXPECT_EQ(host.maps().service_stats({&service, 1}).value()[0].refused, 4U);
}

TEST_F(UplinkTest, NoBackendIsRefusedByPortUnreachable) {
  Outcome run = at_uplink(from_lan(udp(kClient, kVip)));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out),
            "ICMP 3/3 198.18.100.1 > 198.18.0.101 (198.18.0.101:40000 > 198.18.100.1:80)");
  EXPECT_EQ(run.out.size(), 70U);
}

TEST_F(UplinkTest, OtherPortOfAVipIsRefusedAndInsideFrontendsAreNotForOutsiders) {
  host.ring(1, {kWebId}, 0);
  Outcome run = at_uplink(from_lan(tcp(kClient, at("198.18.100.1:81"), kSyn)));
  EXPECT_EQ(text(run.out),
            "TCP 198.18.100.1:81 > 198.18.0.101:40000 [RA] seq=0 ack=1001 ttl=64 +0");
  run = at_uplink(from_lan(tcp(kClient, kClusterIp, kSyn)));
  EXPECT_EQ(text(run.out), "TCP 10.96.0.10:80 > 198.18.0.101:40000 [RA] seq=0 ack=1001 ttl=64 +0");
  EXPECT_EQ(host.drops("NO_FRONTEND"), 2U);
}

TEST_F(UplinkTest, StaleLocalBackendIsNotDelivered) {
  host.ring(1, {kWebId}, 0);
  ASSERT_TRUE(host.maps().put_pod(kWeb.ip, {veth, kWebGeneration + 1, kWebMac, kVethMac}));
  EXPECT_EQ(at_uplink(from_lan(tcp(kClient, kVip, kSyn))).verdict, kShot);
  EXPECT_EQ(host.drops("STALE_BACKEND"), 1U);
}

TEST_F(UplinkTest, ArpForAnnouncedVipsOnly) {
  Outcome run = host.run("shoal_uplink", arp_request(kClientMac, kClient.ip, kVip.ip), uplink);
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out),
            "ARP reply 198.18.100.1 is 02:00:00:00:00:11 to 198.18.0.101 02:00:00:00:01:01");
  EXPECT_EQ(macs(run.out), "02:00:00:00:00:11 > 02:00:00:00:01:01");
  EXPECT_EQ(
      host.run("shoal_uplink", arp_request(kClientMac, kClient.ip, kClusterIp.ip), uplink).verdict,
      kPass);
  EXPECT_EQ(host.run("shoal_uplink", arp_request(kClientMac, kClient.ip, ip("198.18.0.11")), uplink)
                .verdict,
            kPass);
  // Another host's announcement of the same address is the stack's to see.
  EXPECT_EQ(host.run("shoal_uplink", arp_request(kClientMac, kVip.ip, kVip.ip), uplink).verdict,
            kPass);
}

TEST_F(UplinkTest, EchoToAVipIsAnswered) {
  Outcome run = host.run("shoal_uplink", echo_request(from_lan(tcp(kClient, kVip, 0))), uplink);
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "ICMP 0/0 198.18.100.1 > 198.18.0.101");
  EXPECT_EQ(macs(run.out), "02:00:00:00:00:11 > 02:00:00:00:01:01");
}

TEST_F(UplinkTest, WhatIsNotForAServiceIsTheStacks) {
  EXPECT_EQ(at_uplink(from_lan(tcp(kClient, at("198.18.0.11:22"), kSyn))).verdict, kPass);
  Packet elsewhere = from_lan(tcp(kClient, kVip, kSyn));
  elsewhere.eth_dst = mac("02:99:99:99:99:99");  // on the wire, but not for this host
  EXPECT_EQ(at_uplink(elsewhere).verdict, kPass);
}

TEST_F(UplinkTest, FragmentsToAVipAreCounted) {
  host.ring(1, {kWebId}, 0);
  Packet p = from_lan(udp(kClient, kVip));
  p.fragment = 0x2000;
  EXPECT_EQ(at_uplink(p).verdict, kShot);
  p.fragment = 185;
  EXPECT_EQ(at_uplink(p).verdict, kShot);
  EXPECT_EQ(host.drops("FRAGMENT"), 2U);
}

// Every length of a good frame, and random bytes in good frames: a verdict, no crash, and nothing
// balanced that lies.
TEST_F(UplinkTest, TruncatedAndMutatedFramesAreSurvived) {
  host.ring(1, {kWebId, kFarId}, 0);
  const std::uint64_t seed = SystemRandom().next();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  SeededRandom random(seed);
  for (const Packet& p : {from_lan(tcp(kClient, kVip, kSyn)), from_lan(udp(kClient, kVip))}) {
    const Frame whole = p.frame();
    for (std::size_t bytes = kShortestRun; bytes < whole.size(); ++bytes) {
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

TEST_F(UplinkTest, TcpHeaderThatContradictsItselfIsDropped) {
  Frame bent = from_lan(tcp(kClient, kVip, kSyn)).frame();
  bent[14 + 20 + 12] = 15 << 4;  // a data offset beyond the datagram
  EXPECT_EQ(host.run("shoal_uplink", bent, uplink).verdict, kShot);
  bent[14 + 20 + 12] = 4 << 4;  // or inside the header
  EXPECT_EQ(host.run("shoal_uplink", bent, uplink).verdict, kShot);
  EXPECT_EQ(host.drops("MALFORMED"), 2U);
}

// The hash spreads flows over the ring as the ring is weighted: 90 to 10, even within the groups.
// The flows differ in few bits, as a client's source ports do.
TEST_F(UplinkTest, HashedPicksFollowTheRing) {
  constexpr int kFlows = 20'000;
  std::vector<model::BackendId> slots;
  std::vector<double> shares;
  for (model::BackendId id = 10; id < 14; ++id) {
    host.backend(id, fmt::format("10.244.2.{}:8080", id),
                 {.generation = 1, .epoch = 1, .node = kOtherHost});
    const std::size_t n = id < 12 ? 450 : 50;
    slots.insert(slots.end(), n, id);
    shares.push_back(static_cast<double>(n) / 1000);
  }
  const std::uint64_t seed = SystemRandom().next();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  SeededRandom random(seed);
  for (std::size_t i = slots.size() - 1; i > 0; --i)
    std::swap(slots[i], slots[random.below(i + 1)]);
  host.ring(1, slots, 32);
  const int program = host.program("shoal_uplink");
  for (int i = 0; i < kFlows; ++i) {
    SocketAddress client{IpAddress::v4(0xc6120065U + static_cast<std::uint32_t>(i / 5000)),
                         static_cast<std::uint16_t>(32768 + i % 5000)};
    host.run_fd(program, from_lan(tcp(client, kVip, kSyn)).frame(), uplink);
  }
  const model::BackendId ids[] = {10, 11, 12, 13};
  std::vector<std::uint64_t> seen;
  const auto counters = host.maps().backend_stats(ids).value();
  for (const kernel::BackendStats& stats : counters)
    seen.push_back(stats.flows);
  EXPECT_LT(chi_square(seen, shares), chi_square_limit(shares.size() - 1))
      << testing::PrintToString(seen);
}

// `shoal trace` computes the hash again: it must name the backend that the program picks, for flows
// that differ in every part of the key. Neighbouring slots have different backends, so a number
// that is off by one in its upper bits is seen.
TEST_F(UplinkTest, TheHashOfUserSpaceIsTheProgramsHash) {
  constexpr std::uint32_t kSlots = 8192;
  constexpr std::uint32_t kBackends = 128;
  constexpr std::size_t kFlows = 2'000;
  std::vector<model::BackendId> slots;
  for (std::uint32_t slot = 0; slot < kSlots; ++slot)
    slots.push_back(100 + slot % kBackends);
  for (std::uint32_t id = 100; id < 100 + kBackends; ++id)
    host.backend(id, fmt::format("10.244.2.{}:8080", id),
                 {.generation = 1, .epoch = 1, .node = kOtherHost});
  host.ring(1, slots, 32);
  const std::uint64_t seed = SystemRandom().next();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  SeededRandom random(seed);
  const SocketAddress vips[] = {kVip, at("198.18.100.77:65535"), at("10.96.7.9:1")};
  for (const SocketAddress& vip : vips)
    for (const L4Proto proto : {L4Proto::kTcp, L4Proto::kUdp})
      host.frontend(vip.to_string(), proto, 1, true);
  const int program = host.program("shoal_uplink");
  for (std::size_t i = 0; i < kFlows; ++i) {
    const SocketAddress client{
        IpAddress::v4(0xc6120000U + static_cast<std::uint32_t>(random.below(65536))),
        static_cast<std::uint16_t>(1 + random.below(65535))};
    const SocketAddress& vip = vips[random.below(std::size(vips))];
    const bool is_tcp = random.below(2) == 0;
    const kernel::FlowTuple tuple{is_tcp ? L4Proto::kTcp : L4Proto::kUdp, client, vip};
    host.run_fd(program, from_lan(is_tcp ? tcp(client, vip, kSyn) : udp(client, vip)).frame(),
                uplink);
    const auto flow = host.maps().find_flow(tuple).value();
    ASSERT_TRUE(flow) << client.to_string();
    const std::uint32_t number = kernel::flow_hash(tuple, host.options().hash_seed);
    ASSERT_EQ(flow->backend, slots[kernel::ring_slot(number, kSlots)]) << client.to_string();
  }
  EXPECT_FALSE(host.maps().find_flow({L4Proto::kTcp, at("192.0.2.1:1"), kVip}).value());
}

TEST_F(UplinkTest, TheFlowTableIsTalliedInSteps) {
  host.ring(1, {kFarId}, 0);
  constexpr std::uint16_t kFlows = 9'000;
  const int program = host.program("shoal_uplink");
  for (std::uint16_t i = 0; i < kFlows; ++i) {
    const SocketAddress client{kClient.ip, static_cast<std::uint16_t>(10'000 + i)};
    host.run_fd(program, from_lan(tcp(client, kVip, kSyn)).frame(), uplink);
    if (i < 100)
      host.run_fd(program, from_lan(tcp(client, kVip, kFin | kAck)).frame(), uplink);
  }
  kernel::TableWalk walk;
  kernel::Tally tally;
  unsigned steps = 1;
  while (host.maps().tally(kernel::LruTable::kFlows, walk, tally).value())
    ++steps;
  EXPECT_EQ(tally.entries, kFlows);
  EXPECT_EQ(tally.closing, 100U);
  EXPECT_EQ(tally.active, kFlows - 100U);
  EXPECT_GE(steps, kFlows / kernel::kTallyEntriesMax + 1);
  EXPECT_TRUE(walk.at.empty());
}

TEST_F(UplinkTest, CountersCountPacketsBytesAndFlows) {
  host.ring(1, {kWebId}, 0);
  at_uplink(from_lan(tcp(kClient, kVip, kSyn)));
  at_uplink(from_lan(tcp(kClient, kVip, kAck)));
  model::ServiceIndex service = 1;
  EXPECT_EQ(
      host.maps().service_stats({&service, 1}).value()[0],
      (kernel::ServiceStats{.connects = 0, .flows = 1, .packets = 2, .bytes = 108, .refused = 0}));
  ASSERT_TRUE(host.maps().clear_service_stats(service));
  EXPECT_EQ(host.maps().service_stats({&service, 1}).value()[0], kernel::ServiceStats{});
  auto flows = host.maps().flows(10).value();
  ASSERT_EQ(flows.size(), 2U);
  for (const kernel::Flow& flow : flows) {
    EXPECT_EQ(flow.source, flow.reverse ? kWeb : kClient);
    EXPECT_EQ(flow.destination, flow.reverse ? kClient : kVip);
    EXPECT_EQ(flow.translated, flow.reverse ? kVip : kWeb);
  }
}

}  // namespace
}  // namespace shoal::bpftest
