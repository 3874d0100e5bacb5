// SPDX-License-Identifier: Apache-2.0
// ICMP errors about packets of balanced flows (RFC 5508), both ways. Roles are in cast.h; `router`
// is somewhere between client and hosts.
#include "netplane/base/random.h"
#include "tests/bpf/overlay_cast.h"

namespace shoal::bpftest {
namespace {

class ErrorsTest : public OverlayCast {
protected:
  IpAddress router() const { return ip(v6 ? "2001:db8:18::1" : "198.18.0.1"); }

  // What a router or the client says about a packet that came from the VIP.
  IcmpError from_router(const std::string& kind, const Packet& about) const {
    return {.eth_dst = kUplinkMac,
            .eth_src = kClientMac,
            .kind = kind,
            .from = router(),
            .to = about.from.ip,
            .about = about.frame(),
            .quoted = 8,
            .mtu = kind == "too-big" ? 1400U : 0U};
  }
  // What a pod says about a packet that came to it.
  static IcmpError from_web(const std::string& kind, const Packet& about) {
    return {.eth_dst = kVethMac,
            .eth_src = kWebMac,
            .kind = kind,
            .from = about.to.ip,
            .to = about.from.ip,
            .about = about.frame(),
            .quoted = 8,
            .mtu = 0};
  }
  Outcome uplink_gets(const IcmpError& e) { return host.run("shoal_uplink", e.frame(), uplink); }
  Outcome pod_sends(const IcmpError& e) { return host.run("shoal_pod", e.frame(), veth); }
  // The router's name is not in the cast's.
  std::string said(const Outcome& run) const {
    std::string line = text(run.out);
    const std::string address = router().to_string();
    const std::size_t at = line.find(address + " ");
    return at == std::string::npos ? line : line.replace(at, address.size(), "router");
  }
};
SHOAL_BOTH_FAMILIES(ErrorsTest);

TEST_P(ErrorsTest, AboutAReplyReachThePodThatSentIt) {
  host.ring(1, all(kWebId), 0);
  at_uplink(from_lan(tcp(client, vip, kSyn)));
  at_uplink(from_lan(udp(client, vip)));
  host.change_ring(1, all(kFarId), 4);  // the flow says where, not the ring
  for (const Packet& about : {tcp(vip, client, kAck), udp(vip, client)})
    for (const auto& [kind, name] : {std::pair{"too-big", "too-big mtu=1400"},
                                     {"host-unreachable", "host-unreachable"},
                                     {"port-unreachable", "port-unreachable"},
                                     {"time-exceeded", "time-exceeded"},
                                     {"parameter-problem", "parameter-problem"}})
      for (const std::size_t quoted : {8, 18, 20, 400}) {
        SCOPED_TRACE(fmt::format("{} {} {}", about.protocol, kind, quoted));
        IcmpError e = from_router(kind, about);
        e.quoted = quoted;
        Outcome run = uplink_gets(e);
        EXPECT_EQ(run.verdict, kRedirect);
        EXPECT_EQ(said(run), std::string("ICMP ") + name + " router > web (web > client)");
        EXPECT_EQ(macs(run.out), "02:00:00:00:bb:05 > 02:00:00:00:aa:05");
        EXPECT_EQ(run.out.size(), e.frame().size());
      }
}

TEST_P(ErrorsTest, AboutADatagramWithoutChecksumLeaveItWithout) {
  host.ring(1, {kWebId}, 0);
  at_uplink(from_lan(udp(client, vip)));
  Packet about = udp(vip, client);
  about.udp_checksum = false;
  Outcome run = uplink_gets(from_router("port-unreachable", about));
  EXPECT_EQ(said(run), "ICMP port-unreachable router > web (web > client)");
  EXPECT_EQ(run.out[run.out.size() - 1], 0);
  EXPECT_EQ(run.out[run.out.size() - 2], 0);
}

TEST_P(ErrorsTest, QuotedHeadersMayHaveOptions) {
  host.ring(1, {kWebId}, 0);
  at_uplink(from_lan(udp(client, vip)));
  Packet about = udp(vip, client);
  about.options = v6 ? 0 : 12;
  if (v6)
    about.extensions = {{.type = kDestination}, {.type = kRouting, .words = 1}};
  EXPECT_EQ(said(uplink_gets(from_router("too-big", about))),
            "ICMP too-big mtu=1400 router > web (web > client)");
}

TEST_P(ErrorsTest, CrossToTheBackendsHostAndAreTranslatedThere) {
  host.ring(1, {kFarId}, 0);
  at_uplink(from_lan(tcp(client, vip, kSyn)));
  const IcmpError e = from_router("too-big", tcp(vip, client, kAck));
  Outcome balanced = uplink_gets(e);
  EXPECT_EQ(balanced.verdict, kRedirect);
  EXPECT_EQ(balanced.out[1], 'd');
  const Frame sent = e.frame();
  EXPECT_EQ(Frame(balanced.out.begin() + 14, balanced.out.end()),
            Frame(sent.begin() + 14, sent.end()));
  // On the other host, which here is this one.
  ASSERT_TRUE(host.maps().put_node(pod_cidr(web), {kOtherHost}));
  ASSERT_TRUE(host.maps().put_node(pod_cidr(far), {}));
  ASSERT_TRUE(host.maps().put_pod(far.ip, {veth, 9, kWebMac, kVethMac}));
  Outcome run = from(kOtherHost, kVniDsr, balanced.out);
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(said(run), "ICMP too-big mtu=1400 router > far (far > client)");
  // For a pod that is gone nobody is told.
  ASSERT_TRUE(host.maps().delete_pod(far.ip));
  EXPECT_EQ(from(kOtherHost, kVniDsr, balanced.out).verdict, kShot);
  EXPECT_EQ(host.drops("STALE_BACKEND"), 1U);
}

TEST_P(ErrorsTest, AboutNoFlowAreCountedAndOtherMessagesAreNoErrors) {
  host.ring(1, {kWebId}, 0);
  EXPECT_EQ(uplink_gets(from_router("too-big", tcp(vip, client, kAck))).verdict, kShot);
  at_uplink(from_lan(tcp(client, vip, kSyn)));
  EXPECT_EQ(uplink_gets(from_router("too-big", tcp(vip, on(client, 1), kAck))).verdict, kShot);
  EXPECT_EQ(uplink_gets(from_router("too-big", udp(vip, client))).verdict, kShot);
  IcmpError e = from_router("too-big", tcp(far, client, kAck));  // to the VIP, about others
  e.to = vip.ip;
  EXPECT_EQ(uplink_gets(e).verdict, kShot);
  EXPECT_EQ(host.drops("ICMP_NO_FLOW"), 4U);
  EXPECT_EQ(uplink_gets(from_router("redirect", tcp(vip, client, kAck))).verdict, kShot);
  EXPECT_EQ(host.drops("UNSUPPORTED_PROTO"), 1U);
  EXPECT_EQ(uplink_gets(from_router("too-big", tcp(self, client, kAck))).verdict, kPass);
  EXPECT_EQ(text(host.run("shoal_uplink", echo_request(from_lan(tcp(client, vip, 0))), uplink).out),
            "ICMP echo-reply vip > client");
}

// A frontend on the host's own address, which is no VIP.
TEST_P(ErrorsTest, OfANodePortAreMatchedToo) {
  host.ring(1, {kWebId}, 0);
  const SocketAddress node_port = on(self, 30080);
  host.frontend(node_port.to_string(), L4Proto::kTcp, {.inside = 1, .outside = 1});
  at_uplink(from_lan(tcp(client, node_port, kSyn)));
  EXPECT_EQ(said(uplink_gets(from_router("too-big", tcp(node_port, client, kAck)))),
            "ICMP too-big mtu=1400 router > web (web > client)");
}

TEST_P(ErrorsTest, OfAPodAboutABalancedPacketComeFromTheVip) {
  host.ring(1, {kWebId}, 0);
  at_uplink(from_lan(udp(client, vip)));
  at_uplink(from_lan(tcp(client, vip, kSyn)));
  for (const Packet& about : {udp(client, web), tcp(client, web, kSyn)})
    for (const std::size_t quoted : {8, 400}) {
      IcmpError e = from_web("port-unreachable", about);
      e.quoted = quoted;
      Outcome run = pod_sends(e);
      EXPECT_EQ(run.verdict, kRedirect);
      EXPECT_EQ(text(run.out), "ICMP port-unreachable vip > client (client > vip)");
      EXPECT_EQ(macs(run.out), "02:00:00:00:00:11 > 02:00:00:00:01:01");
    }
  // About a packet that was sent to the pod itself, it is the pod's own.
  IcmpError e = from_web("port-unreachable", udp(on(client, 41000), web));
  Outcome run = pod_sends(e);
  EXPECT_EQ(run.verdict, kPass);
  EXPECT_EQ(run.out, e.frame());
  // Nor can it speak for another pod, or to somebody else than the flow's client.
  e = from_web("port-unreachable", udp(client, beside(web, 1)));
  e.from = web.ip;
  EXPECT_EQ(pod_sends(e).out, e.frame());
  e = from_web("port-unreachable", udp(client, web));
  e.to = beside(client, 1).ip;
  EXPECT_EQ(pod_sends(e).out, e.frame());
}

// A pod is the client of a service whose backend is elsewhere, and has something to say about a
// reply.
TEST_P(ErrorsTest, OfAPodThatIsAClientGoToTheBackend) {
  host.ring(1, {kFarId}, 0);
  const SocketAddress asker = on(web, 5555);
  at_pod(from_pod(udp(asker, cluster)));
  const IcmpError e = from_web("port-unreachable", udp(cluster, asker));
  Outcome run = pod_sends(e);
  EXPECT_EQ(run.verdict, kRedirect);
  EXPECT_EQ(run.out[1], 'd');
  EXPECT_EQ(text(run.out), "ICMP port-unreachable web > cluster (cluster > web:5555)");
}

TEST_P(ErrorsTest, TruncatedAndMutatedErrorsAreSurvived) {
  host.ring(1, {kWebId, kFarId}, 0);
  at_uplink(from_lan(tcp(client, vip, kSyn)));
  IcmpError e = from_router("too-big", tcp(vip, client, kAck));
  e.quoted = 40;
  const Frame whole = e.frame();
  const std::uint64_t seed = SystemRandom().next();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  SeededRandom random(seed);
  for (std::size_t bytes = shortest_run(); bytes < whole.size(); ++bytes) {
    const Frame cut(whole.begin(), whole.begin() + static_cast<long>(bytes));
    EXPECT_NE(host.run("shoal_uplink", cut, uplink).verdict, kRedirect) << bytes;
    EXPECT_NE(host.run("shoal_pod", cut, veth).verdict, kRedirect) << bytes;
  }
  for (int round = 0; round < 2000; ++round) {
    Frame bent = whole;
    for (std::uint64_t n = 1 + random.below(4); n > 0; --n)
      bent[shortest_run() + random.below(bent.size() - shortest_run())] =
          static_cast<std::uint8_t>(random.next());
    const int verdict = host.run("shoal_uplink", bent, uplink).verdict;
    EXPECT_TRUE(verdict == kPass || verdict == kShot || verdict == kRedirect) << verdict;
  }
}

}  // namespace
}  // namespace shoal::bpftest
