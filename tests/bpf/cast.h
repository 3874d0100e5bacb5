// SPDX-License-Identifier: Apache-2.0
// Who is who in the packet tests, which all run for both families. This host has an uplink and one
// pod; a second host has another pod. The hosts reach each other by IPv4 always.
//
//   client ---- up0 [ this host 198.18.0.11 ] shl1 ---- web (pod here)
//                         | shoal-vxlan
//                   [ other host 198.18.0.12 ] -------- far (pod there)
//
//              IPv4                  IPv6
//   client     198.18.0.101:40000    [2001:db8:18::101]:40000
//   self       198.18.0.11           2001:db8:18::11
//   vip        198.18.100.1:80       [2001:db8:64::1]:80       LoadBalancer, announced here
//   cluster    10.96.0.10:80         [fd00:96::10]:80          the same service, inside only
//   web        10.244.1.5:8080       [fd00:10:244:1::5]:8080
//   far        10.244.2.7:8080       [fd00:10:244:2::7]:8080
#pragma once

#include "tests/bpf/host.h"
#include "tests/bpf/maps_snapshot.h"

#include <gtest/gtest.h>

namespace shoal::bpftest {

inline const IpAddress kOtherHost = ip("198.18.0.12");
inline const MacAddress kUplinkMac = mac("02:00:00:00:00:11");
inline const MacAddress kClientMac = mac("02:00:00:00:01:01");
inline const MacAddress kWebMac = mac("02:00:00:00:aa:05");
inline const MacAddress kVethMac = mac("02:00:00:00:bb:05");
inline constexpr std::uint16_t kWebGeneration = 7;
inline constexpr model::BackendId kWebId = 1, kFarId = 2;
inline constexpr model::BackendId kThirdId = 3, kFourthId = 4;  // of pods that were here

struct Cast {
  SocketAddress client, self, vip, cluster, web, far;
};

inline const Cast& cast_of(Family family) {
  static const Cast kCastV4{.client = at("198.18.0.101:40000"),
                            .self = at("198.18.0.11:22"),
                            .vip = at("198.18.100.1:80"),
                            .cluster = at("10.96.0.10:80"),
                            .web = at("10.244.1.5:8080"),
                            .far = at("10.244.2.7:8080")};
  static const Cast kCastV6{.client = at("[2001:db8:18::101]:40000"),
                            .self = at("[2001:db8:18::11]:22"),
                            .vip = at("[2001:db8:64::1]:80"),
                            .cluster = at("[fd00:96::10]:80"),
                            .web = at("[fd00:10:244:1::5]:8080"),
                            .far = at("[fd00:10:244:2::7]:8080")};
  return family == Family::kV4 ? kCastV4 : kCastV6;
}

class CastTest : public testing::Test, public Cast {
protected:
  explicit CastTest(Family family) : Cast(cast_of(family)), v6(family == Family::kV6) {}

  static void SetUpTestSuite() {
    sandbox();
    if (ifindex_of("up0") != 0)
      return;
    sh("ip link set lo up");
    sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    sh("ip link add up0 address 02:00:00:00:00:11 type veth peer name up0peer address "
       "02:00:00:00:01:01");
    sh("ip link add shl1 address 02:00:00:00:bb:05 type veth peer name shl1peer address "
       "02:00:00:00:aa:05");
    for (const char* device : {"up0", "up0peer", "shl1", "shl1peer"})
      sh(std::string("ip link set up dev ") + device);
    sh("ip addr add 198.18.0.11/24 dev up0");
    sh("ip addr add 2001:db8:18::11/64 dev up0 nodad");
    sh("ip neigh replace 198.18.0.101 lladdr 02:00:00:00:01:01 dev up0");
    sh("ip neigh replace 2001:db8:18::101 lladdr 02:00:00:00:01:01 dev up0");
    sh("ip link add shoal-vxlan address 02:00:00:00:cc:01 mtu 1450 type vxlan external dstport "
       "4789");
    sh("ip link set up dev shoal-vxlan");
  }

  void SetUp() override {
    uplink = ifindex_of("up0");
    veth = ifindex_of("shl1");
    ASSERT_TRUE(host.loader().attach_uplink(uplink));
    ASSERT_TRUE(host.loader().attach_overlay(ifindex_of("shoal-vxlan")));
    ASSERT_TRUE(host.maps().put_pod(web.ip, {veth, kWebGeneration, kWebMac, kVethMac}));
    ASSERT_TRUE(host.maps().put_node(pod_cidr(web), {}));
    ASSERT_TRUE(host.maps().put_node(pod_cidr(far), {kOtherHost}));
    host.backend(kWebId, web.to_string(),
                 {.generation = kWebGeneration, .epoch = 1, .local = true});
    host.backend(kFarId, far.to_string(),
                 {.generation = 9, .epoch = 1, .node = kOtherHost, .answers = true});
    for (const model::BackendId id : {kThirdId, kFourthId})
      host.backend(id, beside(web, id).to_string(),
                   {.generation = kWebGeneration, .epoch = 1, .local = true});
    host.frontend(vip.to_string(), L4Proto::kTcp, 1, true, true);
    host.frontend(vip.to_string(), L4Proto::kUdp, 1, true, true);
    host.frontend(cluster.to_string(), L4Proto::kTcp, 1, false);
    host.frontend(cluster.to_string(), L4Proto::kUdp, 1, false);
  }

  // The same address on another port; another address, `n` further on.
  static SocketAddress on(const SocketAddress& who, std::uint16_t port) { return {who.ip, port}; }
  static SocketAddress beside(const SocketAddress& who, std::uint64_t n) {
    return {who.ip.plus(n), who.port};
  }

  // A ring of one backend.
  static std::vector<model::BackendId> all(model::BackendId id) {
    return std::vector<model::BackendId>(64, id);
  }
  std::uint64_t unclaimed() {
    return host.maps().service_stats(std::array{model::ServiceIndex{1}}).value()[0].unclaimed;
  }

  IpPrefix pod_cidr(const SocketAddress& pod) const {
    return IpPrefix::containing(pod.ip, v6 ? 64 : 24);
  }
  // BPF_PROG_TEST_RUN itself refuses frames that end before the IP header does.
  std::size_t shortest_run() const { return v6 ? 54 : 34; }

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

  // A client of the VIP whose connection is open.
  void opened(const SocketAddress& who) {
    for (const std::uint8_t flags : {kSyn, kAck})
      EXPECT_EQ(at_uplink(from_lan(tcp(who, vip, flags))).verdict, kRedirect);
  }

  // With everybody by name: "TCP client > web [S] ...".
  std::string text(const Frame& frame) const {
    return bpftest::text(frame, {{"client", client},
                                 {"self", self},
                                 {"vip", vip},
                                 {"cluster", cluster},
                                 {"web", web},
                                 {"far", far}});
  }

  // One for all tests, as it was when it was loaded.
  static Host& fresh_host() {
    static Host* const host = new Host("cast");  // ends with the process and its mounts
    static const MapsSnapshot* const snapshot = new MapsSnapshot(host->loader());
    snapshot->restore();
    return *host;
  }

  const bool v6;
  Host& host = fresh_host();
  std::uint32_t uplink = 0, veth = 0;
};

// The tests of a class derived from this run for both families.
class BothFamilies : public CastTest, public testing::WithParamInterface<Family> {
protected:
  BothFamilies() : CastTest(GetParam()) {}
};

inline std::string family_name(const testing::TestParamInfo<Family>& info) {
  return info.param == Family::kV4 ? "V4" : "V6";
}

// Within the namespace of the tests, once a class.
#define SHOAL_BOTH_FAMILIES(test)                                                                  \
  INSTANTIATE_TEST_SUITE_P(Ip, test, testing::Values(Family::kV4, Family::kV6), family_name)

}  // namespace shoal::bpftest
