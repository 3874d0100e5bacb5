// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/agent/controllers/world.h"

namespace shoal::controllers {
namespace {

constexpr std::string_view kService =
    R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},
  "spec":{"clusterIP":"10.96.0.9","selector":{"app":"web"},
          "ports":[{"name":"http","port":80,"targetPort":"http"},{"name":"raw","port":81}]}})";

class SliceTest : public ::testing::Test {
protected:
  SliceTest() { world.put(kService); }
  Plan look() {
    return reconcile_service(world.world(), *world.view.get(view::kServices, "default", "web"));
  }
  // How many writes of slices it comes to; the Endpoints object has tests of its own.
  std::size_t slice_steps() {
    const Plan plan = look();
    return static_cast<std::size_t>(
        std::count_if(plan.steps.begin(), plan.steps.end(), [](const Step& step) {
          return target_of(step.op).resource == view::kEndpointSlices;
        }));
  }
  void put_pods(int from, int to) {
    for (int i = from; i < to; ++i)
      world.put(fakes::pod({.name = fmt::format("p{:03}", i),
                            .labels = R"({"app":"web"})",
                            .node = "h1",
                            .ip = fmt::format("10.244.{}.{}", i / 200, i % 200 + 1)}));
  }
  std::vector<std::size_t> sizes() {
    std::vector<std::size_t> out;
    for (const auto& slice : world.view.list(view::kEndpointSlices))
      out.push_back(api::find_array(slice->body, "endpoints")->size());
    std::sort(out.rbegin(), out.rend());
    return out;
  }
  TestWorld world;
};

TEST_F(SliceTest, DescribesPods) {
  put_pods(0, 1);
  world.put(fakes::pod({.name = "going",
                        .labels = R"({"app":"web"})",
                        .node = "h2",
                        .ip = "10.244.9.1",
                        .terminating = true}));
  world.put(fakes::pod({.name = "no-ip", .labels = R"({"app":"web"})", .node = "h2"}));
  carry_out(world, look());
  const auto slices = world.view.list(view::kEndpointSlices);
  ASSERT_EQ(slices.size(), 1u);
  const auto& body = slices[0]->body;
  EXPECT_EQ(api::find_string(body, "addressType"), "IPv4");
  EXPECT_EQ(view::label(*slices[0], "kubernetes.io/service-name"), "web");
  EXPECT_EQ(
      boost::json::serialize(body.at("ports")),
      R"([{"name":"http","port":8080,"protocol":"TCP"},{"name":"raw","port":81,"protocol":"TCP"}])");
  EXPECT_EQ(
      boost::json::serialize(body.at("endpoints")),
      R"([{"addresses":["10.244.9.1"],"conditions":{"ready":false,"serving":true,"terminating":true},)"
      R"("nodeName":"h2","targetRef":{"kind":"Pod","namespace":"default","name":"going","uid":"uid-going"}},)"
      R"({"addresses":["10.244.0.1"],"conditions":{"ready":true,"serving":true,"terminating":false},)"
      R"("nodeName":"h1","targetRef":{"kind":"Pod","namespace":"default","name":"p000","uid":"uid-p000"}}])");
  EXPECT_TRUE(look().steps.empty());
}

TEST_F(SliceTest, HoldsAHundredAndChangesOneSliceForOnePod) {
  put_pods(0, 250);
  carry_out(world, look());
  EXPECT_EQ(sizes(), (std::vector<std::size_t>{100, 100, 50}));
  EXPECT_TRUE(look().steps.empty());
  world.remove(view::kPods, "default", "p010");
  EXPECT_EQ(slice_steps(), 1u);
  carry_out(world, look());
  EXPECT_EQ(sizes(), (std::vector<std::size_t>{100, 99, 50}));
  put_pods(300, 302);
  carry_out(world, look());
  EXPECT_EQ(sizes(), (std::vector<std::size_t>{100, 100, 51}));
  EXPECT_TRUE(look().steps.empty());
}

TEST_F(SliceTest, ReadinessFollowsMembership) {
  put_pods(0, 2);
  carry_out(world, look());
  world.members.set("h1", {false, world.mono});
  EXPECT_EQ(slice_steps(), 1u);
  carry_out(world, look());
  for (const auto& endpoint :
       world.view.list(view::kEndpointSlices)[0]->body.at("endpoints").as_array())
    EXPECT_EQ(endpoint.at("conditions").at("ready"), false);
}

TEST_F(SliceTest, LeavesSlicesMadeByHandAlone) {
  put_pods(0, 1);
  carry_out(world, look());
  world.put(std::string_view(
      R"({"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4",
          "metadata":{"name":"mine","labels":{"kubernetes.io/service-name":"web"}},"endpoints":[],"ports":[]})"));
  EXPECT_TRUE(look().steps.empty());
  world.change(view::kServices, "default", "web",
               [](boost::json::object& body) { body["spec"].as_object().erase("selector"); });
  for (const Step& step : look().steps)
    EXPECT_NE(target_of(step.op).name, "mine");
  carry_out(world, look());
  EXPECT_TRUE(look().steps.empty());
  EXPECT_NE(world.view.get(view::kEndpointSlices, "default", "mine"), nullptr);
}

TEST_F(SliceTest, CarryTheServicesLabelsAndWhereEndpointsAre) {
  world.change(view::kNodes, "", "h1", [](boost::json::object& body) {
    body["metadata"].as_object()["labels"].as_object()["topology.kubernetes.io/zone"] = "east";
  });
  world.change(view::kServices, "default", "web", [](boost::json::object& body) {
    body["metadata"].as_object()["labels"] = boost::json::object{{"team", "a"}};
    auto& spec = body["spec"].as_object();
    spec["clusterIP"] = "None";
    spec["trafficDistribution"] = "PreferClose";
    spec["ports"] = boost::json::parse(
        R"([{"name":"http","port":80,"targetPort":"http","appProtocol":"kubernetes.io/h2c"}])");
  });
  put_pods(0, 1);
  carry_out(world, look());
  const auto slices = world.view.list(view::kEndpointSlices);
  ASSERT_EQ(slices.size(), 1u);
  EXPECT_EQ(view::label(*slices[0], "team"), "a");
  EXPECT_TRUE(view::labels(*slices[0])->contains("service.kubernetes.io/headless"));
  const auto& endpoint = slices[0]->body.at("endpoints").at(0).as_object();
  EXPECT_EQ(endpoint.at("zone"), "east");
  EXPECT_EQ(boost::json::serialize(endpoint.at("hints")), R"({"forZones":[{"name":"east"}]})");
  EXPECT_EQ(slices[0]->body.at("ports").at(0).at("appProtocol"), "kubernetes.io/h2c");
  EXPECT_TRUE(look().steps.empty());
  world.change(view::kServices, "default", "web", [](boost::json::object& body) {
    body["metadata"].as_object()["labels"] = boost::json::object{{"team", "b"}};
  });
  EXPECT_EQ(slice_steps(), 1u);
  carry_out(world, look());
  EXPECT_EQ(view::label(*world.view.list(view::kEndpointSlices)[0], "team"), "b");
}

TEST_F(SliceTest, AnotherNameHasNone) {
  put_pods(0, 1);
  carry_out(world, look());
  world.change(view::kServices, "default", "web", [](boost::json::object& body) {
    body["spec"].as_object()["type"] = "ExternalName";
  });
  carry_out(world, look());
  EXPECT_TRUE(world.view.list(view::kEndpointSlices).empty());
}

// publishNotReadyAddresses: the conditions are those of upstream's controller.
TEST_F(SliceTest, UnreadyEndpointsCanBePublished) {
  world.put(fakes::pod({.name = "unready",
                        .labels = R"({"app":"web"})",
                        .node = "h1",
                        .ip = "10.244.1.1",
                        .ready = false}));
  const auto conditions = [&] {
    carry_out(world, look());
    return boost::json::serialize(
        world.view.list(view::kEndpointSlices)[0]->body.at("endpoints").at(0).at("conditions"));
  };
  EXPECT_EQ(conditions(), R"({"ready":false,"serving":false,"terminating":false})");
  world.change(view::kServices, "default", "web", [](boost::json::object& body) {
    body["spec"].as_object()["publishNotReadyAddresses"] = true;
  });
  EXPECT_EQ(conditions(), R"({"ready":true,"serving":false,"terminating":false})");
}

}  // namespace
}  // namespace shoal::controllers
