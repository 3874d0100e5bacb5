// SPDX-License-Identifier: Apache-2.0
// Whether the picks of the programs on packets follow the weights, a million flows each. The
// flows differ in few bits, as those of real clients do. Roles are in cast.h.
#include "tests/bpf/cast.h"
#include "tests/bpf/rings.h"

#include <bpf/bpf.h>
#include <cstring>
#include <fmt/format.h>

namespace shoal::bpftest {
namespace {

constexpr std::uint16_t kFirstPort = 1024;
constexpr std::uint64_t kPorts = 62'500;
constexpr std::uint64_t kAddresses = 18;  // times kPorts: flows enough for all rounds
constexpr model::BackendId kFirstId = 10;
constexpr std::uint32_t kBlock = 32;

class PicksTest : public BothFamilies {
protected:
  PicksTest() {
    fmt::print("seed {}\n", seed);
    for (std::uint32_t i = 0; i < kBackendsMax; ++i)
      host.backend(kFirstId + i, beside(far, i).to_string(),
                   {.generation = 1, .epoch = 1, .node = kOtherHost});
  }

  // A program, and a packet's context with the device that it has come in by.
  struct Hook {
    int fd = -1;
    std::vector<std::uint8_t> context;
    int sent = kRedirect;
  };
  template <class Context>
  static std::vector<std::uint8_t> bytes_of(const Context& context) {
    const auto* from = reinterpret_cast<const std::uint8_t*>(&context);
    return {from, from + sizeof(context)};
  }
  Hook tc_hook(const char* program, std::uint32_t ifindex) const {
    __sk_buff context{};
    context.ifindex = ifindex;
    return {host.program(program), bytes_of(context), kRedirect};
  }
  Hook xdp_hook(std::size_t frame_bytes) const {
    xdp_md context{};
    context.data_end = static_cast<__u32>(frame_bytes);
    context.ingress_ifindex = uplink;
    return {host.program("shoal_xdp"), bytes_of(context), kXdpTx};
  }

  void follow_the_ring(const Hook& hook, Frame frame,
                       const std::function<void(Frame&, std::uint64_t)>& set_flow) {
    std::uint64_t flow = 0;
    for (const Round& round : rounds(random, v6)) {
      SCOPED_TRACE(fmt::format("seed {}, {} backends", seed, round.backends));
      const WeightedRing ring = random_ring(random, round.backends, kFirstId);
      host.ring(1, ring.slots, kBlock);
      const std::vector<std::uint64_t> before = flows_of(ring);
      for (const std::uint64_t end = flow + round.picks; flow < end; ++flow) {
        set_flow(frame, flow);
        ASSERT_EQ(run(hook, frame), hook.sent);
      }
      std::vector<std::uint64_t> seen = flows_of(ring);
      for (std::size_t i = 0; i < seen.size(); ++i)
        seen[i] -= before[i];
      expect_picks(ring, seen, round.picks);
    }
  }

  std::vector<std::uint64_t> flows_of(const WeightedRing& ring) {
    std::vector<std::uint64_t> flows;
    const auto counters = host.maps().backend_stats(ring.ids).value();
    for (const kernel::BackendStats& stats : counters)
      flows.push_back(stats.flows);
    return flows;
  }

  // As Host::run_fd, without looking at what became of the frame.
  static int run(const Hook& hook, const Frame& frame) {
    bpf_test_run_opts options{};
    options.sz = sizeof(options);
    options.data_in = frame.data();
    options.data_size_in = static_cast<__u32>(frame.size());
    options.ctx_in = hook.context.data();
    options.ctx_size_in = static_cast<__u32>(hook.context.size());
    return bpf_prog_test_run_opts(hook.fd, &options) == 0 ? static_cast<int>(options.retval)
                                                          : -errno;
  }

  void put_ip(Frame& frame, std::size_t offset_v4, std::size_t offset_v6,
              const IpAddress& ip) const {
    const IpAddress::Bytes& bytes = ip.bytes();  // IPv4: mapped, the last four
    if (v6)
      std::memcpy(frame.data() + 14 + offset_v6, bytes.data(), 16);
    else
      std::memcpy(frame.data() + 14 + offset_v4, bytes.data() + 12, 4);
  }
  void put_source_port(Frame& frame, std::uint64_t port) const {
    const std::size_t at = 14 + (v6 ? 40 : 20);
    frame[at] = static_cast<std::uint8_t>(port >> 8);
    frame[at + 1] = static_cast<std::uint8_t>(port);
  }

  const std::uint64_t seed = SystemRandom().next();
  SeededRandom random{seed};
};
SHOAL_BOTH_FAMILIES(PicksTest);

// Programs that look at no checksum: frames are changed in place.
TEST_P(PicksTest, OfTheUplinkFollowTheWeights) {
  follow_the_ring(tc_hook("shoal_uplink", uplink), from_lan(tcp(client, vip, kSyn)).frame(),
                  [&](Frame& frame, std::uint64_t flow) {
                    put_ip(frame, 12, 8, client.ip.plus(flow / kPorts));
                    put_source_port(frame, kFirstPort + flow % kPorts);
                  });
}

TEST_P(PicksTest, OfXdpFollowTheWeights) {
  sh("ip neigh replace 198.18.0.12 lladdr 02:00:00:00:00:12 dev up0");
  ASSERT_TRUE(host.loader().attach_xdp(uplink, ip("198.18.0.11"), 4789));
  const Frame frame = from_lan(tcp(client, vip, kSyn)).frame();
  follow_the_ring(xdp_hook(frame.size()), frame, [&](Frame& changed, std::uint64_t flow) {
    put_ip(changed, 12, 8, client.ip.plus(flow / kPorts));
    put_source_port(changed, kFirstPort + flow % kPorts);
  });
}

TEST_P(PicksTest, OfThePodFollowTheWeights) {
  for (std::uint64_t i = 0; i < kAddresses; ++i)
    host.frontend(beside(cluster, i).to_string(), L4Proto::kTcp, 1, false);
  follow_the_ring(tc_hook("shoal_pod", veth), from_pod(tcp(web, cluster, kSyn)).frame(),
                  [&](Frame& frame, std::uint64_t flow) {
                    put_ip(frame, 16, 24, cluster.ip.plus(flow / kPorts));
                    put_source_port(frame, kFirstPort + flow % kPorts);
                  });
}

}  // namespace
}  // namespace shoal::bpftest
