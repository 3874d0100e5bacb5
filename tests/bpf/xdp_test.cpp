// SPDX-License-Identifier: Apache-2.0
// What the XDP program does with frames from the LAN, beside what tc does with them. Roles are in
// cast.h: the backend that XDP is about is `far`, at the other host, whose MAC address up0 knows.
#include "bpf/abi/shoal_abi.h"
#include "netplane/base/random.h"
#include "tests/bpf/overlay_cast.h"

#include <gmock/gmock.h>
#include <set>

namespace shoal::bpftest {
namespace {

constexpr std::size_t kOuterBytes = 50;
constexpr std::size_t kOverlayMtu = 1450;
constexpr model::ServiceIndex kService = 1;

class XdpTest : public OverlayCast {
protected:
  static void SetUpTestSuite() {
    OverlayCast::SetUpTestSuite();
    sh("ip neigh replace 198.18.0.12 lladdr 02:00:00:00:00:12 dev up0");
  }
  void SetUp() override {
    OverlayCast::SetUp();
    const Result<> attached = host.loader().attach_xdp(uplink, ip("198.18.0.11"), 4789);
    ASSERT_TRUE(attached) << attached.error().message();
    host.ring(kService, {kFarId}, 0);
  }

  Outcome at_xdp(const Frame& frame) { return host.run_xdp(frame, uplink); }
  Outcome at_xdp(const Packet& p) { return at_xdp(p.frame()); }
  kernel::ServiceStats stats() {
    return host.maps().service_stats(std::array{kService}).value()[0];
  }
  std::size_t ip_bytes() const { return v6 ? 40 : 20; }
  static Frame inner(const Outcome& run) {
    return Frame(run.out.begin() + kOuterBytes, run.out.end());
  }

  // Left to tc as it came, and nothing counted.
  void expect_left(const Frame& frame) {
    const kernel::ServiceStats before = stats();
    const auto drops = host.maps().drops().value();
    const Outcome run = at_xdp(frame);
    EXPECT_EQ(run.verdict, kXdpPass);
    EXPECT_EQ(run.out, frame);
    kernel::ServiceStats now = stats();
    now.flows = before.flows;  // a flow that XDP has begun is one, and tc goes on with it
    EXPECT_EQ(now, before);
    const auto drops_now = host.maps().drops().value();
    for (std::size_t i = 0; i < drops.size(); ++i)
      EXPECT_EQ(drops_now[i].packets, drops[i].packets) << drops[i].name;
  }
  void expect_left(const Packet& p) { expect_left(p.frame()); }

  // As if what is known of the ways to other hosts had been asked for long ago.
  void age_next_hops() {
    const UniqueFd hops(bpf_obj_get((host.loader().maps_folder() / "shoal_next_hops").c_str()));
    ASSERT_TRUE(hops);
    const __u32 slot = kOtherHost.v4_host_order() % SHOAL_NEXT_HOPS;
    std::vector<shoal_next_hop> each(static_cast<std::size_t>(libbpf_num_possible_cpus()));
    ASSERT_EQ(bpf_map_lookup_elem(hops.get(), &slot, each.data()), 0);
    for (shoal_next_hop& hop : each)
      hop.checked -= SHOAL_NEXT_HOP_TICKS + 1;
    ASSERT_EQ(bpf_map_update_elem(hops.get(), &slot, each.data(), BPF_ANY), 0);
  }
};
SHOAL_BOTH_FAMILIES(XdpTest);

// ---- what it sends ------------------------------------------------------------------------------

TEST_P(XdpTest, ABackendElsewhereIsReachedThroughTheOverlayByteForByte) {
  Packet p = from_lan(tcp(client, vip, kAck));
  p.payload = 11;
  const Frame sent = p.frame();
  const Outcome run = at_xdp(p);
  ASSERT_EQ(run.verdict, kXdpTx);
  ASSERT_EQ(run.out.size(), sent.size() + kOuterBytes);
  EXPECT_EQ(macs(run.out), "02:00:00:00:00:11 > 02:00:00:00:00:12");
  const auto source_port = static_cast<std::uint16_t>(run.out[34] << 8 | run.out[35]);
  EXPECT_GE(source_port, 49152);
  // The outer header's checksum and lengths are right, or it would say so; none of UDP.
  EXPECT_EQ(bpftest::text(run.out), fmt::format("UDP 198.18.0.11:{} > 198.18.0.12:4789 ttl=64 +{}",
                                                source_port, sent.size() + 8));
  const Frame ip_start(run.out.begin() + 14, run.out.begin() + 24);
  const std::size_t total = sent.size() + 36;
  EXPECT_EQ(ip_start, (Frame{0x45, 0, static_cast<std::uint8_t>(total >> 8),
                             static_cast<std::uint8_t>(total), 0, 0, 0x40, 0, 64, 17}));
  EXPECT_EQ(Frame(run.out.begin() + 40, run.out.begin() + 50),
            (Frame{0, 0, 0x08, 0, 0, 0, 0, 0, kVniDsr, 0}));
  Frame expected = dsr(p, far, 9);
  EXPECT_EQ(inner(run), expected);
}

TEST_P(XdpTest, WhatXdpEncodesTheOtherHostDecodes) {
  for (const Packet& p : {from_lan(tcp(client, vip, kSyn)), from_lan(udp(client, vip))}) {
    const Outcome sent = at_xdp(p);
    ASSERT_EQ(sent.verdict, kXdpTx);
    // This host, for once, is the one where that pod lives.
    ASSERT_TRUE(host.maps().put_node(pod_cidr(web), {kOtherHost}));
    ASSERT_TRUE(host.maps().put_node(pod_cidr(far), {}));
    ASSERT_TRUE(host.maps().put_pod(far.ip, {veth, 9, kWebMac, kVethMac}));
    const Outcome run = from(kOtherHost, kVniDsr, inner(sent));
    EXPECT_EQ(run.verdict, kRedirect);
    EXPECT_THAT(text(run.out), testing::HasSubstr("client > far "));
    ASSERT_TRUE(host.maps().put_node(pod_cidr(web), {}));
    ASSERT_TRUE(host.maps().put_node(pod_cidr(far), {kOtherHost}));
  }
}

TEST_P(XdpTest, FlowsDifferInTheOuterSourcePortAndOneKeepsIts) {
  std::set<std::pair<int, int>> ports;
  for (std::uint16_t n = 0; n < 64; ++n) {
    const Packet p = from_lan(tcp(on(client, static_cast<std::uint16_t>(30'000 + n)), vip, kAck));
    const Outcome once = at_xdp(p), again = at_xdp(p);
    EXPECT_EQ(once.out, again.out);
    ports.insert({once.out[34], once.out[35]});
  }
  EXPECT_GT(ports.size(), 48U);
}

TEST_P(XdpTest, CongestionMarksAreOnTheOutsideToo) {
  Frame frame = from_lan(udp(client, vip)).frame();
  if (v6) {
    frame[15] = 0x30;  // ECN 3, the flow label's bits 0
  } else {
    frame[15] = 0x03;
    // One more in the header's second word, one less in its checksum.
    const auto check = static_cast<std::uint16_t>((frame[24] << 8 | frame[25]) - 3);
    frame[24] = static_cast<std::uint8_t>(check >> 8);
    frame[25] = static_cast<std::uint8_t>(check);
  }
  const Outcome run = at_xdp(frame);
  ASSERT_EQ(run.verdict, kXdpTx);
  EXPECT_EQ(run.out[15], 3);
  EXPECT_THAT(bpftest::text(run.out), testing::Not(testing::HasSubstr("BAD")));
}

TEST_P(XdpTest, AProcessOfAnotherHostIsABackend) {
  host.backend(kFarId, beside(self, 1).to_string(),
               {.generation = 0, .epoch = 1, .node = kOtherHost, .stack = true});
  const Outcome run = at_xdp(from_lan(tcp(client, vip, kSyn)));
  ASSERT_EQ(run.verdict, kXdpTx);
  EXPECT_EQ(run.out[kOuterBytes + 1], 'h');
}

// ---- flows, shared with tc ----------------------------------------------------------------------

TEST_P(XdpTest, AnEntryOfAFlowIsKeptWhicheverProgramSeesIt) {
  const Packet p = from_lan(udp(client, vip));
  EXPECT_EQ(at_xdp(p).verdict, kXdpTx);
  host.ring(kService, {kWebId}, 1);
  EXPECT_EQ(at_xdp(p).verdict, kXdpTx);
  EXPECT_EQ(at_uplink(p).out[1], 'd');
  EXPECT_EQ(at_xdp(p).verdict, kXdpTx);
}

TEST_P(XdpTest, OfASlotThatHasMovedTheFormerOwnerIsAskedAsTcAsks) {
  host.ring(kService, all(kFarId), 1);
  EXPECT_EQ(at_xdp(from_lan(tcp(client, vip, kSyn))).out[kOuterBytes + 1], 'd');
  host.change_ring(kService, all(kWebId), 5);
  const Packet open = from_lan(tcp(client, vip, kAck));
  const Outcome asked = at_xdp(open);
  ASSERT_EQ(asked.verdict, kXdpTx);
  EXPECT_EQ(asked.out[kOuterBytes + 1], 'D');
  EXPECT_EQ(at_uplink(open).out, inner(asked));
  // Who comes anew is the present owner's, which is here.
  expect_left(from_lan(tcp(on(client, 40001), vip, kSyn)));
  // So is whoever it answers.
  EXPECT_EQ(at_uplink(from_lan(tcp(on(client, 40001), vip, kSyn))).verdict, kRedirect);
  Packet answer = from_pod(tcp(web, on(client, 40001), kSyn | kAck));
  answer.seq = 0xffff'ffff;
  EXPECT_EQ(at_pod(answer).verdict, kRedirect);
  expect_left(from_lan(tcp(on(client, 40001), vip, kAck)));
}

TEST_P(XdpTest, CountersAreTcsOwnAndWhatIsLeftToItIsCountedOnce) {
  at_xdp(from_lan(udp(client, vip)));
  at_xdp(from_lan(udp(client, vip)));
  const std::uint64_t bytes = from_lan(udp(client, vip)).frame().size();
  EXPECT_EQ(stats(),
            (kernel::ServiceStats{
                .connects = 0, .flows = 1, .packets = 2, .bytes = 2 * bytes, .refused = 0}));
  const model::BackendId ids[] = {kFarId, kWebId};
  EXPECT_EQ(host.maps().backend_stats(ids).value()[0].flows, 1U);
  // To a pod here: XDP looks first, tc delivers.
  host.ring(kService, {kWebId}, 1);
  const Packet local = from_lan(udp(on(client, 40001), vip));
  EXPECT_EQ(at_xdp(local).verdict, kXdpPass);
  EXPECT_EQ(at_uplink(local).verdict, kRedirect);
  EXPECT_EQ(stats(),
            (kernel::ServiceStats{
                .connects = 0, .flows = 2, .packets = 3, .bytes = 3 * bytes, .refused = 0}));
  EXPECT_EQ(host.maps().backend_stats(ids).value()[1].flows, 1U);
  const Packet syn = from_lan(tcp(on(client, 40003), vip, kSyn));
  EXPECT_EQ(at_xdp(syn).verdict, kXdpPass);
  EXPECT_EQ(at_uplink(syn).verdict, kRedirect);
  EXPECT_EQ(stats().flows, 3U);
  EXPECT_EQ(stats().packets, 4U);
  EXPECT_EQ(host.maps().backend_stats(ids).value()[1].flows, 2U);
  // Refused.
  ASSERT_TRUE(host.maps().switch_ring(kService, {}));
  const Packet nobody = from_lan(udp(on(client, 40002), vip));
  EXPECT_EQ(at_xdp(nobody).verdict, kXdpPass);
  at_uplink(nobody);
  EXPECT_EQ(stats().refused, 1U);
  EXPECT_EQ(stats().packets, 4U);
}

TEST_P(XdpTest, AClientOutsideOfTheSourceRangesIsDropped) {
  host.frontend(vip.to_string(), L4Proto::kTcp,
                {.inside = kService, .outside = kService, .restricted = true});
  EXPECT_EQ(at_xdp(from_lan(tcp(client, vip, kSyn))).verdict, kXdpDrop);
  EXPECT_EQ(host.drops("SOURCE_RANGE"), 1U);
  ASSERT_TRUE(
      host.maps().put_source_range(kService, IpPrefix::containing(client.ip, v6 ? 64 : 24)));
  EXPECT_EQ(at_xdp(from_lan(tcp(client, vip, kSyn))).verdict, kXdpTx);
}

// ---- what is left to tc -------------------------------------------------------------------------

TEST_P(XdpTest, WhatIsNotForAFrontendElsewhere) {
  expect_left(from_lan(tcp(client, on(vip, 81), kSyn)));
  expect_left(from_lan(tcp(client, self, kSyn)));
  expect_left(from_lan(tcp(client, cluster, kSyn)));
  host.ring(kService, {kWebId}, 1);
  expect_left(from_lan(tcp(client, vip, kSyn)));
  ASSERT_TRUE(host.maps().switch_ring(kService, {}));
  expect_left(from_lan(tcp(on(client, 40001), vip, kSyn)));
  host.backend(kFarId, "203.0.113.9:80", {.epoch = 2, .stack = true});
  if (v6)
    host.backend(kFarId, "[2001:db8:99::9]:80", {.epoch = 2, .stack = true});
  host.ring(kService, {kFarId}, 2);
  expect_left(from_lan(tcp(on(client, 40002), vip, kSyn)));
}

TEST_P(XdpTest, WhatNeedsMoreThanSendingOn) {
  Packet odd = from_lan(udp(client, vip));
  odd.fragment = 0x2000;
  expect_left(odd);
  odd = from_lan(udp(client, vip));
  if (v6)
    odd.extensions = {{kDestination}};
  else
    odd.options = 4;
  expect_left(odd);
  expect_left(echo_request(from_lan(tcp(client, vip, 0))));
  expect_left(arp_request(kClientMac, ip("198.18.0.101"), ip("198.18.100.1")));
  IcmpError error;
  error.eth_dst = kUplinkMac;
  error.eth_src = kClientMac;
  error.from = client.ip;
  error.to = vip.ip;
  error.about = tcp(vip, client, kAck).frame();
  expect_left(error.frame());
  for (const L4Proto proto : {L4Proto::kTcp, L4Proto::kUdp})
    host.frontend(vip.to_string(), proto,
                  {.inside = kService, .outside = kService, .affinity_s = 60});
  expect_left(from_lan(tcp(client, vip, kSyn)));
}

TEST_P(XdpTest, WhatIsForAnotherDeviceOrIsTagged) {
  for (const char* there : {"02:99:99:99:99:99", "ff:ff:ff:ff:ff:ff", "33:33:00:00:00:01"}) {
    Packet p = from_lan(tcp(client, vip, kSyn));
    p.eth_dst = mac(there);
    expect_left(p);
  }
  Frame tagged = from_lan(tcp(client, vip, kSyn)).frame();
  const Frame tag{0x81, 0x00, 0, 7};
  tagged.insert(tagged.begin() + 12, tag.begin(), tag.end());
  expect_left(tagged);
}

TEST_P(XdpTest, WhatIsSentBySnatOrWithoutAnOverlay) {
  const Packet p = from_lan(tcp(client, vip, kSyn));
  ASSERT_TRUE(host.maps().put_host({.snat = true}));
  expect_left(p);
  ASSERT_TRUE(host.maps().put_host({}));
  ASSERT_TRUE(host.loader().detach_overlay(ifindex_of("shoal-vxlan")));
  expect_left(p);
}

TEST_P(XdpTest, WhatSaysThatItIsAPodsWithNativeRoutes) {
  const Packet p = from_lan(tcp(on(far, 5555), vip, kSyn));
  EXPECT_EQ(at_xdp(p).verdict, kXdpTx);
  ASSERT_TRUE(host.maps().put_host({.native = true}));
  expect_left(p);
  EXPECT_EQ(at_xdp(from_lan(tcp(client, vip, kSyn))).verdict, kXdpTx);
}

TEST_P(XdpTest, WhatTheOverlayCannotCarry) {
  Packet p = from_lan(udp(client, vip));
  p.payload = kOverlayMtu - ip_bytes() - 8;
  EXPECT_EQ(at_xdp(p).verdict, kXdpTx);
  p.payload++;
  expect_left(p);
}

TEST_P(XdpTest, AWayThatIsNotKnownIsLookedForByTheStackAndThenTaken) {
  const Packet p = from_lan(tcp(client, vip, kSyn));
  sh("ip neigh del 198.18.0.12 dev up0");
  expect_left(p);
  sh("ip neigh replace 198.18.0.12 lladdr 02:00:00:00:00:13 dev up0");
  age_next_hops();
  EXPECT_EQ(macs(at_xdp(p).out), "02:00:00:00:00:11 > 02:00:00:00:00:13");
  sh("ip neigh replace 198.18.0.12 lladdr 02:00:00:00:00:12 dev up0");
  age_next_hops();
  EXPECT_EQ(macs(at_xdp(p).out), "02:00:00:00:00:11 > 02:00:00:00:00:12");
  // By another device: it may not take frames from XDP.
  sh("ip route replace 198.18.0.12 dev shl1");
  sh("ip neigh replace 198.18.0.12 lladdr 02:00:00:00:00:12 dev shl1");
  age_next_hops();
  expect_left(p);
  sh("ip route del 198.18.0.12 dev shl1");
  // A path that carries less than the overlay promises.
  sh("ip route replace 198.18.0.12 dev up0 mtu lock 1400");
  age_next_hops();
  expect_left(p);
  sh("ip route del 198.18.0.12 dev up0");
  age_next_hops();
  EXPECT_EQ(at_xdp(p).verdict, kXdpTx);
}

TEST_P(XdpTest, TwoHostsThatShareASlotTakeTurns) {
  // The same low bits in another subnet, by a router on up0.
  const IpAddress third = ip("198.18.16.12");
  sh("ip route replace 198.18.16.0/24 via 198.18.0.1 dev up0");
  sh("ip neigh replace 198.18.0.1 lladdr 02:00:00:00:00:01 dev up0");
  host.backend(50, beside(far, 50).to_string(), {.generation = 3, .epoch = 1, .node = third});
  host.frontend(on(vip, 90).to_string(), L4Proto::kTcp, 2, true);
  host.ring(2, {50}, 3);
  for (int turn = 0; turn < 3; ++turn) {
    EXPECT_EQ(macs(at_xdp(from_lan(tcp(client, vip, kAck))).out),
              "02:00:00:00:00:11 > 02:00:00:00:00:12");
    const Outcome run = at_xdp(from_lan(tcp(client, on(vip, 90), kAck)));
    EXPECT_EQ(macs(run.out), "02:00:00:00:00:11 > 02:00:00:00:00:01");
    EXPECT_THAT(bpftest::text(run.out), testing::HasSubstr(" > 198.18.16.12:4789 "));
  }
}

// ---- the MSS ------------------------------------------------------------------------------------

TEST_P(XdpTest, ASynsMssFitsTheOverlayAndOneThatStandsElsewhereIsTcs) {
  const std::string fits = v6 ? "mss=1390" : "mss=1410";
  const std::vector<std::pair<std::vector<std::uint8_t>, std::string>> rows = {
      {{2, 4, 0x05, 0xb4}, fits},
      {{2, 4, 0xff, 0xff, 4, 2, 1, 1}, fits},
      {{2, 4, 0x04, 0x00}, "mss=1024"},
      {{}, ""},
      {{1, 2, 4, 0x05, 0xb4, 1, 1, 1}, "tc"},
      {{4, 2, 1, 1}, "tc"},
      {{2, 3, 1, 1}, "tc"},
  };
  std::uint16_t port = 41000;
  for (const auto& [options, mss] : rows) {
    SCOPED_TRACE(testing::PrintToString(options));
    Packet p = from_lan(tcp(on(client, ++port), vip, kSyn));
    p.tcp_options = options;
    if (mss == "tc") {
      expect_left(p);
      continue;
    }
    EXPECT_EQ(text(inner(at_xdp(p))),
              fmt::format("TCP client:{} > vip [S] seq=1000 ack=0 ttl=64 +0{}{}", port,
                          mss.empty() ? "" : " ", mss));
  }
  Packet no_syn = from_lan(tcp(client, vip, kAck));
  no_syn.tcp_options = {2, 4, 0x05, 0xb4};
  EXPECT_THAT(text(inner(at_xdp(no_syn))), testing::HasSubstr("mss=1460"));
}

// ---- hostile frames -----------------------------------------------------------------------------

// tc is the twin: whatever XDP sends, tc would have sent the same, whatever the frame. What it
// leaves is as it was.
TEST_P(XdpTest, OfTruncatedAndMutatedFramesItSendsWhatTcWould) {
  const std::uint64_t seed = SystemRandom().next();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  SeededRandom random(seed);
  Packet syn = from_lan(tcp(client, vip, kSyn));
  syn.tcp_options = {2, 4, 0x05, 0xb4};
  unsigned sent = 0;
  for (const Packet& p : {syn, from_lan(tcp(client, vip, kAck)), from_lan(udp(client, vip))}) {
    const Frame whole = p.frame();
    for (std::size_t bytes = shortest_run(); bytes < whole.size(); ++bytes)
      EXPECT_EQ(at_xdp(Frame(whole.begin(), whole.begin() + static_cast<long>(bytes))).verdict,
                kXdpPass)
          << bytes << " bytes of " << text(whole);
    for (int round = 0; round < 2000; ++round) {
      Frame bent = whole;
      for (std::uint64_t n = 1 + random.below(3); n > 0; --n)
        bent[random.below(bent.size())] = static_cast<std::uint8_t>(random.next());
      const Outcome run = at_xdp(bent);
      if (run.verdict == kXdpPass) {
        EXPECT_EQ(run.out, bent);
        continue;
      }
      ASSERT_EQ(run.verdict, kXdpTx) << text(bent);
      const Outcome twin = host.run("shoal_uplink", bent, uplink);
      ASSERT_EQ(twin.verdict, kRedirect) << text(bent);
      EXPECT_EQ(twin.out, inner(run)) << text(bent);
      ++sent;
    }
  }
  EXPECT_GT(sent, 1000U);
}

}  // namespace
}  // namespace shoal::bpftest
