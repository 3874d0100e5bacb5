// SPDX-License-Identifier: Apache-2.0
#include "agent/view/facts.h"
#include "tests/fakes/objects.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace shoal::view {
namespace {

using fakes::json_object;
using fakes::make_object;
using fakes::PodSpec;

TEST(ParseTime, ReadsWhatOthersWrite) {
  const auto text = [](std::string_view in) {
    const auto time = parse_time(in);
    return time ? rfc3339_nano(*time) : "nothing";
  };
  EXPECT_EQ(text("2026-01-01T00:00:00Z"), "2026-01-01T00:00:00.000000000Z");
  EXPECT_EQ(text("2026-02-28T23:59:59.25Z"), "2026-02-28T23:59:59.250000000Z");
  EXPECT_EQ(text("2026-01-01T02:00:00+02:00"), "2026-01-01T00:00:00.000000000Z");
  EXPECT_EQ(text("2026-01-01T00:00:00.5-00:30"), "2026-01-01T00:30:00.500000000Z");
  for (const char* bad :
       {"", "2026-01-01", "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-01T24:00:00Z",
        "2026-01-01T00:00:00", "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00Zx",
        "2026-01-01T00:00:00+0200", "9999-01-01T00:00:00Z"})
    EXPECT_EQ(text(bad), "nothing") << bad;
}

TEST(Owners, ControllerIsTheMarkedOne) {
  const auto object =
      make_object(R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","ownerReferences":[
      {"apiVersion":"v1","kind":"Node","name":"n","uid":"1"},
      {"apiVersion":"apps/v1","kind":"ReplicaSet","name":"r","uid":"2","controller":true}]}})");
  EXPECT_EQ(owners_of(*object).size(), 2u);
  EXPECT_EQ(controller_of(*object)->uid, "2");
  EXPECT_EQ(resource_of("apps/v1", "ReplicaSet"), "replicasets.apps");
  EXPECT_FALSE(resource_of("example.com/v1", "Widget"));
}

TEST(Pod, IsReadyOnlyOnALiveHost) {
  Members members;
  members.set("h1", {true, {}});
  const auto pod = make_object(fakes::pod({.name = "a", .node = "h1"}));
  EXPECT_TRUE(is_ready(*pod, members));
  members.set("h1", {false, {}});
  EXPECT_FALSE(is_ready(*pod, members));
  members.set("h1", {true, {}});
  EXPECT_FALSE(is_ready(*make_object(fakes::pod({.name = "a", .node = "h1", .terminating = true})),
                        members));
  EXPECT_FALSE(
      is_ready(*make_object(fakes::pod({.name = "a", .node = "h1", .ready = false})), members));
}

TEST(Pod, IsAvailableAfterMinReadySeconds) {
  Members members;
  members.set("h1", {true, {}});
  const auto pod = make_object(fakes::pod({.name = "a", .node = "h1"}));
  const WallTime since = *parse_time("2026-01-01T00:00:00Z");
  std::optional<Duration> left;
  EXPECT_TRUE(is_available(*pod, members, 0, since, &left));
  EXPECT_FALSE(is_available(*pod, members, 10, since + std::chrono::seconds(4), &left));
  EXPECT_EQ(left, Duration(std::chrono::seconds(6)));
  EXPECT_TRUE(is_available(*pod, members, 10, since + std::chrono::seconds(10), &left));
}

TEST(TargetPort, ByNumberNameAndDefault) {
  const auto pod = make_object(fakes::pod({.name = "a"}));
  const auto at = [&](std::string_view port) { return target_port(*pod, json_object(port)); };
  EXPECT_EQ(at(R"({"port":80})"), 80);
  EXPECT_EQ(at(R"({"port":80,"targetPort":81})"), 81);
  EXPECT_EQ(at(R"({"port":80,"targetPort":"http"})"), 8080);
  EXPECT_EQ(at(R"({"port":80,"targetPort":"82"})"), 82);
  EXPECT_EQ(at(R"({"port":80,"targetPort":"other"})"), std::nullopt);
  EXPECT_EQ(at(R"({"port":80,"targetPort":"http","protocol":"UDP"})"), std::nullopt);
  EXPECT_EQ(at(R"({"port":80,"targetPort":70000})"), std::nullopt);
}

TEST(Node, AddressesAndCidrs) {
  const auto node = make_object(fakes::node("h1", "10.244.7.0/24", "198.18.0.17"));
  EXPECT_EQ(node_underlay(*node)->to_string(), "198.18.0.17");
  ASSERT_EQ(node_pod_cidrs(*node).size(), 1u);
  EXPECT_EQ(node_pod_cidrs(*node)[0].to_string(), "10.244.7.0/24");
  EXPECT_TRUE(node_reports_ready(*node));
  EXPECT_TRUE(node_schedulable(*node));
}

// Builds from before say nothing here, and so do hosts with nftables.
TEST(Node, SaysWhetherItCanBeAsked) {
  const auto says = [](std::string_view version) {
    return node_answers(
        *make_object(fmt::format(R"({{"apiVersion":"v1","kind":"Node","metadata":{{"name":"h1"}},
                         "status":{{"nodeInfo":{{"kubeProxyVersion":"{}"}}}}}})",
                                 version)));
  };
  EXPECT_TRUE(says(kProxyAnswers));
  EXPECT_FALSE(says(""));
  EXPECT_FALSE(node_answers(*make_object(fakes::node("h1", "10.244.7.0/24", "198.18.0.17"))));
}

TEST(Node, AddressesOfTwoFamiliesAreToldApart) {
  const auto node = make_object(R"({"apiVersion":"v1","kind":"Node","metadata":{"name":"h1"},
      "spec":{"podCIDR":"10.244.7.0/24","podCIDRs":["10.244.7.0/24","fd10:244:0:7::/64"]},
      "status":{"addresses":[{"type":"InternalIP","address":"2001:db8:1::17"},
                             {"type":"InternalIP","address":"198.18.0.17"}]}})");
  EXPECT_EQ(node_underlay(*node)->to_string(), "198.18.0.17");
  EXPECT_EQ(node_lan_v6(*node)->to_string(), "2001:db8:1::17");
  ASSERT_EQ(node_pod_cidrs(*node).size(), 2u);
  EXPECT_EQ(node_pod_cidrs(*node)[1].to_string(), "fd10:244:0:7::/64");
  EXPECT_FALSE(node_lan_v6(*make_object(fakes::node("h1", "10.244.7.0/24", "198.18.0.17"))));
}

TEST(PodAddresses, AreOneOfEachFamilyWithTheirGenerations) {
  const auto generation = [](int value) {
    return pod_address(
               *make_object(fakes::pod({.name = "a", .ip = "10.244.1.5", .generation = value})),
               IpFamily::kV4)
        ->generation;
  };
  EXPECT_EQ(generation(7), 7);
  EXPECT_EQ(generation(70000), 0);  // out of range is none
  EXPECT_TRUE(pod_addresses(*make_object(fakes::pod({.name = "a"}))).empty());
  const auto pod = make_object(R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},
      "status":{"podIP":"10.244.1.5","shoalGeneration":3,"shoalGenerationV6":4,
                "podIPs":[{"ip":"10.244.1.5"},{"ip":"fd10:244:0:1::5"},{"ip":"fd10:244:0:1::6"}]}})");
  ASSERT_EQ(pod_addresses(*pod).size(), 2u);
  EXPECT_EQ(pod_address(*pod, IpFamily::kV4)->generation, 3);
  EXPECT_EQ(pod_address(*pod, IpFamily::kV6)->ip.to_string(), "fd10:244:0:1::5");
  EXPECT_EQ(pod_address(*pod, IpFamily::kV6)->generation, 4);
}

TEST(HostPorts, AreReadFromEveryContainerAndCollideByAddress) {
  const auto pod = make_object(R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},
      "spec":{"containers":[
        {"ports":[{"containerPort":80,"hostPort":8080},{"containerPort":81}]},
        {"ports":[{"containerPort":53,"hostPort":53,"protocol":"UDP","hostIP":"198.18.0.11"},
                  {"containerPort":54,"hostPort":54,"hostIP":"0.0.0.0"}]}]}})");
  const std::vector<HostPort> ports = host_ports(*pod);
  const IpAddress ip = *IpAddress::parse("198.18.0.11");
  EXPECT_EQ(ports, (std::vector<HostPort>{{std::nullopt, 8080, L4Proto::kTcp, 80},
                                          {ip, 53, L4Proto::kUdp, 53},
                                          {std::nullopt, 54, L4Proto::kTcp, 54}}));
  const HostPort any{std::nullopt, 53, L4Proto::kUdp, 1};
  EXPECT_TRUE(collide(ports[1], any));
  EXPECT_TRUE(collide(any, ports[1]));
  EXPECT_TRUE(collide(ports[1], ports[1]));
  EXPECT_FALSE(collide(ports[1], {*IpAddress::parse("198.18.0.12"), 53, L4Proto::kUdp, 53}));
  EXPECT_FALSE(collide(ports[1], {ip, 53, L4Proto::kTcp, 53}));
  EXPECT_FALSE(collide(ports[1], {ip, 54, L4Proto::kUdp, 53}));
}

}  // namespace
}  // namespace shoal::view
