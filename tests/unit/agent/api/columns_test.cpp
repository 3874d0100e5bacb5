// SPDX-License-Identifier: Apache-2.0
// What `kubectl get` prints, as one line an object.
#include "agent/api/schema.h"
#include "agent/api/selector.h"
#include "agent/api/time_text.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <gtest/gtest.h>

namespace shoal::api {
namespace {

namespace json = boost::json;

std::string row(std::string_view resource, std::string_view body, bool wide = false) {
  store::Object object;
  object.resource = resource;
  object.body = json::parse(body).get_object();
  object.name = find_string(object.body, "metadata.name");
  object.body["metadata"].get_object()["creationTimestamp"] = "2026-01-01T00:00:00Z";
  std::string line;
  for (const Column& column : find_kind_by_resource(resource)->columns) {
    if (column.priority > 0 && !wide)
      continue;
    const json::value cell = column.cell(object, *parse_time("2026-01-01T00:00:45Z"));
    line += (line.empty() ? "" : " | ") +
            (cell.is_string() ? std::string(cell.get_string()) : json::serialize(cell));
  }
  return line;
}

TEST(ColumnsTest, Pods) {
  EXPECT_EQ(row("pods", R"({"metadata":{"name":"web"},"spec":{"containers":[{},{}]}})"),
            "web | 0/2 | Pending | 0 | 45s");
  EXPECT_EQ(row("pods", R"({"metadata":{"name":"web"},"spec":{"containers":[{}],"nodeName":"h1"},
      "status":{"phase":"Running","podIP":"10.244.1.2","containerStatuses":[{"ready":true,
      "restartCount":2,"state":{"running":{}},
      "lastState":{"terminated":{"finishedAt":"2026-01-01T00:00:15Z"}}}]}})",
                true),
            "web | 1/1 | Running | 2 (30s ago) | 45s | 10.244.1.2 | h1 | <none> | <none>");
  EXPECT_EQ(row("pods", R"({"metadata":{"name":"web"},"spec":{"containers":[{}]},
      "status":{"phase":"Running","containerStatuses":[{"ready":false,"restartCount":5,
      "state":{"waiting":{"reason":"CrashLoopBackOff"}}}]}})"),
            "web | 0/1 | CrashLoopBackOff | 5 | 45s");
  EXPECT_EQ(row("pods", R"({"metadata":{"name":"web","deletionTimestamp":"2026-01-01T00:00:40Z"},
      "spec":{"containers":[{}]},"status":{"phase":"Running"}})"),
            "web | 0/1 | Terminating | 0 | 45s");
  EXPECT_EQ(row("pods", R"({"metadata":{"name":"job"},"spec":{"containers":[{}]},
      "status":{"phase":"Failed","containerStatuses":[{"state":{"terminated":{"exitCode":3}}}]}})"),
            "job | 0/1 | ExitCode:3 | 0 | 45s");
}

TEST(ColumnsTest, Configuration) {
  EXPECT_EQ(row("configmaps", R"({"metadata":{"name":"c"},"data":{"a":"","b":""},
      "binaryData":{"c":""}})"),
            "c | 3 | 45s");
  EXPECT_EQ(row("secrets", R"({"metadata":{"name":"s"},"type":"Opaque","data":{"a":""}})"),
            "s | Opaque | 1 | 45s");
  EXPECT_EQ(row("secrets", R"({"metadata":{"name":"s"},"type":"Opaque"})"), "s | Opaque | 0 | 45s");
}

// A pod with init containers "a" and, a sidecar, "s", and with "m".
std::string init_row(std::string_view status) {
  const std::string line =
      row("pods", R"({"metadata":{"name":"p"},"spec":{"containers":[{"name":"m"}],
      "initContainers":[{"name":"a"},{"name":"s","restartPolicy":"Always"}]},"status":)" +
                      std::string(status) + "}");
  return line.substr(4, line.size() - 10);
}

TEST(ColumnsTest, PodsThatInitialize) {
  constexpr std::string_view waits = R"("state":{"waiting":{"reason":"PodInitializing"}}})";
  const std::string rest = R"({"name":"s",)" + std::string(waits) +
                           R"(],"containerStatuses":[{"name":"m",)" + std::string(waits) + "]}";
  EXPECT_EQ(init_row(R"({"phase":"Pending","initContainerStatuses":[{"name":"a",
      "state":{"running":{}}},)" +
                     rest),
            "0/2 | Init:0/2 | 0");
  EXPECT_EQ(init_row(R"({"phase":"Pending","initContainerStatuses":[{"name":"a",
      "state":{"terminated":{"exitCode":0,"reason":"Completed"}}},)" +
                     rest),
            "0/2 | Init:1/2 | 0");
  EXPECT_EQ(init_row(R"({"phase":"Pending","initContainerStatuses":[{"name":"a",
      "state":{"terminated":{"exitCode":1,"reason":"Error"}}},)" +
                     rest),
            "0/2 | Init:Error | 0");
  EXPECT_EQ(init_row(R"({"phase":"Pending","initContainerStatuses":[{"name":"a","restartCount":3,
      "state":{"waiting":{"reason":"CrashLoopBackOff"}}},)" +
                     rest),
            "0/2 | Init:CrashLoopBackOff | 3");
  // Restarts of what is over are not shown; the sidecar's are.
  EXPECT_EQ(init_row(R"({"phase":"Pending","initContainerStatuses":[{"name":"a","restartCount":3,
      "state":{"terminated":{"exitCode":0}}},{"name":"s","started":true,"ready":true,"restartCount":1,
      "state":{"running":{}}}],"containerStatuses":[{"name":"m",)" +
                     std::string(waits) + "]}"),
            "1/2 | PodInitializing | 1");
  EXPECT_EQ(init_row(R"({"phase":"Running","initContainerStatuses":[{"name":"a",
      "state":{"terminated":{"exitCode":0}}},{"name":"s","started":true,"ready":true,
      "state":{"running":{}}}],"containerStatuses":[{"name":"m","ready":true,"state":{"running":{}}}]})"),
            "2/2 | Running | 0");
}

TEST(ColumnsTest, TheFirstContainersReasonIsShown) {
  EXPECT_EQ(row("pods", R"({"metadata":{"name":"web"},"spec":{"containers":[{},{}]},
      "status":{"phase":"Running","containerStatuses":[
      {"state":{"terminated":{"reason":"Error","exitCode":1}}},
      {"state":{"waiting":{"reason":"CrashLoopBackOff"}}}]}})"),
            "web | 0/2 | Error | 0 | 45s");
}

TEST(ColumnsTest, Workloads) {
  constexpr std::string_view body = R"({"metadata":{"name":"web"},"spec":{"replicas":3,
      "selector":{"matchLabels":{"app":"web"},"matchExpressions":[{"key":"v","operator":"In","values":["a","b"]}]},
      "template":{"spec":{"containers":[{"name":"c","image":"web:1"}]}}},
      "status":{"replicas":3,"readyReplicas":2,"updatedReplicas":1,"availableReplicas":2}})";
  EXPECT_EQ(row("deployments.apps", body, true),
            "web | 2/3 | 1 | 2 | 45s | c | web:1 | app=web,v in (a,b)");
  EXPECT_EQ(row("replicasets.apps", body), "web | 3 | 3 | 2 | 45s");
}

TEST(ColumnsTest, ServicesAndSlices) {
  EXPECT_EQ(row("services", R"({"metadata":{"name":"web"},"spec":{"type":"LoadBalancer",
      "clusterIP":"10.96.0.9","selector":{"app":"web"},
      "ports":[{"port":80,"protocol":"TCP"},{"port":53,"protocol":"UDP"}]},
      "status":{"loadBalancer":{"ingress":[{"ip":"198.18.0.200"}]}}})",
                true),
            "web | LoadBalancer | 10.96.0.9 | 198.18.0.200 | 80/TCP,53/UDP | 45s | app=web");
  EXPECT_EQ(row("services", R"({"metadata":{"name":"web"},"spec":{"type":"NodePort",
      "clusterIP":"10.96.0.9","ports":[{"port":80,"nodePort":30080,"protocol":"TCP"},
      {"port":81,"protocol":"UDP"}]}})"),
            "web | NodePort | 10.96.0.9 | <none> | 80:30080/TCP,81/UDP | 45s");
  EXPECT_EQ(row("services", R"({"metadata":{"name":"web"},"spec":{"type":"LoadBalancer",
      "clusterIP":"10.96.0.9","ports":[{"port":80,"protocol":"TCP"}]}})",
                true),
            "web | LoadBalancer | 10.96.0.9 | <pending> | 80/TCP | 45s | <none>");
  EXPECT_EQ(row("services", R"({"metadata":{"name":"web"},"spec":{"type":"LoadBalancer",
      "clusterIP":"10.96.0.9","externalIPs":["203.0.113.7","203.0.113.8"]},
      "status":{"loadBalancer":{"ingress":[{"ip":"198.18.0.200"},{"hostname":"lb.example"}]}}})"),
            "web | LoadBalancer | 10.96.0.9 | 198.18.0.200,lb.example,203.0.113.7,203.0.113.8 | "
            "<none> | 45s");
  EXPECT_EQ(row("services", R"({"metadata":{"name":"web"},"spec":{"type":"ClusterIP",
      "clusterIP":"None","externalIPs":["203.0.113.7"],"ports":[{"port":80,"protocol":"TCP"}]}})"),
            "web | ClusterIP | None | 203.0.113.7 | 80/TCP | 45s");
  EXPECT_EQ(row("services", R"({"metadata":{"name":"db"},"spec":{"type":"ExternalName",
      "externalName":"db.example.org"}})"),
            "db | ExternalName | <none> | db.example.org | <none> | 45s");
  EXPECT_EQ(row("endpoints", R"({"metadata":{"name":"web"},"subsets":[
      {"addresses":[{"ip":"10.0.0.1"},{"ip":"10.0.0.2"}],"ports":[{"port":80},{"port":81}]},
      {"notReadyAddresses":[{"ip":"10.0.0.3"}]}]})"),
            "web | 10.0.0.1:80,10.0.0.2:80,10.0.0.1:81 + 1 more... | 45s");
  EXPECT_EQ(row("endpoints", R"({"metadata":{"name":"web"},"subsets":[
      {"addresses":[{"ip":"10.0.0.1"}]}]})"),
            "web | 10.0.0.1 | 45s");
  EXPECT_EQ(row("endpoints", R"({"metadata":{"name":"web"}})"), "web | <none> | 45s");
  EXPECT_EQ(row("endpointslices.discovery.k8s.io", R"({"metadata":{"name":"web-x"},
      "addressType":"IPv4","ports":[{"port":80}],"endpoints":[{"addresses":["10.0.0.1"]},
      {"addresses":["10.0.0.2"]},{"addresses":["10.0.0.3"]},{"addresses":["10.0.0.4"]}]})"),
            "web-x | IPv4 | 80 | 10.0.0.1,10.0.0.2,10.0.0.3 + 1 more... | 45s");
}

TEST(ColumnsTest, NodesNamespacesEvents) {
  EXPECT_EQ(row("nodes", R"({"metadata":{"name":"h1"},"spec":{"unschedulable":true},
      "status":{"conditions":[{"type":"Ready","status":"True"}],"nodeInfo":{"kubeletVersion":"0.1.0"}}})"),
            "h1 | Ready,SchedulingDisabled | <none> | 45s | 0.1.0");
  EXPECT_EQ(row("namespaces", R"({"metadata":{"name":"default"}})"), "default | Active | 45s");
  EXPECT_EQ(row("events", R"({"metadata":{"name":"e"},"type":"Normal","reason":"Scaled",
      "message":"up to 3","involvedObject":{"kind":"Deployment","name":"web"},
      "lastTimestamp":"2026-01-01T00:00:40Z"})"),
            "5s | Normal | Scaled | deployment/web | up to 3");
}

}  // namespace
}  // namespace shoal::api
