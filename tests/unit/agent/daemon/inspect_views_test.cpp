// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/inspect_views.h"

#include <boost/json/serialize.hpp>
#include <gmock/gmock.h>

namespace shoal::daemon {
namespace {

apply::NetworkView native() {
  apply::NetworkView network;
  network.native_routes = true;
  network.uplinks = {{.index = 2,
                      .name = "eth0",
                      .mtu = 1500,
                      .address = *IpAddress::parse("198.18.0.11"),
                      .gateway = {},
                      .address_v6 = *IpAddress::parse("2001:db8:1::11"),
                      .subnets = {*IpPrefix::parse("198.18.0.0/24")}}};
  network.pod_mtu = 1500;
  network.overlay_mtu = 1450;
  return network;
}

gossip::Member member(std::string name, bool native_routes,
                      gossip::MemberState state = gossip::MemberState::kAlive) {
  gossip::Member out;
  out.name = std::move(name);
  out.state = state;
  out.meta.native_routes = native_routes;
  return out;
}

TEST(NetworkView, ShowsModeUplinksAndMtus) {
  EXPECT_EQ(boost::json::serialize(network_view(native())),
            R"({"mode":"native","uplinks":[{"name":"eth0","address":"198.18.0.11",)"
            R"("addressV6":"2001:db8:1::11","mtu":1500,"subnets":["198.18.0.0/24"]}],)"
            R"("podMTU":1500,"overlayMTU":1450})");
}

TEST(NetworkView, HostsOfAnotherModeAndDetoursAreToldOf) {
  const auto warnings = [](const apply::NetworkView& network) {
    return network_warnings(network, {member("h3", false), member("h1", true), member("h2", false),
                                      member("h4", false, gossip::MemberState::kDead)});
  };
  EXPECT_THAT(warnings(native()),
              testing::ElementsAre(testing::AllOf(
                  testing::HasSubstr("native on this host and vxlan on h2, h3:"),
                  testing::HasSubstr("Set the same mode on all hosts and restart shoald there"))));
  apply::NetworkView vxlan;
  EXPECT_THAT(warnings(vxlan),
              testing::ElementsAre(testing::HasSubstr("vxlan on this host and native on h1:")));
  vxlan.detours = {"host h9 is elsewhere"};
  EXPECT_THAT(network_warnings(vxlan, {}), testing::ElementsAre("host h9 is elsewhere"));
}

}  // namespace
}  // namespace shoal::daemon
