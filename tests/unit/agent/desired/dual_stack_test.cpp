// SPDX-License-Identifier: Apache-2.0
// Services of two families: which addresses lead to which, and who is kept out.
#include "desired_fixture.h"

#include <gmock/gmock.h>

namespace shoal::desired {
namespace {

class DualStackTest : public DesiredTest {
protected:
  DualStackTest() {
    inputs.node_addresses = {ip("198.18.0.11"), ip("2001:db8:1::11")};
    for (int i = 1; i <= 3; ++i) {
      const std::string name = fmt::format("h{}", i);
      edit_node(name, [&](boost::json::object& body) {
        body["spec"].as_object()["podCIDRs"].as_array().push_back(
            boost::json::string(fmt::format("fd10:244:0:{}::/64", i)));
        body["status"].as_object()["addresses"].as_array().push_back(
            {{"type", "InternalIP"}, {"address", fmt::format("2001:db8:1::1{}", i)}});
      });
      put_pod(fmt::format("p{}", i), "blue", name);
      add_v6(fmt::format("p{}", i), fmt::format("fd10:244:0:{}::5", i));
    }
  }
  void add_v6(std::string_view pod, std::string address) {
    test.change(view::kPods, "default", pod, [&](boost::json::object& body) {
      boost::json::object& status = body["status"].as_object();
      status["podIPs"] = boost::json::array{{{"ip", status["podIP"]}}, {{"ip", address}}};
      status["shoalGenerationV6"] = 9;
    });
  }
};

constexpr std::string_view kBoth =
    R"("ipFamilies":["IPv4","IPv6"],"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9","fd10:96::9"])";
constexpr std::string_view kIngress =
    R"({"loadBalancer":{"ingress":[{"ip":"198.18.0.200"},{"ip":"2001:db8:1::d01"}]}})";

TEST_F(DualStackTest, EachFamilyIsBalancedByItself) {
  put_spec("web", fmt::format(R"({{{},"type":"NodePort","ports":[{{"port":80,"targetPort":8080,
                                  "nodePort":30080}}]}})",
                              kBoth));
  EXPECT_EQ(text(), "default/web:/TCP 10.96.0.9:80/ClusterIP 198.18.0.11:30080/NodePort\n"
                    "  10.244.1.2:8080 gen 3 ready - h1 default/p1\n"
                    "  10.244.2.3:8080 gen 3 ready - h2 default/p2\n"
                    "  10.244.3.4:8080 gen 3 ready - h3 default/p3\n"
                    "default/web:/TCP@v6 fd10:96::9:80/ClusterIP 2001:db8:1::11:30080/NodePort\n"
                    "  fd10:244:0:1::5:8080 gen 9 ready - h1 default/p1\n"
                    "  fd10:244:0:2::5:8080 gen 9 ready - h2 default/p2\n"
                    "  fd10:244:0:3::5:8080 gen 9 ready - h3 default/p3\n");
}

TEST_F(DualStackTest, AServiceOfOneFamilyHasNothingOfTheOther) {
  put_spec("web",
           R"({"ipFamilies":["IPv6"],"clusterIP":"fd10:96::9","clusterIPs":["fd10:96::9"]})");
  EXPECT_EQ(brief(), "default/web:/TCP@v6: fd10:96::9:80 -> p1 p2 p3\n");
  put_spec("web", R"({"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9"]})");
  EXPECT_EQ(brief(), "default/web:/TCP: 10.96.0.9:80 -> p1 p2 p3\n");
}

TEST_F(DualStackTest, RangesOfOneFamilyKeepTheOtherOut) {
  put_spec("web",
           fmt::format(R"({{{},"type":"LoadBalancer","loadBalancerSourceRanges":["10.0.0.0/8"]}})",
                       kBoth),
           kIngress);
  EXPECT_EQ(brief(),
            "default/web:/TCP from 10.0.0.0/8: 10.96.0.9:80 198.18.0.200:80 -> p1 p2 p3\n"
            "default/web:/TCP@v6 from ::/128: fd10:96::9:80 2001:db8:1::d01:80 -> p1 p2 p3\n");
}

TEST_F(DualStackTest, PoliciesAndAnnouncementsAreOfEachFamily) {
  put_spec("web",
           fmt::format(R"({{{},"type":"LoadBalancer","externalTrafficPolicy":"Local",
                           "healthCheckNodePort":31000}})",
                       kBoth),
           kIngress);
  EXPECT_EQ(brief(),
            "default/web:/TCP for inside: 10.96.0.9:80 198.18.0.200:80 -> p1 p2 p3\n"
            "default/web:/TCP@outside for outside: 198.18.0.200:80 -> p1\n"
            "default/web:/TCP@v6 for inside: fd10:96::9:80 2001:db8:1::d01:80 -> p1 p2 p3\n"
            "default/web:/TCP@v6@outside for outside: 2001:db8:1::d01:80 -> p1\n");
  EXPECT_EQ(announcing().size(), 1U);
  EXPECT_EQ(announcing("2001:db8:1::d01").size(), 1U);
  ASSERT_EQ(compute().health_checks.size(), 1U);
  EXPECT_EQ(compute().health_checks[0].local_ready, 1U) << "a pod of two families is one backend";
}

TEST_F(DualStackTest, AFamilyWithoutABackendIsSaid) {
  test.put(fakes::json_object(fmt::format(
      R"({{"apiVersion":"v1","kind":"Service","metadata":{{"name":"db"}},
          "spec":{{{},"ports":[{{"port":80}}]}}}})",
      kBoth)));
  test.put(R"({"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv6",
      "metadata":{"name":"db-1","labels":{"kubernetes.io/service-name":"db"}},
      "endpoints":[{"addresses":["2001:db8:9::1"]}],"ports":[{"name":"","port":80}]})");
  EXPECT_EQ(text(), "default/db:/TCP 10.96.0.9:80/ClusterIP\n"
                    "default/db:/TCP@v6 fd10:96::9:80/ClusterIP\n"
                    "  2001:db8:9::1:80 gen 0 ready - - -\n");
  EXPECT_THAT(findings(),
              testing::ElementsAre("NoReadyBackend: no ready IPv4 backend: connections to its IPv4 "
                                   "addresses are refused"));
}

TEST_F(DualStackTest, HostPortsAreOnAddressesOfBothFamilies) {
  test.change(view::kPods, "default", "p1", [](boost::json::object& body) {
    body["spec"].as_object()["containers"] = boost::json::parse(
        R"([{"name":"main","image":"x","ports":[{"containerPort":80,"hostPort":8080}]}])");
  });
  EXPECT_EQ(brief(), "default/pod.p1:8080/TCP: 198.18.0.11:8080 -> p1\n"
                     "default/pod.p1:8080/TCP@v6: 2001:db8:1::11:8080 -> p1\n");
  put_pod("single", "blue", "h1");
  test.change(view::kPods, "default", "single", [](boost::json::object& body) {
    body["spec"].as_object()["containers"] = boost::json::parse(
        R"([{"name":"main","image":"x",
             "ports":[{"containerPort":80,"hostPort":81,"hostIP":"2001:db8:1::11"}]}])");
  });
  EXPECT_THAT(findings(), testing::ElementsAre(
                              "FamilyNotAvailable: hostPort [2001:db8:1::11]:81 is not served: the "
                              "pod has no IPv6 address"));
}

TEST_F(DualStackTest, HostsAreKnownByTheirIpv6AddressToo) {
  const auto nodes = compute().desired.nodes;
  ASSERT_EQ(nodes.size(), 3U);
  EXPECT_EQ(nodes[1].lan_v6, ip("2001:db8:1::12"));
  EXPECT_EQ(nodes[1].pod_cidrs.size(), 2U);
}

}  // namespace
}  // namespace shoal::desired
