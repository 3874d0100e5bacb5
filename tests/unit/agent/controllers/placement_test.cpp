// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/agent/controllers/world.h"

#include <map>

namespace shoal::controllers {
namespace {

std::map<std::string, int> by_node(const Plan& plan) {
  std::map<std::string, int> out;
  for (const Step& step : plan.steps)
    if (const auto* update = std::get_if<Update>(&step.op))
      ++out[std::string(api::find_string(update->body, "spec.nodeName"))];
  return out;
}

TEST(Placement, SpreadsAnOwnersPods) {
  TestWorld world;
  for (int i = 0; i < 6; ++i)
    world.put(fakes::pod({.name = fmt::format("a{}", i), .owner = "web"}));
  EXPECT_EQ(by_node(place_pods(world.world())),
            (std::map<std::string, int>{{"h1", 2}, {"h2", 2}, {"h3", 2}}));
}

TEST(Placement, TheOwnersSpreadComesBeforeTheNumberOfPods) {
  TestWorld world;
  // h1 is nearly empty, and has the owner's only pod.
  world.put(fakes::pod({.name = "mine", .node = "h1", .owner = "web"}));
  for (int i = 0; i < 5; ++i) {
    world.put(fakes::pod({.name = fmt::format("b{}", i), .node = "h2"}));
    world.put(fakes::pod({.name = fmt::format("c{}", i), .node = "h3"}));
  }
  world.put(fakes::pod({.name = "c5", .node = "h3"}));
  world.put(fakes::pod({.name = "new", .owner = "web"}));
  EXPECT_EQ(by_node(place_pods(world.world())), (std::map<std::string, int>{{"h2", 1}}));
  world.put(fakes::pod({.name = "new"}));  // a bare pod looks at the number alone
  EXPECT_EQ(by_node(place_pods(world.world())), (std::map<std::string, int>{{"h1", 1}}));
}

TEST(Placement, IsTheSameOnEveryHost) {
  TestWorld one, two;
  for (int i = 0; i < 20; ++i) {
    one.put(fakes::pod({.name = fmt::format("p{}", i)}));
    two.put(fakes::pod({.name = fmt::format("p{}", i)}));
  }
  EXPECT_EQ(to_text(place_pods(one.world())), to_text(place_pods(two.world())));
}

TEST(Placement, LeavesOutHostsThatCannotTakePods) {
  TestWorld world;
  world.members.set("h1", {false, world.mono});
  world.put(fakes::node("h2", "10.244.2.0/24", "198.18.0.12", false));
  world.put(fakes::pod({.name = "a"}));
  EXPECT_EQ(by_node(place_pods(world.world())), (std::map<std::string, int>{{"h3", 1}}));
  world.change(view::kNodes, "", "h3",
               [](boost::json::object& body) { body["spec"].as_object()["unschedulable"] = true; });
  const Plan plan = place_pods(world.world());
  EXPECT_TRUE(by_node(plan).empty());
  ASSERT_EQ(plan.notes.size(), 1u);
  EXPECT_EQ(plan.notes[0].message,
            "0/3 nodes are available: 1 node(s) were not reachable, 1 node(s) were not ready, 1 "
            "node(s) were unschedulable.");
  const auto& status = std::get<UpdateStatus>(plan.steps.at(0).op).body;
  EXPECT_EQ(api::find_string(status.at("status").at("conditions").at(0).as_object(), "reason"),
            "Unschedulable");
  carry_out(world, plan);
  EXPECT_TRUE(place_pods(world.world()).steps.empty()) << "said once";
}

TEST(Placement, HonoursTheNodeSelectorAndCapacity) {
  TestWorld world;
  world.put(fakes::pod({.name = "a"}));
  const auto select = [&](const char* host) {
    world.change(view::kPods, "default", "a", [&](boost::json::object& body) {
      body["spec"].as_object()["nodeSelector"] =
          boost::json::object{{"kubernetes.io/hostname", host}};
    });
  };
  select("h2");
  EXPECT_EQ(by_node(place_pods(world.world())), (std::map<std::string, int>{{"h2", 1}}));
  select("h9");
  EXPECT_EQ(place_pods(world.world()).notes.at(0).message,
            "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.");
  select("h2");
  world.change(view::kNodes, "", "h2", [](boost::json::object& body) {
    body["status"].as_object()["allocatable"] = boost::json::object{{"pods", "1"}};
  });
  world.put(fakes::pod({.name = "b", .node = "h2"}));
  EXPECT_EQ(place_pods(world.world()).notes.at(0).message,
            "0/3 nodes are available: 2 node(s) didn't match Pod's node affinity/selector, 1 "
            "node(s) had too many pods.");
}

void ask(TestWorld& world, std::string name, std::string_view requests, std::string node = "",
         std::string_view init = "[]") {
  boost::json::object body = fakes::pod({.name = std::move(name), .node = std::move(node)});
  auto& spec = body["spec"].as_object();
  spec["containers"].as_array()[0].as_object()["resources"] =
      boost::json::object{{"requests", boost::json::parse(requests)}};
  spec["initContainers"] = boost::json::parse(init);
  world.put(std::move(body));
}

void give(TestWorld& world, std::string host, std::string_view allocatable) {
  world.change(view::kNodes, "", std::move(host), [&](boost::json::object& body) {
    body["status"].as_object()["allocatable"] = boost::json::parse(allocatable);
  });
}

// Upstream's "validates resource limits of pods that are allowed to run".
TEST(Placement, RequestsAreHonoured) {
  TestWorld world;
  give(world, "h1", R"({"cpu":"1900m","memory":"1Gi"})");
  give(world, "h2", R"({"cpu":"500m","memory":"4Gi"})");
  give(world, "h3", R"({"cpu":"1","memory":"512Mi"})");
  ask(world, "running", R"({"cpu":"1"})", "h1");
  ask(world, "a", R"({"cpu":"900m","memory":"600Mi"})");
  EXPECT_EQ(by_node(place_pods(world.world())), (std::map<std::string, int>{{"h1", 1}}));
  carry_out(world, place_pods(world.world()));
  ask(world, "b", R"({"cpu":"501m","memory":"513Mi"})");
  EXPECT_EQ(place_pods(world.world()).notes.at(0).message,
            "0/3 nodes are available: 2 Insufficient cpu, 2 Insufficient memory.");
  give(world, "h1", R"({"ephemeral-storage":"900Ki"})");
  give(world, "h2", R"({"ephemeral-storage":"2Mi"})");
  give(world, "h3", "{}");  // of a build that does not tell
  ask(world, "b", R"({"ephemeral-storage":"1Mi"})");
  EXPECT_EQ(by_node(place_pods(world.world())).count("h1"), 0u);
  give(world, "h2", R"({"ephemeral-storage":"1Ki"})");
  give(world, "h3", R"({"ephemeral-storage":"1Ki"})");
  EXPECT_EQ(place_pods(world.world()).notes.at(0).message,
            "0/3 nodes are available: 3 Insufficient ephemeral-storage.");
  // One that requests nothing fits on a full host.
  give(world, "h2", R"({"cpu":"0","memory":"0"})");
  give(world, "h3", R"({"cpu":"0","memory":"0"})");
  give(world, "h1", R"({"cpu":"1","memory":"1Gi"})");
  ask(world, "b", "{}");
  EXPECT_EQ(by_node(place_pods(world.world())), (std::map<std::string, int>{{"h1", 1}}));
}

// Of hosts that are short of something; upstream's node.kubernetes.io/*-pressure taints.
TEST(Placement, PressureKeepsPodsAway) {
  TestWorld world;
  const auto press = [&](std::string host, std::string_view condition, std::string_view status) {
    world.change(view::kNodes, "", std::move(host), [&](boost::json::object& body) {
      body["status"].as_object()["conditions"].as_array().push_back(
          boost::json::object{{"type", condition}, {"status", status}});
    });
  };
  const auto place = [&](std::string_view requests, std::string_view tolerations) {
    ask(world, "p", requests);
    world.change(view::kPods, "default", "p", [&](boost::json::object& body) {
      body["spec"].as_object()["tolerations"] = boost::json::parse(tolerations);
    });
    const Plan plan = place_pods(world.world());
    return plan.notes.empty() || plan.notes[0].warning == false ? by_node(plan).begin()->first
                                                                : plan.notes[0].message;
  };
  press("h1", "MemoryPressure", "True");
  press("h2", "DiskPressure", "True");
  press("h3", "PIDPressure", "True");
  EXPECT_EQ(place("{}", "[]"),
            "0/3 nodes are available: 1 node(s) had untolerated taint "
            "{node.kubernetes.io/disk-pressure: }, 1 node(s) had untolerated taint "
            "{node.kubernetes.io/memory-pressure: }, 1 node(s) had untolerated taint "
            "{node.kubernetes.io/pid-pressure: }.");
  EXPECT_EQ(place(R"({"cpu":"1m"})", "[]"), "h1") << "no best-effort pod";
  EXPECT_EQ(place("{}", R"([{"key":"node.kubernetes.io/disk-pressure","operator":"Exists"}])"),
            "h2");
  EXPECT_EQ(place("{}", R"([{"key":"node.kubernetes.io/pid-pressure","effect":"NoSchedule"}])"),
            "h3");
  for (const char* other : {R"([{"key":"node.kubernetes.io/pid-pressure","effect":"NoExecute"}])",
                            R"([{"key":"node.kubernetes.io/pid-pressure","value":"x"}])",
                            R"([{"key":"other","operator":"Exists"}])"})
    EXPECT_NE(place("{}", other).find("0/3 nodes"), std::string::npos) << other;
  TestWorld calm;
  calm.change(view::kNodes, "", "h1", [](boost::json::object& body) {
    body["status"].as_object()["conditions"].as_array().push_back(
        boost::json::object{{"type", "DiskPressure"}, {"status", "False"}});
  });
  for (int i = 0; i < 3; ++i)
    calm.put(fakes::pod({.name = fmt::format("p{}", i)}));
  EXPECT_EQ(by_node(place_pods(calm.world())).size(), 3u);
}

TEST(Placement, InitContainersAndSidecarsCount) {
  TestWorld world;
  for (const char* host : {"h1", "h2", "h3"})
    give(world, host, R"({"cpu":"1","memory":"1Gi"})");
  ask(world, "init", R"({"cpu":"100m"})", "",
      R"([{"name":"i","resources":{"requests":{"cpu":"1001m"}}}])");
  EXPECT_EQ(place_pods(world.world()).notes.at(0).message,
            "0/3 nodes are available: 3 Insufficient cpu.");
  ask(world, "init", R"({"cpu":"600m"})", "",
      R"([{"name":"s","restartPolicy":"Always","resources":{"requests":{"cpu":"401m"}}}])");
  EXPECT_TRUE(by_node(place_pods(world.world())).empty());
  ask(world, "init", R"({"cpu":"600m"})", "",
      R"([{"name":"i","resources":{"requests":{"cpu":"1"}}},
          {"name":"s","restartPolicy":"Always","resources":{"requests":{"cpu":"400m"}}}])");
  EXPECT_EQ(place_pods(world.world()).steps.size(), 1U);
}

TEST(Placement, TheLessLoadedHostComesFirst) {
  TestWorld world;
  give(world, "h1", R"({"cpu":"2","memory":"8Gi"})");
  give(world, "h2", R"({"cpu":"16","memory":"64Gi"})");
  give(world, "h3", R"({"cpu":"2","memory":"8Gi"})");
  for (int i = 0; i < 10; ++i)
    ask(world, fmt::format("p{}", i), R"({"cpu":"500m","memory":"1Gi"})");
  EXPECT_EQ(by_node(place_pods(world.world())),
            (std::map<std::string, int>{{"h1", 1}, {"h2", 8}, {"h3", 1}}));
}

// Upstream's "validates that there is no conflict between pods with same hostPort but different
// hostIP and protocol", and what is one.
TEST(Placement, AHostPortIsOnceOnAHost) {
  TestWorld world;
  const auto put = [&](std::string name, std::string_view ports, std::string node = "") {
    boost::json::object body = fakes::pod({.name = std::move(name), .node = std::move(node)});
    body["spec"].as_object()["containers"].as_array()[0].as_object()["ports"] =
        boost::json::parse(ports);
    body["spec"].as_object()["nodeSelector"] =
        boost::json::object{{"kubernetes.io/hostname", "h1"}};
    world.put(std::move(body));
  };
  constexpr std::string_view kFirst =
      R"([{"containerPort":80,"hostPort":54321,"hostIP":"127.0.0.1"}])";
  put("first", kFirst);
  put("other-ip", R"([{"containerPort":80,"hostPort":54321,"hostIP":"198.18.0.11"}])");
  put("other-protocol",
      R"([{"containerPort":80,"hostPort":54321,"hostIP":"198.18.0.11","protocol":"UDP"}])");
  EXPECT_EQ(by_node(place_pods(world.world())), (std::map<std::string, int>{{"h1", 3}}));
  carry_out(world, place_pods(world.world()));
  put("same", kFirst);
  put("any-ip", R"([{"containerPort":80,"hostPort":54321}])");
  put("inner-port-only", R"([{"containerPort":54321}])");
  const Plan plan = place_pods(world.world());
  EXPECT_EQ(by_node(plan), (std::map<std::string, int>{{"h1", 1}}));
  ASSERT_EQ(plan.notes.size(), 2U);
  EXPECT_EQ(plan.notes[0].message,
            "0/3 nodes are available: 1 node(s) didn't have free ports for the requested pod "
            "ports, 2 node(s) didn't match Pod's node affinity/selector.");
}

TEST(Placement, ATemplateWithAHostPortFillsEachHostOnce) {
  TestWorld world;
  for (int i = 0; i < 4; ++i) {
    boost::json::object body = fakes::pod({.name = fmt::format("p{}", i), .owner = "web"});
    body["spec"].as_object()["containers"].as_array()[0].as_object()["ports"] =
        boost::json::parse(R"([{"containerPort":80,"hostPort":8080}])");
    world.put(std::move(body));
  }
  EXPECT_EQ(by_node(place_pods(world.world())),
            (std::map<std::string, int>{{"h1", 1}, {"h2", 1}, {"h3", 1}}));
  carry_out(world, place_pods(world.world()));
  EXPECT_TRUE(by_node(place_pods(world.world())).empty());
  // Its port is free when a pod is gone, not when it is going.
  world.change(view::kPods, "default", "p0", [](boost::json::object& body) {
    body["metadata"].as_object()["deletionTimestamp"] = "2026-01-01T00:01:00Z";
  });
  EXPECT_TRUE(by_node(place_pods(world.world())).empty());
  world.remove(view::kPods, "default", "p0");
  EXPECT_EQ(by_node(place_pods(world.world())).size(), 1U);
}

}  // namespace
}  // namespace shoal::controllers
