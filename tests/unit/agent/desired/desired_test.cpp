// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/agent/desired/desired_fixture.h"

namespace shoal::desired {
namespace {

TEST_F(DesiredTest, PodsBecomeBackends) {
  put_service("version=blue:90,version=green:10");
  put_pod("blue-1", "blue", "h1");
  put_pod("green-1", "green", "h2");
  put_pod("other", "red", "h2");
  put_pod("unready", "blue", "h3", false);
  put_pod("going", "green", "h3", true, true);
  test.put(fakes::pod({.name = "no-ip", .labels = R"({"app":"web"})", .node = "h1"}));
  test.put(fakes::pod({.name = "done",
                       .labels = R"({"app":"web"})",
                       .node = "h1",
                       .ip = "10.244.1.99",
                       .phase = "Succeeded"}));
  EXPECT_EQ(text(), R"(default/web:http/TCP 10.96.0.9:80/ClusterIP 198.18.0.200:80/LoadBalancer
  group version=blue 90
  group version=green 10
  10.244.1.2:8080 gen 3 ready version=blue h1 default/blue-1
  10.244.2.3:8080 gen 3 ready version=green h2 default/green-1
  10.244.2.4:8080 gen 3 ready - h2 default/other
  10.244.3.5:8080 gen 3 terminating version=blue h3 default/unready
  10.244.3.6:8080 gen 3 serving version=green h3 default/going
)");
  EXPECT_TRUE(findings().empty());
}

TEST_F(DesiredTest, ADeadHostsPodsAreNotReady) {
  put_service();
  put_pod("a", "blue", "h1");
  put_pod("b", "blue", "h2");
  members.set("h2", {false, {}});
  const auto desired = compute().desired;
  ASSERT_EQ(desired.services.size(), 1u);
  ASSERT_EQ(desired.services[0].backends.size(), 2u);
  EXPECT_EQ(desired.services[0].backends[0].state, model::BackendState::kReady);
  EXPECT_EQ(desired.services[0].backends[1].state, model::BackendState::kTerminating);
  ASSERT_EQ(desired.nodes.size(), 3u);
  EXPECT_TRUE(desired.nodes[0].alive);
  EXPECT_FALSE(desired.nodes[1].alive) << "its routes stay";
}

TEST_F(DesiredTest, HostsThatAreReachedBySnat) {
  const auto by_snat = [&] {
    std::vector<std::string> names;
    for (const model::Node& node : compute().desired.nodes)
      if (node.snat)
        names.push_back(node.name);
    return names;
  };
  EXPECT_THAT(by_snat(), testing::IsEmpty());
  inputs.snat_hosts = {"h2", "h9"};
  EXPECT_THAT(by_snat(), testing::ElementsAre("h2"));
  inputs.snat = true;
  EXPECT_THAT(by_snat(), testing::ElementsAre("h1", "h2", "h3"));
}

TEST_F(DesiredTest, SaysWhatTheOwnerShouldKnow) {
  put_service("version=blue:90,version=green:10,version=mauve:5,version=old:0");
  EXPECT_EQ(
      findings(),
      (std::vector<std::string>{
          "WeightGroupEmpty: shoal.dev/weights: no pod of this service has the label version=blue",
          "WeightGroupEmpty: shoal.dev/weights: no pod of this service has the label version=green",
          "WeightGroupEmpty: shoal.dev/weights: no pod of this service has the label version=mauve",
          "WeightGroupEmpty: shoal.dev/weights: no pod of this service has the label version=old",
          "NoReadyBackend: no ready backend: connections are refused"}));
  put_pod("blue-1", "blue", "h1");
  put_pod("green-1", "green", "h1", false);
  put_pod("old-1", "old", "h1", false);
  EXPECT_EQ(
      findings(),
      (std::vector<std::string>{
          "WeightGroupNotReady: shoal.dev/weights: group version=green has no ready pod; its share "
          "goes to the other groups",
          "WeightGroupEmpty: shoal.dev/weights: no pod of this service has the label "
          "version=mauve"}));
}

TEST_F(DesiredTest, BadWeightsAreNoWeights) {
  put_service("version=blue:many");
  put_pod("a", "blue", "h1");
  EXPECT_TRUE(compute().desired.services[0].groups.empty());
  ASSERT_EQ(findings().size(), 1u);
  EXPECT_TRUE(findings()[0].starts_with("InvalidWeights: ")) << findings()[0];
}

TEST_F(DesiredTest, NamedPortsAreEachPodsOwn) {
  put_service();
  put_pod("a", "blue", "h1");
  put_pod("b", "blue", "h1");
  put_pod("c", "blue", "h1");
  test.change(view::kPods, "default", "b", [](boost::json::object& body) {
    body.at("spec").at("containers").at(0).at("ports").at(0).as_object()["containerPort"] = 9090;
  });
  test.change(view::kPods, "default", "c", [](boost::json::object& body) {
    body.at("spec").at("containers").at(0).as_object().erase("ports");
  });
  const auto backends = compute().desired.services[0].backends;
  ASSERT_EQ(backends.size(), 2u) << "a pod without that port is no backend";
  EXPECT_EQ(backends[0].port, 8080);
  EXPECT_EQ(backends[1].port, 9090);
}

TEST_F(DesiredTest, AServiceWithoutSelectorHasItsSlices) {
  test.put(std::string_view(
      R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"db"},
          "spec":{"clusterIP":"10.96.0.10","ports":[{"name":"sql","port":5432,"protocol":"TCP"}]}})"));
  test.put(std::string_view(
      R"({"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4",
          "metadata":{"name":"db-1","labels":{"kubernetes.io/service-name":"db"}},
          "ports":[{"name":"sql","port":15432,"protocol":"TCP"},{"name":"other","port":1}],
          "endpoints":[{"addresses":["192.0.2.1"]},
                       {"addresses":["192.0.2.2"],"conditions":{"ready":false}},
                       {"addresses":["192.0.2.3"],"conditions":{"ready":false,"terminating":true}},
                       {"addresses":["127.0.0.1"]},
                       {"addresses":["192.0.2.4"],"nodeName":"h2"},
                       {"addresses":["192.0.2.5"],"nodeName":"elsewhere"},
                       {"addresses":["198.18.0.13"]},
                       {"addresses":["10.244.3.8"]},
                       {"addresses":["10.244.3.7"],"nodeName":"h3",
                        "conditions":{"ready":false,"serving":true,"terminating":true}}]})"));
  members.set("h2", {false, {}});
  // Whose address it is says how it is reached, whatever nodeName says.
  EXPECT_EQ(text(), R"(default/db:sql/TCP 10.96.0.10:5432/ClusterIP
  10.244.3.7:15432 gen 0 serving - h3 -
  10.244.3.8:15432 gen 0 ready - h3 -
  192.0.2.1:15432 gen 0 ready - - -
  192.0.2.2:15432 gen 0 terminating - - -
  192.0.2.3:15432 gen 0 terminating - - -
  192.0.2.4:15432 gen 0 terminating - - -
  192.0.2.5:15432 gen 0 ready - - -
  198.18.0.13:15432 gen 0 ready - h3 -
)");
  EXPECT_EQ(findings(),
            std::vector<std::string>{
                "InvalidEndpoint: EndpointSlice db-1: \"127.0.0.1\" cannot be a backend"});
}

TEST_F(DesiredTest, StoredSlicesOfASelectorServiceAreNotRead) {
  put_service();
  put_pod("a", "blue", "h1");
  const auto before = text();
  test.put(std::string_view(
      R"({"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4",
          "metadata":{"name":"web-1","labels":{"kubernetes.io/service-name":"web"}},
          "ports":[{"name":"http","port":1}],"endpoints":[{"addresses":["192.0.2.1"]}]})"));
  EXPECT_EQ(text(), before);
}

TEST_F(DesiredTest, OneReadyMemberAnnouncesAVip) {
  put_service();
  const auto first = announcing();
  ASSERT_EQ(first.size(), 1u);
  EXPECT_EQ(first[0],
            announcer_of({*IpAddress::parse("198.18.0.200"), false, {}, {}}, test.view, members));
  members.set(first[0], {false, {}});
  const auto second = announcing();
  ASSERT_EQ(second.size(), 1u);
  EXPECT_NE(second[0], first[0]);
  test.put(fakes::node(second[0], "10.244.9.0/24", "198.18.0.19", false));
  const auto third = announcing();
  ASSERT_EQ(third.size(), 1u);
  EXPECT_NE(third[0], second[0]) << "a host that is not ready hands it on";
  for (const char* host : {"h1", "h2", "h3"})
    test.put(fakes::node(host, "10.244.9.0/24", "198.18.0.19", false));
  EXPECT_EQ(announcing().size(), 1u) << "better one that is not ready than none";
}

}  // namespace
}  // namespace shoal::desired
