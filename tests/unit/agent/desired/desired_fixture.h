// SPDX-License-Identifier: Apache-2.0
// Three hosts, a Service "web" over pods of app=web, and what becomes of it, as text.
#pragma once

#include "agent/desired/desired.h"
#include "tests/fakes/objects.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <string>
#include <vector>

namespace shoal::desired {

inline IpAddress ip(std::string_view text) { return *IpAddress::parse(text); }

inline std::string_view state_name(model::BackendState state) {
  switch (state) {
  case model::BackendState::kReady:
    return "ready";
  case model::BackendState::kServing:
    return "serving";
  case model::BackendState::kTerminating:
    return "terminating";
  }
  return "?";
}

inline std::string head(const model::ServicePort& port) {
  std::string out = port.id();
  if (port.clients != model::Clients::kAll)
    out += fmt::format(" for {}", model::to_string(port.clients));
  if (port.affinity_s)
    out += fmt::format(" affinity {}", port.affinity_s);
  for (const IpPrefix& range : port.source_ranges)
    out += " from " + range.to_string();
  return out;
}

class DesiredTest : public ::testing::Test {
protected:
  DesiredTest() {
    for (int i = 1; i <= 3; ++i) {
      const std::string name = fmt::format("h{}", i);
      test.put(fakes::node(name, fmt::format("10.244.{}.0/24", i), fmt::format("198.18.0.1{}", i)));
      members.set(name, {true, {}});
    }
  }
  void put_service(std::string_view weights = {}, std::string_view extra = {}) {
    test.put(fakes::json_object(fmt::format(
        R"({{"apiVersion":"v1","kind":"Service","metadata":{{"name":"web","annotations":{{{}}}}},
            "spec":{{"type":"LoadBalancer","clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9"],
                     "selector":{{"app":"web"}},"ports":[{{"name":"http","port":80,"targetPort":"http"}}]}},
            "status":{{"loadBalancer":{{"ingress":[{{"ip":"198.18.0.200"}}]}}}}{}}})",
        weights.empty() ? std::string() : fmt::format(R"("shoal.dev/weights":"{}")", weights),
        extra)));
  }
  // Of its own spec; the selector is app=web and the port 80 -> "http", unless said otherwise.
  store::ObjectPtr put_spec(std::string_view name, std::string_view spec,
                            std::string_view status = "{}") {
    boost::json::object body = fakes::json_object(fmt::format(
        R"({{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{}"}},
            "spec":{{"selector":{{"app":"web"}},"ports":[{{"port":80,"targetPort":"http"}}]}},
            "status":{}}})",
        name, status));
    const boost::json::object given = fakes::json_object(spec);
    for (const auto& [key, value] : given)
      body["spec"].as_object()[key] = value;
    return test.put(std::move(body));
  }
  void put_pod(std::string name, std::string version, std::string node, bool ready = true,
               bool terminating = false) {
    test.put(fakes::pod({.name = name,
                         .labels = fmt::format(R"({{"app":"web","version":"{}"}})", version),
                         .node = node,
                         .ip = fmt::format("10.244.{}.{}", node.back(), ++last_ip_),
                         .ready = ready,
                         .terminating = terminating,
                         .generation = 3}));
  }
  void edit_node(std::string_view name, const std::function<void(boost::json::object&)>& edit) {
    test.change(view::kNodes, "", name, edit);
  }
  void set_zone(std::string_view node, std::string_view zone) {
    edit_node(node, [&](boost::json::object& body) {
      body["metadata"].as_object()["labels"].as_object()["topology.kubernetes.io/zone"] = zone;
    });
  }
  // What host h1 (or another) is told.
  Computed compute(std::string self = "h1") {
    Inputs with = inputs;
    with.self = std::move(self);
    return compute_desired(test.view, members, with);
  }
  std::string text(std::string self = "h1") {
    std::string out;
    for (const auto& port : compute(std::move(self)).desired.services) {
      out += head(port);
      for (const auto& frontend : port.frontends)
        out += fmt::format(" {}:{}/{}", frontend.ip.to_string(), frontend.port,
                           model::to_string(frontend.kind));
      out += "\n";
      for (const auto& group : port.groups)
        out += fmt::format("  group {} {}\n", group.name, group.weight);
      for (const auto& b : port.backends)
        out += fmt::format("  {}:{} gen {} {} {} {} {}\n", b.ip.to_string(), b.port, b.generation,
                           state_name(b.state), b.group.empty() ? "-" : b.group,
                           b.host.empty() ? "-" : b.host, b.pod.empty() ? "-" : b.pod);
    }
    return out;
  }
  // One line a ServicePort: its frontends, and which pods are in which state.
  std::string brief(std::string self = "h1") {
    std::string out;
    for (const auto& port : compute(std::move(self)).desired.services) {
      out += head(port) + ":";
      for (const auto& frontend : port.frontends)
        out += fmt::format(" {}:{}", frontend.ip.to_string(), frontend.port);
      out += " ->";
      for (const auto& b : port.backends)
        out += fmt::format(
            " {}{}", b.pod.substr(b.pod.find('/') + 1),
            b.state == model::BackendState::kReady ? "" : fmt::format("({})", state_name(b.state)));
      out += "\n";
    }
    return out;
  }
  std::vector<std::string> findings(std::string self = "h1") {
    std::vector<std::string> out;
    for (const auto& finding : compute(std::move(self)).findings)
      out.push_back(fmt::format("{}: {}", reason_of(finding.kind), finding.message));
    return out;
  }
  // Which hosts announce an address.
  std::vector<std::string> announcing(std::string_view vip = "198.18.0.200") {
    std::vector<std::string> out;
    for (const char* host : {"h1", "h2", "h3"}) {
      const auto vips = compute(host).desired.announced_vips;
      if (std::find(vips.begin(), vips.end(), ip(vip)) != vips.end())
        out.emplace_back(host);
    }
    return out;
  }

  fakes::TestView test;
  view::Members members;
  Inputs inputs{.self = {}, .cluster_cidrs = {*IpPrefix::parse("10.244.0.0/16")}};
  int last_ip_ = 1;
};

}  // namespace shoal::desired
