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

class OverlayTest : public CastTest {
protected:
  void SetUp() override {
    CastTest::SetUp();
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
    const auto low = backend.ip.v4_host_order();
    const Frame eth = {0x02,
                       'd',
                       static_cast<std::uint8_t>(low >> 24),
                       static_cast<std::uint8_t>(low >> 16),
                       static_cast<std::uint8_t>(low >> 8),
                       static_cast<std::uint8_t>(low),
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

TEST_F(OverlayTest, OtherHostsPodToAPodHere) {
  Outcome run = from(kOtherHost, kVniPod, tcp(kFar, kWeb, kSyn).frame());
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "TCP 10.244.2.7:8080 > 10.244.1.5:8080 [S] seq=1000 ack=0 ttl=63 +0");
  EXPECT_EQ(macs(run.out), "02:00:00:00:bb:05 > 02:00:00:00:aa:05");
}

TEST_F(OverlayTest, HostAddressIsTheStacksAndUnknownPodsAreDropped) {
  EXPECT_EQ(from(kOtherHost, kVniPod, tcp(kFar, at("198.18.0.11:9000"), kSyn).frame()).verdict,
            kPass);
  EXPECT_EQ(from(kOtherHost, kVniPod, tcp(kFar, at("10.244.1.99:80"), kSyn).frame()).verdict,
            kShot);
  EXPECT_EQ(from(kOtherHost, kVniPod, tcp(kFar, at("10.244.2.9:80"), kSyn).frame()).verdict, kShot);
  EXPECT_EQ(host.drops("UNKNOWN_POD"), 2U);
}

TEST_F(OverlayTest, StrangersAndUnknownNetworksAreDropped) {
  EXPECT_EQ(from(ip("198.18.0.66"), kVniPod, tcp(kFar, kWeb, kSyn).frame()).verdict, kShot);
  EXPECT_EQ(host.drops("UNKNOWN_NODE"), 1U);
  EXPECT_EQ(from(kOtherHost, 77, tcp(kFar, kWeb, kSyn).frame()).verdict, kShot);
  EXPECT_EQ(host.drops("TUNNEL"), 1U);
  // A host that has left is a stranger.
  ASSERT_TRUE(host.maps().delete_node(IpPrefix::containing(kFar.ip, 24)));
  EXPECT_EQ(from(kOtherHost, kVniPod, tcp(kFar, kWeb, kSyn).frame()).verdict, kShot);
  EXPECT_EQ(host.drops("UNKNOWN_NODE"), 2U);
}

TEST_F(OverlayTest, BalancedFrameReachesTheNamedBackendAndItsReplyComesFromTheVip) {
  Outcome run = from(kOtherHost, kVniDsr, dsr(tcp(kClient, kVip, kSyn), kWeb, kWebGeneration));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "TCP 198.18.0.101:40000 > 10.244.1.5:8080 [S] seq=1000 ack=0 ttl=64 +0");
  EXPECT_EQ(macs(run.out), "02:00:00:00:bb:05 > 02:00:00:00:aa:05");
  EXPECT_EQ(text(at_pod(from_pod(tcp(kWeb, kClient, kSyn | kAck))).out),
            "TCP 198.18.100.1:80 > 198.18.0.101:40000 [SA] seq=1000 ack=0 ttl=63 +0");
}

TEST_F(OverlayTest, WhatOneHostEncodesTheOtherDecodes) {
  // This host balances to `far`; the frame is then given to a host where that pod lives (here, for
  // the test).
  host.ring(1, {kFarId}, 0);
  Outcome balanced = at_uplink(from_lan(udp(kClient, kVip)));
  ASSERT_EQ(balanced.verdict, kRedirect);
  ASSERT_TRUE(host.maps().put_pod(kFar.ip, {veth, 9, kWebMac, kVethMac}));
  Outcome run = from(kOtherHost, kVniDsr, balanced.out);
  EXPECT_EQ(text(run.out), "UDP 198.18.0.101:40000 > 10.244.2.7:8080 ttl=64 +12");
}

TEST_F(OverlayTest, StaleGenerationIsToldAtOnceButASynIsLeftToComeAgain) {
  Packet p = tcp(kClient, kVip, kAck);
  p.ack = 555;
  Outcome run = from(kOtherHost, kVniDsr, dsr(p, kWeb, kWebGeneration - 1));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "TCP 198.18.100.1:80 > 198.18.0.101:40000 [R] seq=555 ack=0 ttl=63 +0");
  EXPECT_EQ(macs(run.out), "02:00:00:00:00:11 > 02:00:00:00:01:01");
  EXPECT_EQ(from(kOtherHost, kVniDsr, dsr(p.with(kSyn), kWeb, kWebGeneration - 1)).verdict, kShot);
  EXPECT_EQ(from(kOtherHost, kVniDsr, dsr(udp(kClient, kVip), at("10.244.1.9:1"), 1)).verdict,
            kShot);
  EXPECT_EQ(host.drops("STALE_BACKEND"), 3U);
}

TEST_F(OverlayTest, FramesThatAreNoEncodingAreMalformed) {
  Frame f = dsr(tcp(kClient, kVip, kSyn), kWeb, kWebGeneration);
  f[1] = 'x';
  EXPECT_EQ(from(kOtherHost, kVniDsr, f).verdict, kShot);
  const Frame whole = dsr(tcp(kClient, kVip, kSyn), kWeb, kWebGeneration);
  for (std::size_t bytes = kShortestRun; bytes < whole.size(); ++bytes)
    EXPECT_EQ(
        from(kOtherHost, kVniDsr, Frame(whole.begin(), whole.begin() + static_cast<long>(bytes)))
            .verdict,
        kShot);
  EXPECT_EQ(host.drops("MALFORMED"), 1U + whole.size() - kShortestRun);
}

TEST_F(OverlayTest, EgressGivesThePacketOfTheStackItsWay) {
  const std::uint32_t overlay = ifindex_of("shoal-vxlan");
  Outcome run = host.run("shoal_ovl_out", tcp(at("198.18.0.11:1"), kFar, kSyn).frame(), overlay);
  EXPECT_EQ(run.verdict, kPass);
  EXPECT_EQ(macs(run.out), "02:53:48:4f:41:4c > 02:73:68:6f:61:6c");
  EXPECT_EQ(
      host.run("shoal_ovl_out", tcp(at("198.18.0.11:1"), kClient, kSyn).frame(), overlay).verdict,
      kShot);
}

}  // namespace
}  // namespace shoal::bpftest
