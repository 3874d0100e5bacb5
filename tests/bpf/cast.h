// SPDX-License-Identifier: Apache-2.0
// Who is who in the packet tests. This host has an uplink on 198.18.0.0/24 and one pod; a second
// host has another.
//
//   client 198.18.0.101 ---- up0 [ this host 198.18.0.11 ] shl1 ---- web  10.244.1.5 (pod here)
//                                        | shoal-vxlan
//                            [ other host 198.18.0.12 ] ------------ far  10.244.2.7 (pod there)
#pragma once

#include "tests/bpf/host.h"

#include <gtest/gtest.h>

namespace shoal::bpftest {

inline const SocketAddress kClient = at("198.18.0.101:40000");
inline const SocketAddress kVip = at("198.18.100.1:80");      // LoadBalancer, announced here
inline const SocketAddress kClusterIp = at("10.96.0.10:80");  // the same service, inside only
inline const SocketAddress kWeb = at("10.244.1.5:8080");
inline const SocketAddress kFar = at("10.244.2.7:8080");
inline const IpAddress kOtherHost = ip("198.18.0.12");
inline const MacAddress kUplinkMac = mac("02:00:00:00:00:11");
inline const MacAddress kClientMac = mac("02:00:00:00:01:01");
inline const MacAddress kWebMac = mac("02:00:00:00:aa:05");
inline const MacAddress kVethMac = mac("02:00:00:00:bb:05");
inline constexpr std::uint16_t kWebGeneration = 7;
inline constexpr model::BackendId kWebId = 1, kFarId = 2;

class CastTest : public testing::Test {
protected:
  static void SetUpTestSuite() {
    sandbox();
    if (ifindex_of("up0") != 0)
      return;
    sh("ip link set lo up");
    sh("sysctl -qw net.ipv4.ip_forward=1");
    sh("ip link add up0 address 02:00:00:00:00:11 type veth peer name up0peer address "
       "02:00:00:00:01:01");
    sh("ip link add shl1 address 02:00:00:00:bb:05 type veth peer name shl1peer address "
       "02:00:00:00:aa:05");
    for (const char* device : {"up0", "up0peer", "shl1", "shl1peer"})
      sh(std::string("ip link set up dev ") + device);
    sh("ip addr add 198.18.0.11/24 dev up0");
    sh("ip neigh replace 198.18.0.101 lladdr 02:00:00:00:01:01 dev up0");
    sh("ip link add shoal-vxlan address 02:00:00:00:cc:01 type vxlan external dstport 4789");
    sh("ip link set up dev shoal-vxlan");
  }

  void SetUp() override {
    uplink = ifindex_of("up0");
    veth = ifindex_of("shl1");
    ASSERT_TRUE(host.loader().attach_uplink(uplink));
    ASSERT_TRUE(host.loader().attach_overlay(ifindex_of("shoal-vxlan")));
    ASSERT_TRUE(host.maps().put_pod(kWeb.ip, {veth, kWebGeneration, kWebMac, kVethMac}));
    ASSERT_TRUE(host.maps().put_node(IpPrefix::containing(kWeb.ip, 24), {}));
    ASSERT_TRUE(host.maps().put_node(IpPrefix::containing(kFar.ip, 24), {kOtherHost}));
    host.backend(kWebId, kWeb.to_string(),
                 {.generation = kWebGeneration, .epoch = 1, .local = true});
    host.backend(kFarId, kFar.to_string(), {.generation = 9, .epoch = 1, .node = kOtherHost});
    host.frontend(kVip.to_string(), L4Proto::kTcp, 1, true, true);
    host.frontend(kVip.to_string(), L4Proto::kUdp, 1, true, true);
    host.frontend(kClusterIp.to_string(), L4Proto::kTcp, 1, false);
    host.frontend(kClusterIp.to_string(), L4Proto::kUdp, 1, false);
  }

  // A frame as it comes in from the LAN, and one as a pod sends it.
  static Packet from_lan(Packet p) {
    p.eth_dst = kUplinkMac;
    p.eth_src = kClientMac;
    return p;
  }
  static Packet from_pod(Packet p) {
    p.eth_dst = kVethMac;
    p.eth_src = kWebMac;
    return p;
  }
  Outcome at_uplink(const Packet& p) { return host.run("shoal_uplink", p.frame(), uplink); }
  Outcome at_pod(const Packet& p) { return host.run("shoal_pod", p.frame(), veth); }

  Host host;
  std::uint32_t uplink = 0, veth = 0;
};

}  // namespace shoal::bpftest
