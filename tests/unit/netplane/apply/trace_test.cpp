// SPDX-License-Identifier: Apache-2.0
// Questions beside the whole answers, as text: what `shoal trace` says about one small host.
//
//   h1 198.18.0.11 (this host): pods web-1 10.244.1.5 (blue), client 10.244.1.9
//   h2 198.18.0.12: pod web-2 10.244.2.7 (green)
//   default/web: 10.96.0.10:80 inside only, 198.18.100.1:80 for both, 3 : 1
//   default/shut: 198.18.100.1:81, no ready backend
//   default/picky: 198.18.100.2:80, source ranges and affinity outside, a ring of its own inside
#include "netplane/apply/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace shoal::apply {
namespace {

IpAddress ip(const char* text) { return IpAddress::parse(text).value(); }
SocketAddress at(const char* text) { return SocketAddress::parse(text).value(); }
IpPrefix prefix(const char* text) { return IpPrefix::parse(text).value(); }

model::Ring ring(std::uint32_t first_block, std::vector<model::BackendId> backends) {
  return {{first_block, static_cast<std::uint32_t>(backends.size())}, std::move(backends)};
}

TraceWorld world() {
  TraceWorld w;
  w.maps.frontends = {{{ip("10.96.0.10"), 80, L4Proto::kTcp}, {.inside = 1}},
                      {{ip("198.18.100.1"), 80, L4Proto::kTcp}, {.inside = 1, .outside = 1}},
                      {{ip("198.18.100.1"), 53, L4Proto::kUdp}, {.inside = 1, .outside = 1}},
                      {{ip("198.18.100.1"), 81, L4Proto::kTcp}, {.inside = 2, .outside = 2}},
                      {{ip("198.18.100.2"), 80, L4Proto::kTcp}, {3, 4, 60, true}}};
  w.maps.vips = {{ip("10.96.0.10"), {}}, {ip("198.18.100.1"), {true}}, {ip("198.18.100.2"), {}}};
  w.maps.source_ranges[4] = {prefix("198.18.0.0/24"), prefix("203.0.113.0/24")};
  w.maps.rings = {{1, ring(0, {1, 1, 2, 1})}, {3, ring(1, {1})}, {4, ring(2, {2})}};
  w.maps.backends = {{1, {ip("10.244.1.5"), 8080, 7, 1, true, {}}},
                     {2, {ip("10.244.2.7"), 8080, 9, 3, false, ip("198.18.0.12")}}};
  w.maps.pods = {{ip("10.244.1.5"), {.ifindex = 12, .generation = 7}},
                 {ip("10.244.1.9"), {.ifindex = 14, .generation = 1}}};
  w.maps.nodes = {{prefix("10.244.1.0/24"), {}}, {prefix("10.244.2.0/24"), {ip("198.18.0.12")}}};
  w.hash_seed = 7;
  w.host = ip("198.18.0.11");
  w.cluster = {prefix("10.244.0.0/16"), prefix("10.96.0.0/16")};
  w.services = {{1, "default/web:http/TCP"},
                {2, "default/shut:http/TCP"},
                {3, "default/picky:http/TCP"},
                {4, "default/picky:http/TCP@outside"}};
  w.backends = {{1, {"default/web-1", "blue", "h1"}}, {2, {"default/web-2", "green", "h2"}}};
  w.pods = {{ip("10.244.1.5"), "default/web-1"}, {ip("10.244.2.7"), "default/web-2"}};
  w.hosts = {{ip("198.18.0.11"), "h1"}, {ip("198.18.0.12"), "h2"}};
  return w;
}

TraceQuery from_pod(const char* to) {
  return {TraceOrigin::kPod, "default/client", ip("10.244.1.9"), at(to), L4Proto::kTcp, {}};
}
TraceQuery from_host(const char* to) {
  return {TraceOrigin::kHost, "", std::nullopt, at(to), L4Proto::kTcp, {}};
}
TraceQuery from_outside(const char* client, const char* to) {
  TraceQuery query{TraceOrigin::kOutside, "", std::nullopt, at(to), L4Proto::kTcp, {}};
  if (client != nullptr) {
    const SocketAddress source = at(client);
    query.client = source.ip;
    if (source.port != 0)
      query.source_port = source.port;
  }
  return query;
}

std::string text(const Trace& t) {
  std::string out;
  for (const TraceStep& step : t.steps)
    out += fmt::format("{}: {}\n", step.stage, step.text);
  for (const TraceShare& share : t.shares)
    out += fmt::format("  {:.0f}% {} {} {}\n", share.share * 100, share.name.group,
                       share.address.to_string(), share.way);
  out += fmt::format("= {}", to_string(t.verdict));
  if (!t.reason.empty())
    out += " " + t.reason;
  if (t.picked.id != model::kNoBackend)
    out += fmt::format(" {}", t.picked.id);
  return out;
}

std::string traced(const TraceQuery& query, const TraceWorld& w = world()) {
  return text(trace(query, w));
}

constexpr const char* kHook =
    "hook: connect() and sendmsg() are translated by the socket hooks, before there is a packet\n";

TEST(Trace, ASocketPicksAtRandomSoTheSharesAreShown) {
  const std::string answer =
      std::string(kHook) +
      "frontend: 10.96.0.10:80/TCP is default/web:http/TCP, for clients inside only\n"
      "ring: 4 slots, 2 backends\n"
      "pick: at random for each connect(): the shares below are the chances\n"
      "deliver: the socket connects to the backend itself; the way to each is shown with it\n"
      "  75% blue 10.244.1.5:8080 pod here\n"
      "  25% green 10.244.2.7:8080 overlay to h2 (198.18.0.12)\n"
      "= shares";
  EXPECT_EQ(traced(from_pod("10.96.0.10:80")), answer);
  EXPECT_EQ(traced(from_host("10.96.0.10:80")), answer);
  TraceQuery with_port = from_pod("10.96.0.10:80");
  with_port.source_port = 40000;
  EXPECT_THAT(traced(with_port), testing::HasSubstr("the source port plays no part"));
}

TEST(Trace, TheOnlyBackendIsNamedWithTheWayToIt) {
  EXPECT_EQ(traced(from_pod("198.18.100.2:80")),
            std::string(kHook) +
                "frontend: 198.18.100.2:80/TCP is default/picky:http/TCP, for clients inside; the "
                "others have a ring of their own\n"
                "affinity: 60 s, by the client's network namespace: it gets the backend it had "
                "last, if it had one within that time; else it picks as follows\n"
                "ring: 1 slots, 1 backend\n"
                "pick: at random for each connect(): the shares below are the chances\n"
                "route: pod default/web-1 (10.244.1.5) of this host: straight to its veth (ifindex "
                "12)\n"
                "  100% blue 10.244.1.5:8080 pod here\n"
                "= backend 1");
}

TEST(Trace, RefusalsSayWhatIsServedInstead) {
  EXPECT_EQ(traced(from_pod("198.18.100.1:443")),
            std::string(kHook) +
                "frontend: 198.18.100.1:443/TCP is no frontend, and 198.18.100.1 is a service "
                "address: refused at once. It serves 53/UDP, 80/TCP, 81/TCP\n"
                "= refused NO_FRONTEND");
  EXPECT_EQ(traced(from_pod("198.18.100.1:81")),
            std::string(kHook) +
                "frontend: 198.18.100.1:81/TCP is default/shut:http/TCP, for clients inside and "
                "outside\n"
                "ring: the service has no ready backend: refused at once\n"
                "= refused NO_BACKEND");
  EXPECT_EQ(
      traced(from_outside(nullptr, "10.96.0.10:80")),
      "arp: this host does not answer ARP for 10.96.0.10: the LAN sends it to the host that "
      "announces it (shoal status there); from here on, what this host would do\n"
      "frontend: 10.96.0.10:80/TCP is a frontend, but not for clients outside, and "
      "10.96.0.10 is a service address: refused at once. It serves nothing for these clients\n"
      "= refused NO_FRONTEND");
}

TEST(Trace, APacketFromOutsidePicksByItsHash) {
  const TraceQuery query = from_outside("198.18.0.101:40000", "198.18.100.1:80");
  const Trace t = trace(query, world());
  ASSERT_TRUE(t.hash && t.slot);
  EXPECT_EQ(*t.hash, kernel::flow_hash(*query.tuple(), 7));
  EXPECT_EQ(*t.slot, kernel::ring_slot(*t.hash, 4));
  const bool green = *t.slot == 2;
  EXPECT_EQ(t.picked.id, green ? 2U : 1U);
  EXPECT_THAT(text(t),
              testing::HasSubstr(
                  green ? "deliver: over the overlay to h2 (198.18.0.12), which translates"
                        : "deliver: translated and given to the pod's veth here (ifindex 12)"));
  EXPECT_THAT(traced(from_outside("198.18.0.101:0", "198.18.100.1:80")),
              testing::HasSubstr("say --source-port to know which backend"));
  EXPECT_THAT(traced(from_outside(nullptr, "198.18.100.1:80")),
              testing::HasSubstr("say outside:IP and --source-port to know which backend"));
}

// Every slot is reached by some port, and the backend is the slot's.
TEST(Trace, EachSourcePortHasTheBackendOfItsSlot) {
  std::map<std::uint32_t, unsigned> seen;
  for (std::uint16_t port = 40000; port < 40200; ++port) {
    TraceQuery query = from_outside("198.18.0.101:1", "198.18.100.1:80");
    query.source_port = port;
    const Trace t = trace(query, world());
    seen[*t.slot]++;
    EXPECT_EQ(t.picked.id, *t.slot == 2 ? 2U : 1U);
  }
  EXPECT_EQ(seen.size(), 4U);
}

TEST(Trace, SourceRangesComeFirst) {
  EXPECT_EQ(traced(from_outside("192.0.2.1:40000", "198.18.100.2:80")),
            "arp: this host does not answer ARP for 198.18.100.2: the LAN sends it to the host "
            "that announces it (shoal status there); from here on, what this host would do\n"
            "frontend: 198.18.100.2:80/TCP is default/picky:http/TCP@outside, for clients outside; "
            "the others have a ring of their own\n"
            "ranges: 192.0.2.1 may not connect: loadBalancerSourceRanges has 198.18.0.0/24, "
            "203.0.113.0/24\n"
            "= dropped SOURCE_RANGE");
  EXPECT_THAT(traced(from_outside("203.0.113.9:40000", "198.18.100.2:80")),
              testing::HasSubstr("ranges: 203.0.113.9 is in 203.0.113.0/24, which may connect\n"));
  EXPECT_THAT(traced(from_outside(nullptr, "198.18.100.2:80")),
              testing::HasSubstr("others are dropped (SOURCE_RANGE); say outside:IP"));
}

TEST(Trace, WhatIsOnRecordWins) {
  const TraceQuery query = from_outside("198.18.0.101:40000", "198.18.100.2:80");
  TraceWorld w = world();
  w.affinity = kernel::Affinity{.backend = 1, .epoch = 1, .idle_s = 20};
  EXPECT_THAT(
      traced(query, w),
      testing::HasSubstr("affinity: 60 s, by the client's address: it was here 20 s ago and "
                         "gets the backend it had: default/web-1 at 10.244.1.5:8080\n"));
  w.affinity->idle_s = 61;
  EXPECT_THAT(traced(query, w), testing::HasSubstr("nothing on record"));
  w.affinity->idle_s = 1;
  w.maps.backends[1].draining = true;
  EXPECT_THAT(traced(query, w), testing::HasSubstr("the backend it had takes no new connections"));
  w.affinity->epoch = 9;
  EXPECT_THAT(traced(query, w), testing::HasSubstr("the backend it had is gone"));

  kernel::Flow flow{.backend = 1, .epoch = 1, .idle_s = 3};
  flow.service = 4;
  w.flow = flow;
  EXPECT_THAT(traced(query, w), testing::HasSubstr("flow: open already, idle for 3 s"));
  EXPECT_EQ(trace(query, w).picked.name.pod, "default/web-1");
  EXPECT_THAT(traced(query, w), testing::EndsWith("= backend 1"));
  w.flow->closing = true;
  EXPECT_THAT(traced(query, w), testing::HasSubstr("but it is closing"));
  w.flow->closing = false;
  w.flow->service = 1;
  EXPECT_THAT(traced(query, w), testing::HasSubstr("but it is of another service"));
  w.flow->service = 4;
  w.flow->epoch = 2;
  EXPECT_THAT(traced(query, w), testing::HasSubstr("but its backend is gone"));
}

TEST(Trace, WhoHadTheSlotBeforeIsSaid) {
  TraceWorld w = world();
  TraceQuery query = from_outside("198.18.0.101:40000", "198.18.100.1:80");
  EXPECT_THAT(traced(query, w), testing::Not(testing::HasSubstr(", before of")));
  w.maps.rings[1] = ring(0, std::vector<model::BackendId>(64, 1));
  w.maps.rings[1].ref.history = true;
  w.maps.rings[1].former.assign(std::size_t{64} * model::kSlotFormer, 2);
  EXPECT_THAT(traced(query, w), testing::HasSubstr(", before of default/web-2 at 10.244.2.7:8080"));
  EXPECT_EQ(trace(query, w).picked.name.pod, "default/web-1");
  // A host that was asked and did not have it: that is kept, and holds where the slot has moved.
  w.flow = kernel::Flow{.backend = 2, .epoch = 3, .idle_s = 1};
  w.flow->service = 1;
  EXPECT_EQ(trace(query, w).picked.name.pod, "default/web-2");
  w.maps.rings[1].former.clear();
  EXPECT_EQ(trace(query, w).picked.name.pod, "default/web-1");
}

TEST(Trace, ABackendThatCannotBeReachedIsSaid) {
  TraceWorld w = world();
  w.maps.rings[1] = ring(0, {1});
  w.maps.pods[ip("10.244.1.5")].generation = 8;
  const TraceQuery query = from_outside("198.18.0.101:40000", "198.18.100.1:80");
  EXPECT_THAT(traced(query, w), testing::EndsWith("= dropped STALE_BACKEND 1"));
  w.maps.backends[1].local = false;
  EXPECT_THAT(traced(query, w), testing::EndsWith("= dropped FIB 1"));
  w.maps.backends[1].valid = false;
  EXPECT_THAT(traced(query, w), testing::EndsWith("= refused NO_BACKEND"));
}

TEST(Trace, BackendsThatAreNoPodsAreReachedByTheStack) {
  TraceWorld w = world();
  w.maps.rings[1] = ring(0, {1});
  w.maps.backends[1] = {
      .ip = ip("198.18.0.77"), .port = 5432, .epoch = w.maps.backends[1].epoch, .stack = true};
  const TraceQuery query = from_outside("198.18.0.101:40000", "198.18.100.1:80");
  EXPECT_THAT(traced(query, w), testing::HasSubstr("sent by this host's routes, masqueraded"));
  EXPECT_THAT(traced(query, w), testing::EndsWith("= backend 1"));
  w.maps.backends[1].local = true;
  EXPECT_THAT(traced(query, w), testing::HasSubstr("given to this host's stack"));
  w.maps.backends[1].stack = w.maps.backends[1].local = false;
  w.maps.backends[1].node = ip("198.18.0.12");
  w.maps.backends[1].snat = true;
  EXPECT_THAT(traced(query, w), testing::HasSubstr("masqueraded (SNAT), over the overlay to"));
}

TEST(Trace, WithoutSocketHooksThePodsPacketsAreBalanced) {
  TraceWorld w = world();
  w.socket_hooks = false;
  w.maps.rings[1] = ring(0, {1});
  TraceQuery query = from_pod("10.96.0.10:80");
  query.source_port = 40000;
  EXPECT_THAT(traced(query, w), testing::HasSubstr("pick: flow hash 0x"));
  EXPECT_THAT(traced(query, w), testing::EndsWith("= backend 1"));
  query.client = ip("10.244.1.5");  // the backend itself
  EXPECT_THAT(traced(query, w), testing::HasSubstr("given back to the pod that sent it"));
  EXPECT_THAT(traced(query, w), testing::EndsWith("= backend 1"));
  query.client = ip("10.244.1.77");
  EXPECT_THAT(traced(query, w), testing::EndsWith("= dropped SPOOFED_SOURCE"));
  EXPECT_THAT(traced(from_host("10.96.0.10:80"), w),
              testing::HasSubstr("only packets to ClusterIPs pass a program"));
  w.service_cidrs = {*IpPrefix::parse("10.96.0.0/16")};
  EXPECT_THAT(traced(from_host("10.96.0.10:80"), w),
              testing::AllOf(testing::HasSubstr("ClusterIPs are routed to the overlay device"),
                             testing::EndsWith("= shares")));
}

struct PlainCase {
  const char* from;
  const char* to;
  const char* route;
  const char* verdict;
};

TEST(Trace, PlainAddressesAreRouted) {
  const PlainCase cases[] = {
      {"pod", "10.244.1.5:1", "pod default/web-1 (10.244.1.5) of this host: straight to its veth",
       "pod"},
      {"host", "10.244.1.5:1", "pod default/web-1 (10.244.1.5) of this host: by its route", "pod"},
      {"outside", "10.244.1.5:1", "of this host: by its route", "pod"},
      {"pod", "10.244.2.7:1", "lies in 10.244.2.0/24: over the overlay to h2 (198.18.0.12)",
       "overlay"},
      {"host", "10.244.2.7:1", "by route to the overlay device, and to h2 (198.18.0.12)",
       "overlay"},
      {"pod", "10.244.1.200:1", "lies in this host's own 10.244.1.0/24, and no pod here has it",
       "dropped UNKNOWN_POD"},
      {"pod", "192.0.2.1:443", "it leaves with this host's address 198.18.0.11 (masquerade)",
       "stack"},
      {"host", "192.0.2.1:443", "by this host's routing table (ip route get 192.0.2.1)", "stack"},
      {"pod", "198.18.0.12:22", "it keeps the pod's address", "stack"},
      {"pod", "198.18.0.11:22", "this host itself", "stack"},
      {"pod", "10.96.7.7:80", "and no host and no service has it", "stack"},
      {"pod", "10.244.1.9:1", "the pod itself", "pod"},
  };
  for (const PlainCase& c : cases) {
    const std::string_view from = c.from;
    const std::string answer = traced(from == "pod"    ? from_pod(c.to)
                                      : from == "host" ? from_host(c.to)
                                                       : from_outside(nullptr, c.to));
    EXPECT_THAT(answer, testing::HasSubstr(c.route)) << c.from << " > " << c.to;
    EXPECT_THAT(answer, testing::EndsWith(fmt::format("= {}", c.verdict)))
        << c.from << " > " << c.to;
  }
}

}  // namespace
}  // namespace shoal::apply
