// SPDX-License-Identifier: Apache-2.0
// Every kind of Service: which addresses lead to it, on which host.
#include "tests/unit/agent/desired/desired_fixture.h"

#include <gmock/gmock.h>

namespace shoal::desired {
namespace {

class ServiceKindsTest : public DesiredTest {
protected:
  ServiceKindsTest() {
    put_pod("a", "blue", "h1");
    put_pod("b", "blue", "h2");
    inputs.node_addresses = {ip("198.18.0.11"), ip("198.18.7.1")};
  }
};

TEST_F(ServiceKindsTest, NodePortsAreOnThisHostsOwnAddresses) {
  put_spec("web", R"({"type":"NodePort","clusterIP":"10.96.0.9","ports":[
      {"name":"t","port":53,"targetPort":8080,"nodePort":30053},
      {"name":"u","port":53,"protocol":"UDP","targetPort":8080,"nodePort":30053}]})");
  EXPECT_EQ(text(), R"(default/web:t/TCP 10.96.0.9:53/ClusterIP 198.18.0.11:30053/NodePort )"
                    R"(198.18.7.1:30053/NodePort
  10.244.1.2:8080 gen 3 ready - h1 default/a
  10.244.2.3:8080 gen 3 ready - h2 default/b
default/web:u/UDP 10.96.0.9:53/ClusterIP 198.18.0.11:30053/NodePort 198.18.7.1:30053/NodePort
  10.244.1.2:8080 gen 3 ready - h1 default/a
  10.244.2.3:8080 gen 3 ready - h2 default/b
)");
  inputs.node_addresses = {ip("198.18.0.12")};
  EXPECT_THAT(brief("h2"), testing::HasSubstr(": 10.96.0.9:53 198.18.0.12:30053 -> a b\n"));
}

TEST_F(ServiceKindsTest, LoadBalancersHaveNodePortsToo) {
  put_spec("web",
           R"({"type":"LoadBalancer","clusterIP":"10.96.0.9",
               "loadBalancerSourceRanges":["10.0.0.0/8"],
               "ports":[{"port":80,"targetPort":"http","nodePort":30080}]})",
           R"({"loadBalancer":{"ingress":[{"ip":"198.18.0.200","ipMode":"VIP"}]}})");
  EXPECT_EQ(brief(), "default/web:/TCP from 10.0.0.0/8: 10.96.0.9:80 198.18.0.200:80 "
                     "198.18.0.11:30080 198.18.7.1:30080 -> a b\n");
  EXPECT_EQ(announcing().size(), 1U);
}

TEST_F(ServiceKindsTest, AddressesOfAnotherClassAreServedAndNotAnnounced) {
  constexpr std::string_view kSpec =
      R"({"type":"LoadBalancer","loadBalancerClass":"other.dev/lb","clusterIP":"10.96.0.9"})";
  put_spec("web", kSpec);
  EXPECT_EQ(brief(), "default/web:/TCP: 10.96.0.9:80 -> a b\n");
  put_spec("web", kSpec, R"({"loadBalancer":{"ingress":[{"ip":"203.0.113.1"},
      {"ip":"203.0.113.2","ipMode":"Proxy"},{"hostname":"lb.example.org"}]}})");
  EXPECT_EQ(brief(), "default/web:/TCP: 10.96.0.9:80 203.0.113.1:80 -> a b\n");
  EXPECT_TRUE(announcing("203.0.113.1").empty());
  EXPECT_TRUE(findings().empty());
}

TEST_F(ServiceKindsTest, ExternalIpsLeadToTheService) {
  put_spec("web", R"({"clusterIP":"10.96.0.9","externalIPs":["203.0.113.7","198.18.0.12"]})");
  const auto port = compute().desired.services.at(0);
  ASSERT_EQ(port.frontends.size(), 3U);
  EXPECT_EQ(port.frontends[1].kind, model::FrontendKind::kExternalIp);
  EXPECT_EQ(port.frontends[2].kind, model::FrontendKind::kNodePort)
      << "a host's address is not this service's alone";
  EXPECT_TRUE(compute().desired.announced_vips.empty());
}

TEST_F(ServiceKindsTest, HeadlessAndExternalNameAreNotBalanced) {
  put_spec("headless", R"({"clusterIP":"None","clusterIPs":["None"]})");
  put_spec("name", R"({"type":"ExternalName","externalName":"db.example.org"})");
  put_spec("gone",
           R"({"type":"ExternalName","externalName":"db.example.org","clusterIP":"10.96.0.9",
                       "externalIPs":["203.0.113.7"]})");
  EXPECT_EQ(brief(), "");
  EXPECT_TRUE(findings().empty());
}

TEST_F(ServiceKindsTest, AffinityHasItsTimeout) {
  put_spec("web", R"({"clusterIP":"10.96.0.9","sessionAffinity":"ClientIP",
      "sessionAffinityConfig":{"clientIP":{"timeoutSeconds":60}}})");
  EXPECT_EQ(compute().desired.services.at(0).affinity_s, 60U);
  put_spec("web", R"({"clusterIP":"10.96.0.9","sessionAffinity":"ClientIP"})");
  EXPECT_EQ(compute().desired.services.at(0).affinity_s, 10'800U);
  put_spec("web", R"({"clusterIP":"10.96.0.9","sessionAffinity":"None",
      "sessionAffinityConfig":{"clientIP":{"timeoutSeconds":60}}})");
  EXPECT_EQ(compute().desired.services.at(0).affinity_s, 0U);
}

TEST_F(ServiceKindsTest, SourceRangesMayComeFromTheAnnotation) {
  put_service();
  test.change(view::kServices, "default", "web", [](boost::json::object& body) {
    body["metadata"].as_object()["annotations"] = boost::json::object{
        {"service.beta.kubernetes.io/load-balancer-source-ranges", "10.0.0.0/8,192.0.2.0/24"}};
  });
  EXPECT_EQ(head(compute().desired.services.at(0)),
            "default/web:http/TCP from 10.0.0.0/8 from 192.0.2.0/24");
}

TEST_F(ServiceKindsTest, UnreadyPodsCanBePublished) {
  put_pod("unready", "blue", "h2", false);
  put_pod("going", "blue", "h3", false, true);
  put_spec("web", R"({"clusterIP":"10.96.0.9"})");
  EXPECT_EQ(brief(),
            "default/web:/TCP: 10.96.0.9:80 -> a b unready(terminating) going(terminating)\n");
  put_spec("web", R"({"clusterIP":"10.96.0.9","publishNotReadyAddresses":true})");
  EXPECT_EQ(brief(), "default/web:/TCP: 10.96.0.9:80 -> a b unready going\n");
  members.set("h3", {false, {}});
  EXPECT_EQ(brief(), "default/web:/TCP: 10.96.0.9:80 -> a b unready going(terminating)\n")
      << "a dead host's pods answer nobody";
}

TEST_F(ServiceKindsTest, StoppingPodsThatStillAnswerAreServing) {
  test.remove(view::kPods, "default", "a");
  test.remove(view::kPods, "default", "b");
  put_pod("going", "blue", "h1", true, true);
  put_pod("gone", "blue", "h2", false, true);
  put_spec("web", R"({"clusterIP":"10.96.0.9"})");
  EXPECT_EQ(brief(), "default/web:/TCP: 10.96.0.9:80 -> going(serving) gone(terminating)\n");
  EXPECT_TRUE(findings().empty()) << "somebody answers";
  members.set("h1", {false, {}});
  EXPECT_EQ(brief(), "default/web:/TCP: 10.96.0.9:80 -> going(terminating) gone(terminating)\n");
  EXPECT_EQ(findings(),
            std::vector<std::string>{"NoReadyBackend: no ready backend: connections are refused"});
}

// ---- what is shoald's own, and who has what first

TEST_F(ServiceKindsTest, PortsOfTheAgentAreNobodyElses) {
  inputs.agent_ports = {{L4Proto::kTcp, 6443}};
  put_spec("web", R"({"clusterIP":"10.96.0.9","externalIPs":["198.18.0.11","203.0.113.7"],
      "ports":[{"name":"a","port":6443,"targetPort":"http"},
               {"name":"b","port":6443,"targetPort":"http","protocol":"UDP"}]})");
  EXPECT_EQ(brief(), "default/web:a/TCP: 10.96.0.9:6443 203.0.113.7:6443 -> a b\n"
                     "default/web:b/UDP: 10.96.0.9:6443 198.18.0.11:6443 203.0.113.7:6443 ->\n");
  EXPECT_EQ(findings(), std::vector<std::string>{"PortReserved: 198.18.0.11:6443/TCP on host h1 is "
                                                 "shoald's own and stays so"});
}

TEST_F(ServiceKindsTest, AnExternalIpCannotTakeWhatAnotherServiceHas) {
  put_spec("victim", R"({"clusterIP":"10.96.0.9"})");
  put_spec("aaa", R"({"clusterIP":"10.96.0.10","externalIPs":["10.96.0.9"],
      "externalTrafficPolicy":"Local"})");
  put_spec("older", R"({"clusterIP":"10.96.0.11","externalIPs":["203.0.113.7"]})");
  put_spec("newer", R"({"clusterIP":"10.96.0.12","externalIPs":["203.0.113.7"],
      "ports":[{"name":"a","port":80,"targetPort":"http"},
               {"name":"b","port":81,"targetPort":"http"}]})");
  EXPECT_EQ(brief(), "default/aaa:/TCP for inside: 10.96.0.10:80 -> a b\n"
                     "default/aaa:/TCP@outside for outside: -> a\n"
                     "default/newer:a/TCP: 10.96.0.12:80 -> a b\n"
                     "default/newer:b/TCP: 10.96.0.12:81 203.0.113.7:81 -> a b\n"
                     "default/older:/TCP: 10.96.0.11:80 203.0.113.7:80 -> a b\n"
                     "default/victim:/TCP: 10.96.0.9:80 -> a b\n");
  EXPECT_EQ(findings(),
            (std::vector<std::string>{
                "PortConflict: 10.96.0.9:80/TCP (ExternalIP) is Service default/victim's, and is "
                "not served for this one",
                "PortConflict: 203.0.113.7:80/TCP (ExternalIP) is Service default/older's, and is "
                "not served for this one"}));
  test.remove(view::kServices, "default", "older");
  EXPECT_THAT(brief(), testing::HasSubstr("newer:a/TCP: 10.96.0.12:80 203.0.113.7:80 -> a b\n"));
}

// ---- hostPorts

class HostPortTest : public ServiceKindsTest {
protected:
  void put_host_port(std::string_view name, std::string_view ports, std::string node = "h1") {
    boost::json::object body =
        fakes::pod({.name = std::string(name),
                    .node = node,
                    .ip = fmt::format("10.244.{}.{}", node.back(), ++last_ip_),
                    .ready = false,
                    .generation = 5});
    body["spec"].as_object()["containers"].as_array()[0].as_object()["ports"] =
        boost::json::parse(ports);
    test.put(std::move(body));
  }
};

TEST_F(HostPortTest, LeadToThePodReadyOrNot) {
  put_host_port("p", R"([{"containerPort":8080,"hostPort":80},
      {"containerPort":53,"hostPort":53,"protocol":"UDP","hostIP":"198.18.7.1"},
      {"containerPort":9090}])");
  put_host_port("elsewhere", R"([{"containerPort":8080,"hostPort":80}])", "h2");
  EXPECT_EQ(text(), R"(default/pod.p:80/TCP 198.18.0.11:80/HostPort 198.18.7.1:80/HostPort
  10.244.1.4:8080 gen 5 ready - h1 default/p
default/pod.p:198.18.7.1:53/UDP 198.18.7.1:53/HostPort
  10.244.1.4:53 gen 5 ready - h1 default/p
)");
  test.change(view::kPods, "default", "p",
              [](boost::json::object& body) { body["status"].as_object()["phase"] = "Failed"; });
  EXPECT_EQ(brief(), "");
}

// It is a process of its host, which has the port itself.
TEST_F(HostPortTest, InTheHostsNetworkAreNobodysFrontends) {
  put_spec("web", R"({"selector":{"app":"direct"},"clusterIP":"10.96.0.9",
      "ports":[{"port":80,"targetPort":"http"}]})");
  for (const auto& [name, node, ip] :
       {std::tuple{"d1", "h1", "198.18.0.11"}, std::tuple{"d2", "h2", "198.18.0.12"}}) {
    boost::json::object body = fakes::pod(
        {.name = name, .labels = R"({"app":"direct"})", .node = node, .ip = ip, .generation = 0});
    auto& spec = body["spec"].as_object();
    spec["hostNetwork"] = true;
    spec["containers"].as_array()[0].as_object()["ports"] =
        boost::json::parse(R"([{"name":"http","containerPort":8080,"hostPort":8080}])");
    test.put(std::move(body));
  }
  EXPECT_EQ(text(), R"(default/web:/TCP 10.96.0.9:80/ClusterIP
  198.18.0.11:8080 gen 0 ready - h1 default/d1
  198.18.0.12:8080 gen 0 ready - h2 default/d2
)");
  // Whoever of two at one address has the port: it is one backend.
  boost::json::object twin = test.view.get(view::kPods, "default", "d1")->body;
  twin["metadata"].as_object()["name"] = "d0";
  twin["metadata"].as_object()["uid"] = "uid-d0";
  test.put(std::move(twin));
  test.change(view::kPods, "default", "d1", [](boost::json::object& body) {
    body["status"].as_object()["conditions"] = boost::json::array();
  });
  EXPECT_THAT(text(), testing::HasSubstr("  198.18.0.11:8080 gen 0 ready - h1 default/d0\n"
                                         "  198.18.0.12:8080 gen 0 ready - h2 default/d2\n"));
  test.change(view::kPods, "default", "d0", [](boost::json::object& body) {
    body["status"].as_object()["conditions"] = boost::json::array();
  });
  EXPECT_THAT(text(), testing::HasSubstr("  198.18.0.11:8080 gen 0 terminating - h1 default/d0\n"));
}

TEST_F(HostPortTest, StandBehindServicesAndOlderPods) {
  put_spec("web", R"({"type":"NodePort","clusterIP":"10.96.0.9","ports":[
      {"port":80,"targetPort":"http","nodePort":30080}]})");
  inputs.agent_ports = {{L4Proto::kTcp, 6443}};
  put_host_port("old", R"([{"containerPort":8080,"hostPort":81}])");
  put_host_port("new", R"([{"containerPort":8080,"hostPort":81},
                           {"containerPort":8081,"hostPort":30080,"hostIP":"198.18.7.1"},
                           {"containerPort":8082,"hostPort":6443}])");
  EXPECT_EQ(brief(), "default/pod.new:81/TCP: -> new\n"
                     "default/pod.new:198.18.7.1:30080/TCP: -> new\n"
                     "default/pod.old:81/TCP: 198.18.0.11:81 198.18.7.1:81 -> old\n"
                     "default/web:/TCP: 10.96.0.9:80 198.18.0.11:30080 198.18.7.1:30080 -> a b\n");
  EXPECT_EQ(findings(),
            (std::vector<std::string>{
                "PortConflict: 198.18.0.11:81/TCP (HostPort) is Pod default/old's, and is not "
                "served for this one",
                "PortConflict: 198.18.7.1:30080/TCP (HostPort) is Service default/web's, and is "
                "not served for this one",
                "PortConflict: 198.18.7.1:81/TCP (HostPort) is Pod default/old's, and is not "
                "served for this one",
                "PortReserved: hostPort 6443/TCP is shoald's own on host h1 and stays so"}));
  for (const Finding& finding : compute().findings)
    EXPECT_TRUE(finding.local && finding.about.name == "new");
}

}  // namespace
}  // namespace shoal::desired
