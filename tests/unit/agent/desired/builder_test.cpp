// SPDX-License-Identifier: Apache-2.0
// The incremental builder against the computation from scratch.
#include "agent/desired/desired.h"
#include "netplane/base/random.h"
#include "tests/fakes/objects.h"
#include "tests/unit/agent/desired/desired_fixture.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace shoal::desired {
namespace {

class Chaos {
public:
  explicit Chaos(std::uint64_t seed) : random_(seed) {}

  void step() {
    switch (random_.below(8)) {
    case 0:
    case 1:
    case 2:
      return put_pod();
    case 3:
      return test.remove(view::kPods, "default", pod_name());
    case 4:
      return put_service();
    case 5:
      return put_slice();
    case 6:
      return change_member();
    default:
      if (random_.below(2) == 0)
        return test.remove(view::kServices, "default", service_name());
      return put_node();
    }
  }

  fakes::TestView test;
  view::Members members;

private:
  std::string host() { return fmt::format("h{}", random_.below(4) + 1); }
  std::string pod_name() { return fmt::format("p{}", random_.below(15)); }
  std::string service_name() { return fmt::format("s{}", random_.below(5)); }
  bool flip() { return random_.below(2) == 0; }

  void put_pod() {
    boost::json::object body =
        fakes::pod({.name = pod_name(),
                    .labels = fmt::format(R"({{"app":"a{}","version":"v{}"}})", random_.below(3),
                                          random_.below(2)),
                    .node = flip() ? host() : "",
                    .ip = flip() ? fmt::format("10.244.1.{}", random_.below(200) + 1) : "",
                    .ready = flip(),
                    .terminating = random_.below(4) == 0,
                    .phase = random_.below(8) == 0 ? "Failed" : "Running"});
    if (random_.below(3) == 0) {
      auto& port = body["spec"].as_object()["containers"].at(0).at("ports").at(0).as_object();
      port["hostPort"] = 30000 + random_.below(4);
      if (flip())
        port["hostIP"] = flip() ? "198.18.0.11" : "198.18.0.203";
    }
    test.put(std::move(body));
  }
  std::string policies() {
    std::string out;
    if (random_.below(4) == 0)
      out += R"("externalTrafficPolicy":"Local","healthCheckNodePort":31000,)";
    if (random_.below(4) == 0)
      out += R"("internalTrafficPolicy":"Local",)";
    if (random_.below(3) == 0)
      out +=
          fmt::format(R"("trafficDistribution":"{}",)", flip() ? "PreferClose" : "PreferSameZone");
    if (random_.below(3) == 0)
      out += fmt::format(R"("externalIPs":["198.18.0.{}","198.18.0.1{}"],)", 200 + random_.below(5),
                         random_.below(4) + 1);
    return out;
  }
  void put_service() {
    const std::string name = service_name();
    test.put(fakes::json_object(fmt::format(
        R"({{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{}","annotations":{{{}}}}},
            "spec":{{"type":"{}","clusterIP":"10.96.0.{}",{}{}
                     "ports":[{{"port":80,"targetPort":"http","nodePort":3000{}}}]}},
            "status":{{"loadBalancer":{{"ingress":[{{"ip":"198.18.0.{}"}}]}}}}}})",
        name, flip() ? R"("shoal.dev/weights":"version=v0:1,version=v1:3")" : "",
        kTypes[random_.below(std::size(kTypes))], name.back(),
        random_.below(4) == 0 ? std::string()
                              : fmt::format(R"("selector":{{"app":"a{}"}},)", random_.below(3)),
        policies(), random_.below(4), 200 + random_.below(5))));
  }
  void put_slice() {
    test.put(fakes::json_object(fmt::format(
        R"({{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4",
            "metadata":{{"name":"e{}","labels":{{"kubernetes.io/service-name":"{}"}}}},
            "ports":[{{"name":"","port":8080}}],
            "endpoints":[{{"addresses":["192.0.2.{}"],"nodeName":"{}"}}]}})",
        random_.below(6), service_name(), random_.below(200) + 1, host())));
  }
  void change_member() {
    const std::string name = host();
    if (random_.below(5) == 0)
      members.erase(name);
    else
      members.set(name, {flip(), {}});
  }
  void put_node() {
    const std::string name = host();
    if (random_.below(5) == 0)
      return test.remove(view::kNodes, "", name);
    boost::json::object body =
        fakes::node(name, fmt::format("10.244.{}.0/24", name.back()),
                    fmt::format("198.18.0.1{}", random_.below(9) == 0 ? '9' : name.back()), flip());
    body["spec"].as_object()["unschedulable"] = random_.below(4) == 0;
    body["metadata"].as_object()["labels"].as_object()["topology.kubernetes.io/zone"] =
        flip() ? "east" : "west";
    test.put(std::move(body));
  }
  static constexpr const char* kTypes[] = {"LoadBalancer", "ClusterIP", "NodePort", "ExternalName"};

  SeededRandom random_;
};

// Where what it says is not what the build before said, as Builder::changed has it.
void expect_changed(const Builder& builder, const Computed& before, const Computed& now) {
  if (!builder.changed())
    return;
  model::Desired patched = before.desired;
  patched.services.resize(now.desired.services.size());
  for (const std::size_t at : *builder.changed()) {
    ASSERT_LT(at, patched.services.size());
    patched.services[at] = now.desired.services[at];
  }
  ASSERT_EQ(patched, now.desired);
  ASSERT_EQ(before.health_checks, now.health_checks);
}

// The order of services is nobody's matter.
Computed in_order(Computed computed) {
  std::ranges::sort(computed.desired.services);
  return computed;
}

// A place that one service leaves and another takes, between two builds, is a changed one.
TEST(Builder, APlaceThatIsTakenAgainHasChanged) {
  const auto service = [](const char* name, int last) {
    return fakes::json_object(fmt::format(
        R"({{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{}"}},
            "spec":{{"type":"ClusterIP","clusterIP":"10.96.0.{}","selector":{{"app":"a"}},
                     "ports":[{{"port":80}}]}}}})",
        name, last));
  };
  fakes::TestView test;
  const view::Members members;
  Builder builder(test.view, {"h1", {}, {}, {}});
  const auto subscription =
      test.view.subscribe([&](const view::Change& change) { builder.on_change(change); });
  test.put(service("a", 1));
  test.put(service("b", 2));
  builder.build(members);
  test.put(service("c", 3));
  builder.build(members);
  const Computed before = builder.last();
  test.remove(view::kServices, "default", "a");
  test.put(service("d", 4));
  const Computed& now = builder.build(members);
  ASSERT_TRUE(builder.changed());
  EXPECT_EQ(*builder.changed(), (std::vector<std::size_t>{0, 2}));
  expect_changed(builder, before, now);
}

TEST(Builder, SaysWhatTheWholeComputationSays) {
  unsigned patched = 0, came_or_went = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Chaos chaos(seed);
    Inputs inputs{"h1", {}, {}, {{L4Proto::kTcp, 30003}}};
    Builder builder(chaos.test.view, inputs);
    const auto subscription =
        chaos.test.view.subscribe([&](const view::Change& change) { builder.on_change(change); });
    for (int i = 0; i < 200; ++i) {
      chaos.step();
      if (i % 50 == 10) {
        inputs.node_addresses = {ip(fmt::format("198.18.0.1{}", i / 50 + 1))};
        builder.set_inputs(inputs);
      }
      if (i % 3 != 0)
        continue;  // several changes at once
      const Computed expected = compute_desired(chaos.test.view, chaos.members, inputs);
      const Computed before = builder.last();
      const Computed& built = builder.build(chaos.members);
      expect_changed(builder, before, built);
      patched += builder.changed() && !builder.changed()->empty();
      came_or_went +=
          builder.changed() && before.desired.services.size() != built.desired.services.size();
      ASSERT_EQ(in_order(built).desired.services, in_order(expected).desired.services)
          << "step " << i;
      ASSERT_EQ(built.desired.nodes, expected.desired.nodes) << "step " << i;
      ASSERT_EQ(built.desired.announced_vips, expected.desired.announced_vips) << "step " << i;
      ASSERT_EQ(built.health_checks, expected.health_checks) << "step " << i;
      ASSERT_EQ(built.findings, expected.findings) << "step " << i;
      ASSERT_EQ(in_order(built), in_order(expected)) << "step " << i;
      std::set<Finding> fresh;
      std::ranges::set_difference(built.findings, before.findings,
                                  std::inserter(fresh, fresh.end()));
      ASSERT_EQ(builder.take_found(), fresh) << "step " << i;
      ASSERT_FALSE(builder.dirty(chaos.members));
    }
  }
  EXPECT_GE(patched, 50U);
  EXPECT_GE(came_or_went, 20U);
}

TEST(Builder, LocalPodsAreAChange) {
  fakes::TestView test;
  Builder builder(test.view, {.self = "h1"});
  builder.build({});
  builder.build({});
  ASSERT_TRUE(builder.changed());
  EXPECT_TRUE(builder.changed()->empty());
  const model::LocalPod pod{.pod = "default/a", .uid = "a", .addresses = {{ip("10.244.1.5"), 1}}};
  builder.set_local_pods({pod});
  EXPECT_EQ(builder.build({}).desired.pods, std::vector{pod});
  EXPECT_FALSE(builder.changed());
  builder.set_local_pods({pod});
  builder.build({});
  EXPECT_TRUE(builder.changed());
}

TEST(Builder, IsDirtyOnlyWhenSomethingCanDiffer) {
  fakes::TestView test;
  view::Members members;
  members.set("h1", {true, {}});
  Builder builder(test.view, {.self = "h1"});
  const auto subscription =
      test.view.subscribe([&](const view::Change& change) { builder.on_change(change); });
  builder.build(members);
  test.put(fakes::pod({.name = "nobody-selects-it", .node = "h1", .ip = "10.244.1.1"}));
  EXPECT_FALSE(builder.dirty(members));
  members.set("h1", {true, MonoTime(std::chrono::seconds(9))});
  EXPECT_FALSE(builder.dirty(members)) << "alive as before";
  members.set("h1", {false, {}});
  EXPECT_TRUE(builder.dirty(members));
}

}  // namespace
}  // namespace shoal::desired
