// SPDX-License-Identifier: Apache-2.0
// What a pod may ask of its containers, probes, hooks and names.
#include "agent/api/schema.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <gtest/gtest.h>

namespace shoal::api {
namespace {

namespace json = boost::json;

// "": admitted; else the causes, one a line.
std::string refused(std::string_view spec, std::string_view annotations = "{}") {
  json::object pod =
      json::parse(R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"}})").get_object();
  pod["metadata"].get_object()["annotations"] = json::parse(annotations);
  pod["spec"] = json::parse(spec);
  const auto admitted = admit(std::move(pod));
  if (admitted)
    return "";
  std::string text;
  for (const Cause& cause : admitted.error().causes)
    text += (text.empty() ? "" : "\n") + cause.field + ": " + cause.message;
  return text;
}

std::string of_container(std::string_view members, std::string_view init_members = "") {
  std::string spec = R"({"containers":[{"name":"m","image":"i")" + std::string(members) + "}]";
  if (!init_members.empty())
    spec += R"(,"initContainers":[{"name":"i","image":"i")" + std::string(init_members) + "}]";
  return refused(spec + "}");
}

TEST(SchemaPod, EphemeralStorage) {
  EXPECT_EQ(of_container(R"(,"resources":{"limits":{"ephemeral-storage":"2Gi"},
      "requests":{"ephemeral-storage":1000}},"env":[{"name":"X","valueFrom":{"resourceFieldRef":
      {"resource":"limits.ephemeral-storage"}}}])"),
            "");
  EXPECT_EQ(of_container(R"(,"resources":{"limits":{"ephemeral-storage":"1Gi"},
      "requests":{"ephemeral-storage":"2Gi"}})"),
            "spec.containers[0].resources.requests: Invalid value: \"2Gi\": must be less than or "
            "equal to ephemeral-storage limit of 1Gi");
}

TEST(SchemaPod, InitContainersAndSidecars) {
  EXPECT_EQ(of_container("", R"(,"command":["x"])"), "");
  EXPECT_EQ(of_container("", R"(,"restartPolicy":"Always","startupProbe":{"tcpSocket":{"port":1}},
      "lifecycle":{"preStop":{"sleep":{"seconds":1}}})"),
            "");
  EXPECT_EQ(of_container("", R"(,"livenessProbe":{"tcpSocket":{"port":1}})"),
            "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers "
            "without restartPolicy=Always");
  EXPECT_EQ(of_container(R"(,"restartPolicy":"Always")"),
            "spec.containers[0].restartPolicy: Forbidden: may not be set for non-init containers");
  EXPECT_NE(of_container("", R"(,"restartPolicy":"Never")"), "");
  EXPECT_EQ(refused(R"({"containers":[{"name":"a","image":"i"}],
      "initContainers":[{"name":"a","image":"i"}]})"),
            "spec.containers[0].name: Duplicate value: \"a\"");
}

TEST(SchemaPod, GrpcProbes) {
  EXPECT_EQ(of_container(R"(,"livenessProbe":{"grpc":{"port":5000}},
      "readinessProbe":{"grpc":{"port":5000,"service":"shop.Cart"}})"),
            "");
  EXPECT_EQ(of_container(R"(,"livenessProbe":{"grpc":{"port":70000}})"),
            "spec.containers[0].livenessProbe.grpc.port: Invalid value: 70000: must be between 1 "
            "and 65535, inclusive");
  EXPECT_NE(of_container(R"(,"livenessProbe":{"grpc":{"port":"named"}})"), "");
  EXPECT_EQ(of_container(R"(,"livenessProbe":{"grpc":{"service":"x"}})"),
            "spec.containers[0].livenessProbe.grpc.port: Required value");
  EXPECT_EQ(of_container(R"(,"livenessProbe":{"grpc":{"port":1},"tcpSocket":{"port":1}})"),
            "spec.containers[0].livenessProbe.grpc: Forbidden: may not specify more than 1 handler "
            "type");
}

TEST(SchemaPod, StreamsOfAContainer) {
  EXPECT_EQ(of_container(R"(,"stdin":true,"stdinOnce":true,"tty":true)"), "");
  EXPECT_NE(of_container(R"(,"stdin":"yes")"), "");
}

TEST(SchemaPod, NamespacesOfAPod) {
  const std::string containers = R"("containers":[{"name":"a","image":"x"}]})";
  EXPECT_EQ(refused(R"({"shareProcessNamespace":true,)" + containers), "");
  EXPECT_EQ(refused(R"({"shareProcessNamespace":false,)" + containers), "");
  EXPECT_NE(refused(R"({"shareProcessNamespace":"true",)" + containers), "");
  EXPECT_EQ(
      refused(R"({"hostPID":true,"hostIPC":true,"shareProcessNamespace":false,)" + containers), "");
  EXPECT_EQ(refused(R"({"hostPID":true,"shareProcessNamespace":true,)" + containers),
            "spec.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID "
            "cannot both be enabled");
  const std::string ports = R"(,"ports":[{"containerPort":80},{"containerPort":81)";
  const auto in_host = [&](const std::string& more) {
    return refused(R"({"hostNetwork":true,"containers":[{"name":"a","image":"x")" + ports + more +
                   "}]}]}");
  };
  EXPECT_EQ(in_host(""), "");
  EXPECT_EQ(in_host(R"(,"hostPort":81)"), "");
  EXPECT_EQ(in_host(R"(,"hostPort":8081)"),
            "spec.containers[0].ports[1].containerPort: Invalid value: 81: must match `hostPort` "
            "when `hostNetwork` is true");
  EXPECT_EQ(of_container(ports + R"(,"hostPort":8081}])"), "");
}

TEST(SchemaPod, PortsInTheHostsNetworkAreTheHosts) {
  const auto host_ports = [](std::string_view spec) {
    json::object pod =
        json::parse(R"({"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"}})").get_object();
    pod["spec"] = json::parse(spec);
    fill_defaults(*find_kind("v1", "Pod"), pod);
    std::string found;
    for (const char* list : {"containers", "initContainers"})
      for (const json::value& port : pod["spec"].at(list).at(0).at("ports").as_array())
        found +=
            (port.as_object().contains("hostPort") ? json::serialize(port.at("hostPort")) : "-") +
            " ";
    return found;
  };
  const std::string rest = R"("containers":[{"name":"a","image":"x","ports":[{"containerPort":80},
      {"containerPort":81,"hostPort":0}]}],
      "initContainers":[{"name":"b","image":"x","ports":[{"containerPort":82}]}]})";
  EXPECT_EQ(host_ports(R"({"hostNetwork":true,)" + rest), "80 81 82 ");
  EXPECT_EQ(host_ports(R"({"hostNetwork":false,)" + rest), "- - - ");
}

TEST(SchemaPod, ProbesAndHooks) {
  EXPECT_EQ(of_container(R"(,"livenessProbe":{"exec":{"command":["x"]},
      "terminationGracePeriodSeconds":3},"readinessProbe":{"httpGet":{"port":1,"scheme":"HTTPS",
      "host":"h"},"successThreshold":2})"),
            "");
  EXPECT_EQ(of_container(R"(,"livenessProbe":{"tcpSocket":{"port":1},"successThreshold":2})"),
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1");
  EXPECT_EQ(of_container(
                R"(,"readinessProbe":{"tcpSocket":{"port":1},"terminationGracePeriodSeconds":2})"),
            "spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 2: "
            "must not be set for readinessProbes");
  EXPECT_EQ(of_container(R"(,"startupProbe":{"exec":{}})"),
            "spec.containers[0].startupProbe.exec.command: Required value");
  EXPECT_EQ(of_container(R"(,"lifecycle":{"postStart":{"tcpSocket":{"port":1}}})"),
            "spec.containers[0].lifecycle.postStart.tcpSocket: Unsupported value: Shoal does not "
            "act on \"tcpSocket\" yet");
  EXPECT_EQ(of_container(R"(,"lifecycle":{"postStart":{}})"),
            "spec.containers[0].lifecycle.postStart: Required value: must specify a handler type: "
            "exec, httpGet or sleep");
}

TEST(SchemaPod, NamesAndDeadlines) {
  const std::string containers = R"("containers":[{"name":"a","image":"i"}])";
  EXPECT_EQ(refused(R"({"hostAliases":[{"ip":"1.2.3.4","hostnames":["a.b"]}],"subdomain":"s",
      "activeDeadlineSeconds":5,"dnsPolicy":"None","dnsConfig":{"nameservers":["::1"]},)" +
                    containers + "}"),
            "");
  EXPECT_EQ(refused(R"({"dnsPolicy":"None",)" + containers + "}"),
            "spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver "
            "when `dnsPolicy` is None");
  EXPECT_NE(refused(R"({"hostAliases":[{"ip":"x"}],)" + containers + "}"), "");
  EXPECT_NE(refused(R"({"dnsConfig":{"nameservers":["1.1.1.1","1.1.1.2","1.1.1.3","1.1.1.4"]},)" +
                    containers + "}"),
            "");
  EXPECT_NE(refused(R"({"activeDeadlineSeconds":-1,)" + containers + "}"), "");
  EXPECT_EQ(refused("{" + containers + "}", R"({"shoal.dev/restart-backoff-base":"1s"})"), "");
  EXPECT_NE(refused("{" + containers + "}", R"({"shoal.dev/restart-backoff-base":"soon"})"), "");
}

}  // namespace
}  // namespace shoal::api
