// SPDX-License-Identifier: Apache-2.0
// Endpoints (v1): kept for services with a selector, mirrored into slices where made by hand.
// Named after upstream's end-to-end tests where there is one.
#include "tests/unit/agent/controllers/world.h"

namespace shoal::controllers {
namespace {

namespace json = boost::json;

class EndpointsTest : public ::testing::Test {
protected:
  void put_service(std::string_view spec) {
    world.put(fakes::json_object(fmt::format(
        R"({{"apiVersion":"v1","kind":"Service","metadata":{{"name":"web","labels":{{"team":"a"}}}},
            "spec":{}}})",
        spec)));
  }
  void put_pod(std::string name, std::string ip, bool ready = true, bool terminating = false) {
    world.put(fakes::pod({.name = std::move(name),
                          .labels = R"({"app":"web"})",
                          .node = "h1",
                          .ip = std::move(ip),
                          .ready = ready,
                          .terminating = terminating}));
  }
  Plan look() {
    return reconcile_service(world.world(), *world.view.get(view::kServices, "default", "web"));
  }
  void settle() {
    carry_out(world, look());
    EXPECT_TRUE(look().steps.empty()) << to_text(look());
  }
  std::string subsets() {
    const auto object = world.view.get(view::kEndpoints, "default", "web");
    return object ? json::serialize(object->body.at("subsets")) : "none";
  }
  std::vector<ObjectPtr> slices() { return world.view.list(view::kEndpointSlices); }

  TestWorld world;
};

constexpr std::string_view kSelecting =
    R"({"clusterIP":"10.96.0.9","selector":{"app":"web"},
        "ports":[{"name":"http","port":80,"targetPort":"http"}]})";
constexpr std::string_view kByHand =
    R"({"clusterIP":"10.96.0.9","ports":[{"name":"example","port":80,"protocol":"TCP"}]})";

TEST_F(EndpointsTest, ShouldCreateEndpointsAndEndpointSlicesForPodsMatchingAService) {
  put_service(kSelecting);
  settle();
  EXPECT_EQ(subsets(), "[]");
  ASSERT_EQ(slices().size(), 1U) << "one empty slice";
  EXPECT_EQ(json::serialize(slices()[0]->body.at("endpoints")), "[]");
  put_pod("a", "10.244.1.1");
  put_pod("b", "10.244.1.2", false);
  put_pod("going", "10.244.1.3", true, true);
  settle();
  EXPECT_EQ(subsets(),
            R"([{"addresses":[{"ip":"10.244.1.1","nodeName":"h1","targetRef":{"kind":"Pod",)"
            R"("namespace":"default","name":"a","uid":"uid-a"}}],)"
            R"("notReadyAddresses":[{"ip":"10.244.1.2","nodeName":"h1","targetRef":{"kind":"Pod",)"
            R"("namespace":"default","name":"b","uid":"uid-b"}}],)"
            R"("ports":[{"name":"http","port":8080,"protocol":"TCP"}]}])");
  const auto object = world.view.get(view::kEndpoints, "default", "web");
  EXPECT_EQ(view::label(*object, "team"), "a");
  EXPECT_EQ(view::label(*object, "endpoints.kubernetes.io/managed-by"), "endpoint-controller");
  EXPECT_EQ(view::controller_of(*object)->uid, "uid-web");
  ASSERT_EQ(slices().size(), 1U);
  EXPECT_EQ(slices()[0]->body.at("endpoints").as_array().size(), 3U);
  for (const char* pod : {"a", "b", "going"})
    world.remove(view::kPods, "default", pod);
  settle();
  EXPECT_EQ(subsets(), "[]");
  ASSERT_EQ(slices().size(), 1U);
}

TEST_F(EndpointsTest, TooManyAreCutAndItSaysSo) {
  put_service(kSelecting);
  for (int i = 0; i < 1002; ++i)
    put_pod(fmt::format("p{:04}", i), fmt::format("10.244.{}.{}", i / 200, i % 200 + 1), i >= 4);
  carry_out(world, look());
  const auto object = world.view.get(view::kEndpoints, "default", "web");
  const auto& subset = object->body.at("subsets").at(0).as_object();
  EXPECT_EQ(subset.at("addresses").as_array().size(), 998U);
  EXPECT_EQ(subset.at("notReadyAddresses").as_array().size(), 2U);
  EXPECT_EQ(view::annotation(*object, "endpoints.kubernetes.io/over-capacity"), "truncated");
  for (int i = 0; i < 4; ++i)
    world.remove(view::kPods, "default", fmt::format("p{:04}", i));
  carry_out(world, look());
  EXPECT_EQ(view::annotation(*world.view.get(view::kEndpoints, "default", "web"),
                             "endpoints.kubernetes.io/over-capacity"),
            "");
}

TEST_F(EndpointsTest, ShouldMirrorACustomEndpointsResourceThroughCreateUpdateAndDelete) {
  put_service(kByHand);
  settle();
  EXPECT_TRUE(slices().empty());
  const auto put = [&](std::string_view ip, std::string_view labels = "{}") {
    world.put(fakes::json_object(fmt::format(
        R"({{"apiVersion":"v1","kind":"Endpoints","metadata":{{"name":"web","labels":{}}},
            "subsets":[{{"ports":[{{"name":"example","port":80,"protocol":"TCP"}}],
                         "addresses":[{{"ip":"{}"}}],"notReadyAddresses":[{{"ip":"10.1.9.9"}}]}}]}})",
        labels, ip)));
  };
  put("10.1.2.3");
  settle();
  ASSERT_EQ(slices().size(), 1U);
  EXPECT_EQ(view::label(*slices()[0], "kubernetes.io/service-name"), "web");
  EXPECT_EQ(view::label(*slices()[0], "endpointslice.kubernetes.io/managed-by"),
            "endpointslicemirroring-controller.k8s.io");
  EXPECT_EQ(json::serialize(slices()[0]->body.at("ports")),
            R"([{"name":"example","port":80,"protocol":"TCP"}])");
  EXPECT_EQ(json::serialize(slices()[0]->body.at("endpoints")),
            R"([{"addresses":["10.1.2.3"],"conditions":{"ready":true}},)"
            R"({"addresses":["10.1.9.9"],"conditions":{"ready":false}}])");
  put("10.2.3.4");
  settle();
  ASSERT_EQ(slices().size(), 1U);
  EXPECT_EQ(json::serialize(slices()[0]->body.at("endpoints")),
            R"([{"addresses":["10.1.9.9"],"conditions":{"ready":false}},)"
            R"({"addresses":["10.2.3.4"],"conditions":{"ready":true}}])");
  put("10.2.3.4", R"({"endpointslice.kubernetes.io/skip-mirror":"true"})");
  settle();
  EXPECT_TRUE(slices().empty());
  put("10.2.3.4");
  settle();
  EXPECT_EQ(slices().size(), 1U);
  world.remove(view::kEndpoints, "default", "web");
  settle();
  EXPECT_TRUE(slices().empty());
}

TEST_F(EndpointsTest, ASelectorThatIsGivenOrTakenAwayChangesWhoKeepsThem) {
  put_service(kByHand);
  world.put(std::string_view(
      R"({"apiVersion":"v1","kind":"Endpoints","metadata":{"name":"web"},
          "subsets":[{"ports":[{"name":"example","port":80}],"addresses":[{"ip":"10.1.2.3"}]}]})"));
  settle();
  ASSERT_EQ(slices().size(), 1U);
  put_pod("a", "10.244.1.1");
  put_service(kSelecting);
  settle();
  ASSERT_EQ(slices().size(), 1U);
  EXPECT_EQ(view::label(*slices()[0], "endpointslice.kubernetes.io/managed-by"),
            "endpointslice-controller.shoal.dev");
  EXPECT_EQ(subsets().find("10.1.2.3"), std::string::npos) << "the service's own now";
  put_service(kByHand);
  settle();
  ASSERT_EQ(slices().size(), 1U) << "what is left is mirrored, as upstream's does";
  EXPECT_EQ(view::label(*slices()[0], "endpointslice.kubernetes.io/managed-by"),
            "endpointslicemirroring-controller.k8s.io");
}

}  // namespace
}  // namespace shoal::controllers
