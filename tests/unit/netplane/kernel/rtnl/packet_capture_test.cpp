// SPDX-License-Identifier: Apache-2.0
// PacketCapture on a veth pair whose other end sends made-up frames.
//
//   capture: pod's eth0 --- veth --- host's end
#include "netplane/kernel/rtnl/packet_capture.h"

#include "tests/unit/netplane/kernel/rtnl/rtnl_scenarios.h"

#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

namespace shoal::kernel {
namespace {

enum class Family : std::uint8_t { kV4, kV6 };

// Ethernet, IP, UDP; only what the filter looks at is filled in.
std::string udp(Family family, std::uint16_t source, std::uint16_t destination,
                std::size_t bytes = 200, std::uint16_t fragment = 0) {
  std::string frame(bytes, '\0');
  const auto put = [&](std::size_t at, unsigned value) {
    frame[at] = static_cast<char>(value >> 8U);
    frame[at + 1] = static_cast<char>(value & 0xFFU);
  };
  const bool v4 = family == Family::kV4;
  put(12, v4 ? ETHERTYPE_IP : ETHERTYPE_IPV6);
  frame[14] = v4 ? 0x46 : 0x60;  // IPv4: with four bytes of options
  frame[v4 ? 23 : 20] = IPPROTO_UDP;
  if (v4)
    put(20, fragment);
  put(v4 ? 38 : 54, source);
  put(v4 ? 40 : 56, destination);
  return frame;
}

class PacketCaptureTest : public RtnlSuite<RealWorld> {
protected:
  void SetUp() override {
    RtnlSuite<RealWorld>::SetUp();
    ASSERT_TRUE(attach_pod(*host_, *pod_, kPod));
    host_end_ = sender(host_->netns_fd(), host_->link(kPod.host_link)->index);
    pod_end_ = sender(pod_->netns_fd(), pod_->link(kPodInterface)->index);
  }

  static UniqueFd sender(int netns, std::uint32_t link) {
    const auto scope = NetnsScope::enter(netns);
    UniqueFd fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
    sockaddr_ll at{};
    at.sll_family = AF_PACKET;
    at.sll_ifindex = static_cast<int>(link);
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&at), sizeof(at)), 0);
    return fd;
  }
  static void send(const UniqueFd& from, const std::string& frame) {
    ASSERT_EQ(::send(from.get(), frame.data(), frame.size(), 0), std::ssize(frame));
  }

  PacketCapture open(const CaptureFilter& filter = {}) {
    return std::move(*PacketCapture::open(pod_->netns_fd(), kPodInterface, filter));
  }
  struct Seen {
    std::string bytes;
    std::uint32_t original_bytes;
    std::int64_t time_ns;
  };
  // Within a bound that is reached only when something is wrong.
  static bool wait(const PacketCapture& capture, short events) {
    pollfd fd{capture.fd(), events, 0};
    return ::poll(&fd, 1, 20'000) == 1;
  }
  // What goes out has been seen when send() has returned. What the kernel itself says (IPv6's first
  // words) is left out.
  static std::vector<Seen> take(PacketCapture& capture) {
    std::vector<Seen> out;
    while (const auto packet = *capture.next()) {
      const std::string bytes(reinterpret_cast<const char*>(packet->bytes.data()),
                              packet->bytes.size());
      if (bytes.starts_with(std::string(12, '\0')))
        out.push_back({bytes, packet->original_bytes, packet->time_ns});
    }
    return out;
  }
  static std::vector<std::string> bytes_of(const std::vector<Seen>& seen) {
    std::vector<std::string> out;
    for (const Seen& one : seen)
      out.push_back(one.bytes);
    return out;
  }

  UniqueFd host_end_;
  UniqueFd pod_end_;
};

TEST_F(PacketCaptureTest, BothDirectionsAreSeenWithTheirTimes) {
  PacketCapture capture = open();
  send(host_end_, udp(Family::kV4, 1, 2));
  auto seen = take(capture);
  while (seen.empty() && wait(capture, POLLIN))  // the softirq that brings it may be another's
    seen = take(capture);
  send(pod_end_, udp(Family::kV4, 2, 1));
  for (const Seen& one : take(capture))
    seen.push_back(one);
  EXPECT_THAT(bytes_of(seen), testing::ElementsAre(udp(Family::kV4, 1, 2), udp(Family::kV4, 2, 1)));
  constexpr std::int64_t k2020 = 1'577'836'800LL * 1'000'000'000;
  ASSERT_EQ(seen.size(), 2U);
  EXPECT_GT(seen[0].time_ns, k2020);
  EXPECT_LE(seen[0].time_ns, seen[1].time_ns);
  EXPECT_EQ(*capture.dropped(), 0U);
}

TEST_F(PacketCaptureTest, APacketIsCutToTheSnaplenAndItsSizeIsKept) {
  PacketCapture capture = open({.snaplen = 64});
  const std::string frame = udp(Family::kV6, 1, 2, 900);
  send(pod_end_, frame);
  const auto seen = take(capture);
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].bytes, frame.substr(0, 64));
  EXPECT_EQ(seen[0].original_bytes, 900U);
}

TEST_F(PacketCaptureTest, APortIsLookedForInBothFamiliesAndDirections) {
  PacketCapture capture = open({.port = 80});
  std::vector<std::string> wanted;
  for (const Family family : {Family::kV4, Family::kV6}) {
    wanted.push_back(udp(family, 80, 5000));
    wanted.push_back(udp(family, 5000, 80));
    send(pod_end_, udp(family, 5000, 81));
    for (const std::string& frame : std::span(wanted).last(2))
      send(pod_end_, frame);
    std::string icmp = udp(family, 80, 80);
    icmp[family == Family::kV4 ? 23 : 20] = IPPROTO_ICMP;
    send(pod_end_, icmp);
  }
  send(pod_end_, udp(Family::kV4, 80, 80, 200, 0x00b9));  // a later fragment: no ports there
  EXPECT_EQ(bytes_of(take(capture)), wanted);
}

TEST_F(PacketCaptureTest, AFullQueueDropsAndCounts) {
  PacketCapture capture = open({.port = 80});
  constexpr std::size_t kFrames = 4 * kCaptureQueueBytes / 1'024;
  const std::string frame = udp(Family::kV4, 80, 80, 1'000);
  for (std::size_t n = 0; n < kFrames; ++n)
    send(pod_end_, frame);
  const std::size_t seen = take(capture).size();
  EXPECT_GT(seen, 100U);
  EXPECT_LE(seen, kCaptureQueueBytes / frame.size() + 1);
  EXPECT_EQ(seen + *capture.dropped(), kFrames);
  // There is room again, and what was dropped stays counted.
  send(pod_end_, frame);
  EXPECT_EQ(take(capture).size(), 1U);
  EXPECT_EQ(seen + *capture.dropped(), kFrames);
}

TEST_F(PacketCaptureTest, AfterItIsStoppedWhatWasTakenIsStillThere) {
  PacketCapture capture = open({.port = 80});
  send(pod_end_, udp(Family::kV4, 80, 1));
  ASSERT_TRUE(capture.stop());
  send(pod_end_, udp(Family::kV4, 80, 2));
  EXPECT_THAT(bytes_of(take(capture)), testing::ElementsAre(udp(Family::kV4, 80, 1)));
}

TEST_F(PacketCaptureTest, ALinkThatGoesIsToldOnceAndLosesNothing) {
  PacketCapture capture = open({.port = 80});
  send(pod_end_, udp(Family::kV4, 80, 1));
  ASSERT_TRUE(detach_pod(*host_, kPod.host_link));
  ASSERT_TRUE(wait(capture, 0));  // for the error alone
  const auto told = capture.next();
  ASSERT_FALSE(told);
  EXPECT_EQ(told.error().code(), Errc::kUnavailable);
  EXPECT_THAT(bytes_of(take(capture)), testing::ElementsAre(udp(Family::kV4, 80, 1)));
  const auto none = PacketCapture::open(pod_->netns_fd(), "no-such-link", {});
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code(), Errc::kNotFound) << none.error().message();
}

}  // namespace
}  // namespace shoal::kernel
