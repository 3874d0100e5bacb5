// SPDX-License-Identifier: Apache-2.0
// What the overlay program does with frames of other hosts, which here means: with the tunnel key
// that the harness gives them. Roles are in cast.h.
#include "tests/bpf/cast.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <harness.skel.h>

namespace shoal::bpftest {
namespace {

constexpr std::uint32_t kVniPod = 1, kVniDsr = 2;

class OverlayTest : public BothFamilies {
protected:
  void SetUp() override {
    BothFamilies::SetUp();
    harness_ = harness_bpf__open_and_load();
    ASSERT_NE(harness_, nullptr);
    const __u32 zero = 0;
    const int tested = host.program("shoal_ovl_in");
    ASSERT_EQ(bpf_map_update_elem(bpf_map__fd(harness_->maps.tested), &zero, &tested, BPF_ANY), 0);
  }
  void TearDown() override { harness_bpf__destroy(harness_); }

  Outcome from(const IpAddress& sender, std::uint32_t vni, const Frame& frame) {
    const __u32 zero = 0;
    const __u32 value[2] = {sender.v4_host_order(), vni};
    EXPECT_EQ(bpf_map_update_elem(bpf_map__fd(harness_->maps.tunnel), &zero, value, BPF_ANY), 0);
    return host.run_fd(bpf_program__fd(harness_->progs.through_tunnel), frame,
                       ifindex_of("shoal-vxlan"));
  }

  // As another host's uplink program encodes it.
  static Frame dsr(const Packet& p, const SocketAddress& backend, std::uint16_t generation) {
    Frame f = p.frame();
    const auto& address = backend.ip.bytes();
    const Frame eth = {0x02,
                       'd',
                       address[12],
                       address[13],
                       address[14],
                       address[15],
                       0x02,
                       'D',
                       static_cast<std::uint8_t>(generation >> 8),
                       static_cast<std::uint8_t>(generation),
                       static_cast<std::uint8_t>(backend.port >> 8),
                       static_cast<std::uint8_t>(backend.port)};
    std::copy(eth.begin(), eth.end(), f.begin());
    return f;
  }

  harness_bpf* harness_ = nullptr;
};
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
