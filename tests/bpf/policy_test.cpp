// SPDX-License-Identifier: Apache-2.0
// What a frontend asks beyond a pick from its ring: other rings for outside clients, source ranges,
// session affinity. Roles are in cast.h.
#include "tests/bpf/cast.h"

#include <gmock/gmock.h>

namespace shoal::bpftest {
namespace {

using testing::HasSubstr;

class PolicyTest : public BothFamilies {
protected:
  // To whom the uplink gives a new connection of this client: "web", "far", or what it did instead.
  std::string from_outside(const SocketAddress& from) { return from_outside(from, vip); }
  std::string from_outside(const SocketAddress& from, const SocketAddress& to) {
    return who(at_uplink(from_lan(tcp(from, to, kSyn))));
  }
  std::string from_inside(std::uint16_t port) {
    return who(at_pod(from_pod(tcp({web.ip, port}, vip, kSyn))));
  }
  std::string who(const Outcome& run) const {
    if (run.verdict != kRedirect)
      return fmt::format("verdict {}", run.verdict);
    if (run.out[0] == 0x02 && run.out[1] == 'd')
      return "far";
    const std::string packet = text(run.out);
    return packet.find("> web ") != std::string::npos ? "web" : packet;
  }
  SocketAddress client_port(unsigned n) const {
    return on(client, static_cast<std::uint16_t>(50000 + n));
  }
};
SHOAL_BOTH_FAMILIES(PolicyTest);

TEST_P(PolicyTest, OutsideClientsHaveTheirOwnRing) {
  host.frontend(vip.to_string(), L4Proto::kTcp, {.inside = 1, .outside = 2});
  host.ring(1, {kFarId}, 0);
  host.ring(2, {kWebId}, 8);
  EXPECT_EQ(from_outside(client_port(1)), "web");
  EXPECT_EQ(from_inside(41000), "far");
  // Without a service for them, outside clients find no frontend: refused like any other port.
  host.frontend(vip.to_string(), L4Proto::kTcp, {.inside = 1});
  EXPECT_THAT(from_outside(client_port(2)), HasSubstr("vip > client:50002 [RA]"));
  host.frontend(vip.to_string(), L4Proto::kTcp, {.outside = 2});
  EXPECT_EQ(from_outside(client_port(3)), "web");
  EXPECT_THAT(from_inside(41001), HasSubstr("vip > web:41001 [RA]"));
}

TEST_P(PolicyTest, SourceRangesHoldOutsideClientsOnly) {
  host.frontend(vip.to_string(), L4Proto::kTcp, {.inside = 1, .outside = 1, .restricted = true});
  host.ring(1, {kFarId}, 0);
  EXPECT_EQ(from_outside(client_port(1)), fmt::format("verdict {}", kShot));
  EXPECT_EQ(host.drops("SOURCE_RANGE"), 1U);
  EXPECT_EQ(from_inside(41000), "far");
  // Another service's range is no reason.
  ASSERT_TRUE(host.maps().put_source_range(2, IpPrefix::containing(client.ip, 0)));
  EXPECT_EQ(from_outside(client_port(2)), fmt::format("verdict {}", kShot));
  const IpPrefix range = IpPrefix::containing(client.ip, v6 ? 124 : 28);
  ASSERT_TRUE(host.maps().put_source_range(1, range));
  EXPECT_EQ(from_outside(client_port(3)), "far");
  EXPECT_EQ(from_outside({range.address().plus(16), 50000}), fmt::format("verdict {}", kShot));
  // An open flow does not outlive its permission.
  ASSERT_TRUE(host.maps().delete_source_range(1, range));
  EXPECT_EQ(at_uplink(from_lan(tcp(client_port(3), vip, kAck))).verdict, kShot);
}

TEST_P(PolicyTest, AffinityKeepsAClientsNextConnectionsTogether) {
  host.frontend(vip.to_string(), L4Proto::kTcp, {.inside = 1, .outside = 1, .affinity_s = 60});
  host.ring(1, {kFarId}, 0);
  EXPECT_EQ(from_outside(client_port(1)), "far");
  host.ring(1, {kWebId}, 8);  // the ring moves on, and the backend may still take connections
  for (unsigned n = 2; n < 10; ++n)
    EXPECT_EQ(from_outside(client_port(n)), "far") << n;
  EXPECT_EQ(from_outside(beside(client, 1)), "web") << "another client";
  // A backend that drains lets go of its clients, but not of their connections.
  host.backend(kFarId, far.to_string(),
               {.generation = 9, .epoch = 1, .node = kOtherHost, .draining = true});
  EXPECT_EQ(from_outside(client_port(10)), "web");
  EXPECT_EQ(who(at_uplink(from_lan(tcp(client_port(2), vip, kAck)))), "far");
  // It has moved now, and stays where it went.
  host.backend(kFarId, far.to_string(), {.generation = 9, .epoch = 1, .node = kOtherHost});
  host.ring(1, {kFarId}, 16);
  EXPECT_EQ(from_outside(client_port(11)), "web");
}

TEST_P(PolicyTest, AffinityIsToABackendAndNotToItsId) {
  host.frontend(vip.to_string(), L4Proto::kTcp, {.inside = 1, .outside = 1, .affinity_s = 60});
  host.ring(1, {kFarId}, 0);
  EXPECT_EQ(from_outside(client_port(1)), "far");
  host.ring(1, {kWebId}, 8);
  host.backend(kFarId, far.to_string(), {.generation = 9, .epoch = 2, .node = kOtherHost});
  EXPECT_EQ(from_outside(client_port(2)), "web");
}

TEST_P(PolicyTest, AffinityIsPerServiceAndWithinItsTime) {
  host.frontend(vip.to_string(), L4Proto::kTcp, {.inside = 1, .outside = 1, .affinity_s = 1});
  host.frontend(on(vip, 81).to_string(), L4Proto::kTcp,
                {.inside = 2, .outside = 2, .affinity_s = 1});
  host.ring(1, {kFarId}, 0);
  host.ring(2, {kWebId}, 8);
  EXPECT_EQ(from_outside(client_port(1)), "far");
  EXPECT_EQ(from_outside(client_port(1), on(vip, 81)), "web");
  host.ring(1, {kWebId}, 16);
  EXPECT_EQ(from_outside(client_port(2)), "far");
  // Every try is a connection that renews it, so the wait is for the clock alone: more than
  // affinity_s later.
  const std::uint64_t seen = host.now_s();
  while (host.now_s() <= seen + 1)
    std::this_thread::yield();
  EXPECT_EQ(from_outside(client_port(3)), "web");
}

TEST_P(PolicyTest, APodsPacketsHaveAffinityByItsAddress) {
  host.frontend(vip.to_string(), L4Proto::kTcp, {.inside = 1, .outside = 1, .affinity_s = 60});
  host.ring(1, {kFarId}, 0);
  EXPECT_EQ(from_inside(41000), "far");
  host.ring(1, {kWebId}, 8);
  EXPECT_EQ(from_inside(41001), "far");
}

}  // namespace
}  // namespace shoal::bpftest
