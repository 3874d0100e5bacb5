// SPDX-License-Identifier: Apache-2.0
// Flows by name, the census of the flow table, and what a cleanup finds, on a kernel in memory.
#include "fake_kernel.h"
#include "netplane/apply/bpf_data_plane.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_data_maps.h"

namespace shoal::apply {
namespace {

IpAddress ip(const char* text) { return IpAddress::parse(text).value(); }
SocketAddress at(const char* text) { return SocketAddress::parse(text).value(); }

Config config() {
  Config config;
  config.node_name = "h1";
  config.underlay = ip("198.18.0.11");
  return config;
}

model::ServicePort service(const char* name, const char* vip, const char* backend,
                           const char* pod) {
  model::ServicePort out;
  out.ns = "default";
  out.name = name;
  out.port_name = "http";
  out.frontends = {{ip(vip), 80, L4Proto::kTcp, model::FrontendKind::kLoadBalancer}};
  model::Backend one;
  one.ip = ip(backend);
  one.port = 8080;
  one.generation = 1;
  one.host = "h2";
  one.pod = pod;
  out.backends = {one};
  return out;
}

model::Desired desired() {
  model::Desired out;
  out.self = "h1";
  out.nodes = {{"h1", ip("198.18.0.11"), {*IpPrefix::parse("10.244.1.0/24")}, true},
               {"h2", ip("198.18.0.12"), {*IpPrefix::parse("10.244.2.0/24")}, true}};
  out.services = {service("web", "198.18.100.1", "10.244.2.7", "default/web-1"),
                  service("api", "198.18.100.2", "10.244.2.8", "default/api-1")};
  return out;
}

class InspectTest : public testing::Test {
protected:
  InspectTest() : plane(*BpfDataPlane::open_with(config(), fake_ports(host), clock)) {
    EXPECT_TRUE(plane->apply(desired(), true).ok());
  }
  kernel::Flow forward(const char* client, const char* vip, const char* backend) {
    const auto frontend = host.maps.read()->frontends.at({at(vip).ip, 80, L4Proto::kTcp});
    kernel::Flow flow{.source = at(client), .destination = at(vip), .translated = at(backend)};
    flow.service = frontend.outside;
    return flow;
  }
  FlowList read(const FlowFilter& filter, unsigned* steps = nullptr) {
    auto reading = *plane->begin_flows(filter);
    unsigned taken = 1;
    while (*plane->next_flows(reading))
      ++taken;
    if (steps != nullptr)
      *steps = taken;
    return std::move(reading.list);
  }
  std::vector<std::string> listed(const FlowFilter& filter) {
    std::vector<std::string> out;
    for (const FlowView& view : read(filter).flows)
      out.push_back(fmt::format("{}{} > {} > {} {} {}", view.flow.reverse ? "reverse " : "",
                                view.client.to_string(), view.frontend.to_string(),
                                view.backend.to_string(), view.service, view.pod));
    return out;
  }

  FakeHost host;
  FakeClock clock;
  std::unique_ptr<BpfDataPlane> plane;
};

TEST_F(InspectTest, FlowsHaveRolesAndNamesAndAreFiltered) {
  kernel::Flow reverse{.reverse = true,
                       .source = at("10.244.2.8:8080"),
                       .destination = at("198.18.0.101:5"),
                       .translated = at("198.18.100.2:80")};
  host.maps.flow_table = {forward("198.18.0.101:4", "198.18.100.1:80", "10.244.2.7:8080"), reverse};
  const std::string web =
      "198.18.0.101:4 > 198.18.100.1:80 > 10.244.2.7:8080 default/web default/web-1";
  const std::string api =
      "reverse 198.18.0.101:5 > 198.18.100.2:80 > 10.244.2.8:8080 default/api default/api-1";
  EXPECT_THAT(listed({.limit = 10}), testing::ElementsAre(web, api));
  EXPECT_THAT(listed({.service = "default/api", .limit = 10}), testing::ElementsAre(api));
  EXPECT_THAT(listed({.pod = "default/web-1", .limit = 10}), testing::ElementsAre(web));
  EXPECT_THAT(listed({.service = "default/none", .limit = 10}), testing::IsEmpty());
  EXPECT_TRUE(read({.limit = 2}).complete);
  const FlowList cut = read({.limit = 1});
  EXPECT_FALSE(cut.complete);
  EXPECT_EQ(cut.flows.size(), 1U);
}

// No call reads more than one step of the table, whatever the filter leaves of it.
TEST_F(InspectTest, FlowsAreReadAStepACall) {
  for (int i = 0; i < 20; ++i)
    host.maps.flow_table.push_back(forward("198.18.0.101:4", "198.18.100.1:80", "10.244.2.7:8080"));
  auto reading = *plane->begin_flows({.service = "default/api", .limit = 10});
  EXPECT_EQ(reading.list.read, 0U);
  for (std::size_t step = 1; step < 20; ++step) {
    EXPECT_TRUE(*plane->next_flows(reading));
    EXPECT_EQ(reading.list.read, step);  // the fake gives one entry a step
  }
  EXPECT_FALSE(*plane->next_flows(reading));
  EXPECT_EQ(reading.list.read, 20U);
  EXPECT_TRUE(reading.list.complete);
  // A limit that is reached ends it.
  unsigned steps = 0;
  EXPECT_FALSE(read({.limit = 3}, &steps).complete);
  EXPECT_EQ(steps, 4U);
}

TEST_F(InspectTest, TheCensusTellsActiveFromEndedInStepsOfOneATick) {
  for (int i = 0; i < 6; ++i)
    host.maps.flow_table.push_back({});
  host.maps.flow_table[0].closing = true;
  host.maps.flow_table[1].idle_s = kernel::kUdpIdle_s + 1;
  EXPECT_THAT(plane->lru_use(), testing::IsEmpty());
  unsigned ticks = 0;
  while (plane->lru_use().size() < 2 && ticks < 100) {
    plane->tick();
    ++ticks;
  }
  EXPECT_EQ(ticks, 7U);  // the fake gives one entry a step, and the other table is empty
  const auto use = plane->lru_use();
  ASSERT_EQ(use.size(), 2U);
  EXPECT_EQ(use[0].table, "flows");
  EXPECT_EQ(use[0].tally.entries, 6U);
  EXPECT_EQ(use[0].tally.closing, 1U);
  EXPECT_EQ(use[0].tally.active, 4U);
  EXPECT_DOUBLE_EQ(use[0].pressure(), 4.0 / host.maps.sizes().flows);
  EXPECT_EQ(use[1].table, "affinity");
  // The next pass waits for its time, and its count replaces the old one only when it is whole.
  host.maps.flow_table.clear();
  plane->tick();
  EXPECT_EQ(plane->lru_use()[0].tally.entries, 6U);
  clock.advance(kCensusInterval);
  EXPECT_EQ(plane->lru_use()[0].age_s, 30U);
  plane->tick();
  EXPECT_EQ(plane->lru_use()[0].tally.entries, 0U);
}

TEST_F(InspectTest, ATraceReadsTheMapsAndKnowsTheNames) {
  TraceQuery query{.client = ip("198.18.0.101"), .to = at("198.18.100.1:80"), .source_port = 4};
  const auto traced = plane->trace(query);
  ASSERT_TRUE(traced) << traced.error().message();
  EXPECT_EQ(traced->service, "default/web:http/TCP");
  ASSERT_EQ(traced->shares.size(), 1U);
  EXPECT_EQ(traced->shares[0].name.pod, "default/web-1");
  EXPECT_EQ(traced->shares[0].way, "overlay to h2 (198.18.0.12)");
  EXPECT_EQ(traced->verdict, TraceVerdict::kBackend);
  const auto nobody = plane->trace(
      {.origin = TraceOrigin::kPod, .pod = "default/none", .to = at("198.18.100.1:80")});
  ASSERT_FALSE(nobody);
  EXPECT_EQ(nobody.error().code(), Errc::kNotFound);
}

}  // namespace
}  // namespace shoal::apply
