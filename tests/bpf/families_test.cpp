// SPDX-License-Identifier: Apache-2.0
// What only one of the families has: IPv4's options and ARP; IPv6's neighbour discovery, extension
// headers and link-local addresses. Roles are in cast.h.
#include "tests/bpf/cast.h"

namespace shoal::bpftest {
namespace {

class Ipv4Test : public CastTest {
protected:
  Ipv4Test() : CastTest(Family::kV4) {}
};

TEST_F(Ipv4Test, OptionsAreSteppedOver) {
  host.ring(1, {kWebId}, 0);
  for (std::size_t options : {4, 20, 40}) {
    Packet p = from_lan(tcp(client, vip, kSyn));
    p.options = options;
    Outcome run = at_uplink(p);
    EXPECT_EQ(run.verdict, kRedirect) << options;
    EXPECT_EQ(text(run.out), "TCP client > web [S] seq=1000 ack=0 ttl=64 +0") << options;
  }
}

TEST_F(Ipv4Test, ArpForAnnouncedVipsOnly) {
  Outcome run = host.run("shoal_uplink", arp_request(kClientMac, client.ip, vip.ip), uplink);
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "ARP reply vip is 02:00:00:00:00:11 to client 02:00:00:00:01:01");
  EXPECT_EQ(macs(run.out), "02:00:00:00:00:11 > 02:00:00:00:01:01");
  EXPECT_EQ(
      host.run("shoal_uplink", arp_request(kClientMac, client.ip, cluster.ip), uplink).verdict,
      kPass);
  EXPECT_EQ(host.run("shoal_uplink", arp_request(kClientMac, client.ip, self.ip), uplink).verdict,
            kPass);
  // Another host's announcement of the same address is the stack's to see.
  EXPECT_EQ(host.run("shoal_uplink", arp_request(kClientMac, vip.ip, vip.ip), uplink).verdict,
            kPass);
}

// ---- IPv6 ---------------------------------------------------------------------------------------

const IpAddress kGateway = ip("fe80::1");
const IpAddress kPodLinkLocal = ip("fe80::aa05");
const IpAddress kClientLinkLocal = ip("fe80::101");
const IpAddress kNobody;  // ::

class Ipv6Test : public CastTest {
protected:
  Ipv6Test() : CastTest(Family::kV6) {}

  Outcome ask_uplink(const Solicitation& s) { return host.run("shoal_uplink", s.frame(), uplink); }
  Outcome ask_gateway(const Solicitation& s) { return host.run("shoal_pod", s.frame(), veth); }
  Solicitation for_vip() const {
    return {.sender_mac = kClientMac, .sender = client.ip, .target = vip.ip};
  }
  static Solicitation for_gateway(const IpAddress& sender) {
    return {.sender_mac = kWebMac, .sender = sender, .target = kGateway};
  }
};

TEST_F(Ipv6Test, SolicitationForAnAnnouncedVipIsAnswered) {
  Outcome run = ask_uplink(for_vip());
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "NA solicited override vip is 02:00:00:00:00:11, vip > client hops=255");
  EXPECT_EQ(macs(run.out), "02:00:00:00:00:11 > 02:00:00:00:01:01");
  EXPECT_EQ(run.out.size(), 86U);
  // To a link-local asker, and asked straight (a neighbour that is checked again).
  Solicitation s = for_vip();
  s.sender = kClientLinkLocal;
  s.to = vip.ip;
  s.to_mac = kUplinkMac;
  EXPECT_EQ(text(ask_uplink(s).out),
            "NA solicited override vip is 02:00:00:00:00:11, vip > fe80::101 hops=255");
}

TEST_F(Ipv6Test, DuplicateAddressDetectionOfAVipIsAnsweredToEverybody) {
  Solicitation s = for_vip();
  s.sender = kNobody;
  Outcome run = ask_uplink(s);
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out), "NA override vip is 02:00:00:00:00:11, vip > ff02::1 hops=255");
  EXPECT_EQ(macs(run.out), "02:00:00:00:00:11 > 33:33:00:00:00:01");
}

TEST_F(Ipv6Test, OtherSolicitationsAreTheStacks) {
  Solicitation s = for_vip();
  for (const std::uint8_t hops : {1, 64, 254}) {
    s.hop_limit = hops;  // not from this link
    EXPECT_EQ(ask_uplink(s).verdict, kPass) << int{hops};
  }
  s = for_vip();
  s.target = cluster.ip;  // a VIP that is not announced
  EXPECT_EQ(ask_uplink(s).verdict, kPass);
  s.target = self.ip;
  EXPECT_EQ(ask_uplink(s).verdict, kPass);
  s = for_vip();
  s.sender = vip.ip;
  EXPECT_EQ(ask_uplink(s).verdict, kPass);
  s = for_vip();
  s.extensions = {{.type = kDestination}};
  EXPECT_EQ(ask_uplink(s).verdict, kPass);
  s = for_vip();
  s.type = 136;  // another host's announcement of the same address
  EXPECT_EQ(ask_uplink(s).verdict, kPass);
  ASSERT_TRUE(host.maps().put_vips(std::array{kernel::VipWrite{vip.ip, {false}}}));
  EXPECT_EQ(ask_uplink(for_vip()).verdict, kPass);
  EXPECT_EQ(host.maps().flows(1).value().size(), 0U);
}

TEST_F(Ipv6Test, TruncatedSolicitationsAreNotAnswered) {
  const Frame whole = for_vip().frame();
  for (std::size_t bytes = shortest_run(); bytes < whole.size(); ++bytes) {
    const Frame cut(whole.begin(), whole.begin() + static_cast<long>(bytes));
    EXPECT_EQ(host.run("shoal_uplink", cut, uplink).verdict, kPass) << bytes;
  }
}

TEST_F(Ipv6Test, ThePodsGatewayIsAnsweredFor) {
  Outcome run = ask_gateway(for_gateway(web.ip));
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(text(run.out),
            "NA router solicited override fe80::1 is 02:00:00:00:bb:05, fe80::1 > web hops=255");
  EXPECT_EQ(macs(run.out), "02:00:00:00:bb:05 > 02:00:00:00:aa:05");
  // A pod's kernel checks its gateway again from its link-local address, straight.
  Solicitation s = for_gateway(kPodLinkLocal);
  s.to = kGateway;
  s.to_mac = kVethMac;
  EXPECT_EQ(text(ask_gateway(s).out), "NA router solicited override fe80::1 is 02:00:00:00:bb:05, "
                                      "fe80::1 > fe80::aa05 hops=255");
  s = for_gateway(web.ip);
  s.hop_limit = 64;
  EXPECT_EQ(ask_gateway(s).verdict, kPass);
  s = for_gateway(web.ip);
  s.target = far.ip;
  EXPECT_EQ(ask_gateway(s).verdict, kPass);
}

TEST_F(Ipv6Test, FromItsLinkLocalAddressAPodMayDiscoverNeighboursAndNoMore) {
  EXPECT_EQ(ask_gateway(for_gateway(kPodLinkLocal)).verdict, kPass);  // by multicast: the stack's
  Solicitation s = for_gateway(kNobody);
  s.target = kPodLinkLocal;  // duplicate address detection
  EXPECT_EQ(ask_gateway(s).verdict, kPass);
  for (const std::uint8_t type : {131, 132, 136, 143}) {
    s = for_gateway(kPodLinkLocal);
    s.type = type;
    EXPECT_EQ(ask_gateway(s).verdict, kPass) << int{type};
  }
  s.extensions = {{.type = kHopByHop}};  // router alert, with a listener report
  EXPECT_EQ(ask_gateway(s).verdict, kPass);
  EXPECT_EQ(host.drops("SPOOFED_SOURCE"), 0U);
  // Echo; a pod is no router, and finds its own without asking.
  for (const std::uint8_t type : {128, 133, 134, 137}) {
    s = for_gateway(kPodLinkLocal);
    s.type = type;
    EXPECT_EQ(ask_gateway(s).verdict, kShot) << int{type};
  }
  const SocketAddress link_local{kPodLinkLocal, 1};
  EXPECT_EQ(at_pod(from_pod(tcp(link_local, far, kSyn))).verdict, kShot);
  EXPECT_EQ(at_pod(from_pod(udp(link_local, cluster))).verdict, kShot);
  EXPECT_EQ(at_pod(from_pod(udp({kNobody, 1}, vip))).verdict, kShot);
  EXPECT_EQ(host.drops("SPOOFED_SOURCE"), 7U);
  // What a pod's own address sends on the link is for the stack.
  EXPECT_EQ(at_pod(from_pod(udp(web, {ip("ff02::fb"), 5353}))).verdict, kPass);
  EXPECT_EQ(at_pod(from_pod(udp(web, {kGateway, 53}))).verdict, kPass);
}

TEST_F(Ipv6Test, LinkLocalPacketsFromTheLanAreUntouched) {
  const Packet p = from_lan(udp({kClientLinkLocal, 1}, {ip("fe80::11"), 546}));
  Outcome run = at_uplink(p);
  EXPECT_EQ(run.verdict, kPass);
  EXPECT_EQ(run.out, p.frame());
  // Into the overlay they stay without a way, and the device drops them: no drop of ours.
  const std::uint32_t overlay = ifindex_of("shoal-vxlan");
  for (const char* to : {"ff02::2", "fe80::2"})
    EXPECT_EQ(
        host.run("shoal_ovl_out", udp({ip("fe80::11"), 1}, {ip(to), 2}).frame(), overlay).verdict,
        kPass);
  EXPECT_EQ(host.drops("UNKNOWN_POD"), 0U);
}

TEST_F(Ipv6Test, ExtensionHeadersAreSteppedOver) {
  host.ring(1, {kWebId}, 0);
  const std::vector<std::vector<Extension>> chains = {
      {{.type = kHopByHop}},
      {{.type = kDestination, .words = 3}},
      {{.type = kRouting}},
      {{.type = kHopByHop}, {.type = kDestination}, {.type = kRouting}, {.type = kDestination}},
      {{.type = kDestination, .words = 23}},  // as long as we look
  };
  for (const std::vector<Extension>& chain : chains)
    for (Packet p : {from_lan(tcp(client, vip, kSyn)), from_lan(udp(client, vip))}) {
      SCOPED_TRACE(fmt::format("{} headers, the first {}", chain.size(), chain[0].type));
      p.extensions = chain;
      Outcome run = at_uplink(p);
      EXPECT_EQ(run.verdict, kRedirect);
      EXPECT_EQ(text(run.out), p.protocol == 6 ? "TCP client > web [S] seq=1000 ack=0 ttl=64 +0"
                                               : "UDP client > web ttl=64 +12");
    }
  // An atomic fragment is a whole packet.
  Frame atomic = [&] {
    Packet p = from_lan(udp(client, vip));
    p.extensions = {{.type = kFragment}};
    return p.frame();
  }();
  atomic[14 + 40 + 2] = atomic[14 + 40 + 3] = 0;
  EXPECT_EQ(text(host.run("shoal_uplink", atomic, uplink).out), "UDP client > web ttl=64 +12");
}

TEST_F(Ipv6Test, ChainsThatLeadNowhereAreNoServicesProtocol) {
  host.ring(1, {kWebId}, 0);
  Packet p = from_lan(tcp(client, vip, kSyn));
  p.extensions.assign(7, {.type = kDestination});
  EXPECT_EQ(at_uplink(p).verdict, kShot);
  p.extensions = {{.type = kDestination, .words = 24}};
  EXPECT_EQ(at_uplink(p).verdict, kShot);
  p.extensions = {{.type = kRouting, .segments_left = 1}};
  EXPECT_EQ(at_uplink(p).verdict, kShot);
  p.extensions.clear();
  p.protocol = 59;  // no next header
  EXPECT_EQ(at_uplink(p).verdict, kShot);
  EXPECT_EQ(host.drops("UNSUPPORTED_PROTO"), 4U);
  p.to = self;
  EXPECT_EQ(at_uplink(p).verdict, kPass);
  // An extension header beyond the packet's end.
  p = from_lan(tcp(client, vip, kSyn));
  p.extensions = {{.type = kDestination}};
  Frame bent = p.frame();
  bent[14 + 40 + 1] = 20;
  EXPECT_EQ(host.run("shoal_uplink", bent, uplink).verdict, kPass);  // the stack counts it
  p = from_pod(tcp(web, far, kSyn));
  p.extensions = {{.type = kDestination}};
  bent = p.frame();
  bent[14 + 40 + 1] = 20;
  EXPECT_EQ(host.run("shoal_pod", bent, veth).verdict, kShot);
  EXPECT_EQ(host.drops("MALFORMED"), 1U);
}

TEST_F(Ipv6Test, RefusalsBehindExtensionHeadersAreSilent) {
  Packet p = from_lan(tcp(client, vip, kSyn));
  p.extensions = {{.type = kDestination}};
  EXPECT_EQ(at_uplink(p).verdict, kShot);
  p = from_lan(udp({ip("ff05::1"), 1}, vip));  // and so are those to nobody
  EXPECT_EQ(at_uplink(p).verdict, kShot);
  p.from.ip = kNobody;
  EXPECT_EQ(at_uplink(p).verdict, kShot);
  EXPECT_EQ(host.drops("NO_BACKEND"), 3U);
}

// An IPv4 address under another name would find the IPv4 services.
TEST_F(Ipv6Test, MappedAddressesOnTheWireAreForgeries) {
  host.frontend("198.18.100.1:80", L4Proto::kTcp, 1, true, true);
  host.ring(1, {kWebId}, 0);
  Packet p = from_lan(tcp(client, vip, kSyn));
  Frame f = p.frame();
  const IpAddress mapped = ip("198.18.100.1");
  std::copy(mapped.bytes().begin(), mapped.bytes().end(), f.begin() + 14 + 24);
  EXPECT_EQ(host.run("shoal_uplink", f, uplink).verdict, kPass);
  f = from_pod(tcp(web, far, kSyn)).frame();
  std::copy(mapped.bytes().begin(), mapped.bytes().end(), f.begin() + 14 + 8);
  EXPECT_EQ(host.run("shoal_pod", f, veth).verdict, kShot);
  EXPECT_EQ(host.drops("MALFORMED"), 1U);
}

TEST_F(Ipv6Test, BackendsOfTheOtherFamilyAreNone) {
  host.backend(kFarId, "10.244.2.7:8080", {.generation = 9, .epoch = 1, .node = kOtherHost});
  host.ring(1, {kFarId}, 0);
  EXPECT_EQ(text(at_uplink(from_lan(tcp(client, vip, kSyn))).out),
            "TCP vip > client [RA] seq=0 ack=1001 ttl=64 +0");
  EXPECT_EQ(host.drops("NO_BACKEND"), 1U);
}

}  // namespace
}  // namespace shoal::bpftest
