// SPDX-License-Identifier: Apache-2.0
// The cast of cast.h, with frames of other hosts: that is, with the tunnel key that the harness
// gives them.
#pragma once

#include "tests/bpf/cast.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <harness.skel.h>

namespace shoal::bpftest {

inline constexpr std::uint32_t kVniPod = 1, kVniDsr = 2;

class OverlayCast : public BothFamilies {
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

}  // namespace shoal::bpftest
