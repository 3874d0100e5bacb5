// SPDX-License-Identifier: Apache-2.0
// Traffic policies: which backends whose connections may use, and who announces the address.
#include "tests/unit/agent/desired/desired_fixture.h"

#include <gmock/gmock.h>

namespace shoal::desired {
namespace {

// a1, a2 on h1; b on h2; c on h3. h1 and h2 are in zone east, h3 in west.
class PolicyTest : public DesiredTest {
protected:
  PolicyTest() {
    put_pod("a1", "blue", "h1");
    put_pod("a2", "green", "h1");
    put_pod("b", "blue", "h2");
    put_pod("c", "green", "h3");
    set_zone("h1", "east");
    set_zone("h2", "east");
    set_zone("h3", "west");
  }
  void put_balanced(std::string_view spec) {
    boost::json::object all = fakes::json_object(
        R"({"type":"LoadBalancer","clusterIP":"10.96.0.9","allocateLoadBalancerNodePorts":false})");
    const boost::json::object given = fakes::json_object(spec);
    for (const auto& [key, value] : given)
      all[key] = value;
    put_spec("web", boost::json::serialize(all),
             R"({"loadBalancer":{"ingress":[{"ip":"198.18.0.200"}]}})");
  }
  void make_ready(std::string_view pod, bool ready) {
    test.change(view::kPods, "default", pod, [&](boost::json::object& body) {
      body["status"].as_object()["conditions"].as_array()[0].as_object()["status"] =
          ready ? "True" : "False";
    });
  }
  void terminate(std::string_view pod) {
    test.change(view::kPods, "default", pod, [&](boost::json::object& body) {
      body["metadata"].as_object()["deletionTimestamp"] = "2026-01-01T00:01:00Z";
    });
  }
};

TEST_F(PolicyTest, OneRingWhereNothingDiffers) {
  put_balanced("{}");
  EXPECT_EQ(brief(), "default/web:/TCP: 10.96.0.9:80 198.18.0.200:80 -> a1 a2 b c\n");
}

TEST_F(PolicyTest, ExternalLocalIsForOutsideClients) {
  put_balanced(R"({"externalTrafficPolicy":"Local","loadBalancerSourceRanges":["10.0.0.0/8"]})");
  EXPECT_EQ(brief("h1"),
            "default/web:/TCP for inside: 10.96.0.9:80 198.18.0.200:80 -> a1 a2 b c\n"
            "default/web:/TCP@outside for outside from 10.0.0.0/8: 198.18.0.200:80 -> a1 a2\n");
  EXPECT_THAT(brief("h2"), testing::HasSubstr(": 198.18.0.200:80 -> b\n"));
  make_ready("b", false);
  EXPECT_THAT(brief("h2"), testing::HasSubstr(": 198.18.0.200:80 -> b(terminating)\n"));
}

TEST_F(PolicyTest, InternalLocalIsForTheClusterIp) {
  put_spec("web", R"({"clusterIP":"10.96.0.9","internalTrafficPolicy":"Local"})");
  EXPECT_EQ(brief("h3"), "default/web:/TCP: 10.96.0.9:80 -> c\n");
  put_balanced(R"({"internalTrafficPolicy":"Local"})");
  EXPECT_EQ(brief("h3"),
            "default/web:/TCP for inside: 10.96.0.9:80 -> c\n"
            "default/web:/TCP@external for inside-external: 198.18.0.200:80 -> a1 a2 b c\n"
            "default/web:/TCP@outside for outside: 198.18.0.200:80 -> a1 a2 b c\n");
  put_balanced(R"({"internalTrafficPolicy":"Local","externalTrafficPolicy":"Local"})");
  EXPECT_EQ(brief("h3"),
            "default/web:/TCP for inside: 10.96.0.9:80 -> c\n"
            "default/web:/TCP@external for inside-external: 198.18.0.200:80 -> a1 a2 b c\n"
            "default/web:/TCP@outside for outside: 198.18.0.200:80 -> c\n");
  test.remove(view::kPods, "default", "c");
  EXPECT_THAT(brief("h3"), testing::HasSubstr("for inside: 10.96.0.9:80 ->\n"));
  EXPECT_TRUE(findings("h3").empty()) << "it has ready backends, if not here";
}

TEST_F(PolicyTest, NearBackendsAreThoseOfTheHostThenOfTheZone) {
  put_balanced(R"({"trafficDistribution":"PreferClose"})");
  const std::string outside =
      "default/web:/TCP@outside for outside: 198.18.0.200:80 -> a1 a2 b c\n";
  const std::string inside = "default/web:/TCP for inside: 10.96.0.9:80 198.18.0.200:80 -> ";
  EXPECT_EQ(brief("h1"), inside + "a1 a2 b(terminating) c(terminating)\n" + outside);
  EXPECT_EQ(brief("h3"), inside + "a1(terminating) a2(terminating) b(terminating) c\n" + outside);
  make_ready("b", false);
  EXPECT_THAT(brief("h2"), testing::StartsWith(inside + "a1 a2 b(terminating) c(terminating)\n"));
  make_ready("a1", false);
  EXPECT_THAT(brief("h2"),
              testing::StartsWith(inside + "a1(terminating) a2 b(terminating) c(terminating)\n"));
  make_ready("a2", false);
  EXPECT_THAT(brief("h2"),
              testing::StartsWith(inside + "a1(terminating) a2(terminating) b(terminating) c\n"));
}

TEST_F(PolicyTest, OnlyReadyBackendsDecideTheScope) {
  put_spec("web", R"({"clusterIP":"10.96.0.9","trafficDistribution":"PreferClose"})");
  terminate("b");
  EXPECT_EQ(brief("h2"), "default/web:/TCP: 10.96.0.9:80 -> a1 a2 b(serving) c(terminating)\n");
  terminate("a1");
  terminate("a2");
  EXPECT_EQ(brief("h2"),
            "default/web:/TCP: 10.96.0.9:80 -> a1(serving) a2(serving) b(serving) c\n");
}

TEST_F(PolicyTest, ZonesAloneCanBePreferred) {
  put_spec("web", R"({"clusterIP":"10.96.0.9","trafficDistribution":"PreferSameZone"})");
  EXPECT_EQ(brief("h1"), "default/web:/TCP: 10.96.0.9:80 -> a1 a2 b c(terminating)\n");
  set_zone("h1", "");
  EXPECT_EQ(brief("h1"), "default/web:/TCP: 10.96.0.9:80 -> a1 a2 b(terminating) c(terminating)\n")
      << "a host without a zone is one of its own";
  EXPECT_EQ(brief("h2"),
            "default/web:/TCP: 10.96.0.9:80 -> a1(terminating) a2(terminating) b c(terminating)\n");
}

TEST_F(PolicyTest, EndpointsMadeByHandHaveHostsAndZonesToo) {
  put_spec("db", R"({"clusterIP":"10.96.0.10","selector":{},"externalIPs":["203.0.113.7"],
      "externalTrafficPolicy":"Local","trafficDistribution":"PreferSameZone",
      "ports":[{"name":"sql","port":5432}]})");
  test.put(std::string_view(
      R"({"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4",
          "metadata":{"name":"db-1","labels":{"kubernetes.io/service-name":"db"}},
          "ports":[{"name":"sql","port":15432,"protocol":"TCP"}],
          "endpoints":[{"addresses":["192.0.2.1"],"nodeName":"h1"},
                       {"addresses":["192.0.2.2"],"zone":"east"}]})"));
  test.put(std::string_view(
      R"({"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4",
          "metadata":{"name":"db-2","labels":{"kubernetes.io/service-name":"db"}},
          "ports":[{"name":"sql","port":25432,"protocol":"TCP"}],
          "endpoints":[{"addresses":["192.0.2.1"],"nodeName":"h3"}]})"));
  const auto ports = [&](std::string host) {
    std::string out;
    for (const auto& port : compute(std::move(host)).desired.services)
      for (const auto& b : port.backends)
        out += fmt::format("{} {}:{} {}\n", model::to_string(port.clients), b.ip.to_string(),
                           b.port, state_name(b.state));
    return out;
  };
  EXPECT_EQ(ports("h1"), "inside 192.0.2.1:15432 ready\n"
                         "inside 192.0.2.1:25432 terminating\n"
                         "inside 192.0.2.2:15432 ready\n"
                         "outside 192.0.2.1:15432 ready\n");
  EXPECT_EQ(ports("h3"), "inside 192.0.2.1:15432 terminating\n"
                         "inside 192.0.2.1:25432 ready\n"
                         "inside 192.0.2.2:15432 terminating\n"
                         "outside 192.0.2.1:25432 ready\n");
}

// ---- announcing

TEST_F(PolicyTest, ALocalVipIsAnnouncedWhereABackendIs) {
  put_balanced(R"({"externalTrafficPolicy":"Local"})");
  for (const char* pod : {"a1", "a2", "b"})
    make_ready(pod, false);
  EXPECT_EQ(announcing(), std::vector<std::string>{"h3"});
  make_ready("c", false);
  make_ready("b", true);
  EXPECT_EQ(announcing(), std::vector<std::string>{"h2"});
  edit_node("h2",
            [](boost::json::object& body) { body["spec"].as_object()["unschedulable"] = true; });
  EXPECT_EQ(announcing(), std::vector<std::string>{"h2"}) << "the only one that could answer";
  make_ready("c", true);
  EXPECT_EQ(announcing(), std::vector<std::string>{"h3"}) << "a cordoned host hands it on";
  make_ready("c", false);
  terminate("b");
  EXPECT_EQ(announcing(), std::vector<std::string>{"h2"}) << "it still answers";
  make_ready("b", false);
  EXPECT_EQ(announcing().size(), 1U) << "somebody must refuse the connections";
}

TEST_F(PolicyTest, ACordonedHostHandsItsAddressesOn) {
  put_balanced("{}");
  const auto cordon = [&](std::string_view host, bool on) {
    edit_node(host,
              [on](boost::json::object& body) { body["spec"].as_object()["unschedulable"] = on; });
  };
  const auto first = announcing();
  ASSERT_EQ(first.size(), 1U);
  cordon(first[0], true);
  const auto second = announcing();
  ASSERT_EQ(second.size(), 1U);
  EXPECT_NE(second, first);
  cordon(second[0], true);
  const auto third = announcing();
  ASSERT_EQ(third.size(), 1U);
  EXPECT_NE(third, second);
  EXPECT_NE(third, first);
  cordon(third[0], true);
  EXPECT_EQ(announcing(), first) << "better a cordoned host than none";
  cordon(second[0], false);
  EXPECT_EQ(announcing(), second);
}

TEST_F(PolicyTest, AHostsOwnAddressIsNeverAnnounced) {
  put_spec("web", R"({"type":"LoadBalancer","clusterIP":"10.96.0.9"})",
           R"({"loadBalancer":{"ingress":[{"ip":"198.18.0.12"}]}})");
  EXPECT_TRUE(announcing("198.18.0.12").empty());
  EXPECT_EQ(compute().desired.services.at(0).frontends.at(1).kind, model::FrontendKind::kNodePort);
}

TEST_F(PolicyTest, HealthChecksCountTheHostsOwnBackends) {
  put_balanced(R"({"externalTrafficPolicy":"Local","healthCheckNodePort":31000,"ports":[
      {"name":"a","port":80,"targetPort":"http"},{"name":"b","port":81,"targetPort":8081}]})");
  const auto checks = [&](std::string host) {
    std::string out;
    for (const HealthCheck& check : compute(std::move(host)).health_checks)
      out += fmt::format("{} {}/{} {}\n", check.port, check.ns, check.service, check.local_ready);
    return out;
  };
  EXPECT_EQ(checks("h1"), "31000 default/web 2\n");
  EXPECT_EQ(checks("h2"), "31000 default/web 1\n");
  make_ready("a1", false);
  terminate("a2");
  EXPECT_EQ(checks("h1"), "31000 default/web 0\n") << "a load balancer should go elsewhere";
  put_balanced(R"({"externalTrafficPolicy":"Cluster","healthCheckNodePort":31000})");
  EXPECT_EQ(checks("h1"), "");
}

}  // namespace
}  // namespace shoal::desired
