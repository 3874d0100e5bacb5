// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/agent/controllers/world.h"

namespace shoal::controllers {
namespace {

constexpr std::string_view kSet = R"({"apiVersion":"apps/v1","kind":"ReplicaSet",
  "metadata":{"name":"web","generation":1},
  "spec":{"replicas":3,"selector":{"matchLabels":{"app":"web"}},
          "template":{"metadata":{"labels":{"app":"web"},"annotations":{"note":"x"}},
                      "spec":{"containers":[{"name":"main","image":"web:1"}]}}}})";

Plan look(const TestWorld& world) {
  return reconcile_replica_set(world.world(),
                               *world.view.get(view::kReplicaSets, "default", "web"));
}

std::vector<std::string> names(const Plan& plan, std::string_view verb) {
  std::vector<std::string> out;
  for (const Step& step : plan.steps)
    if (verb_of(step.op) == verb)
      out.push_back(target_of(step.op).name);
  return out;
}

TEST(ReplicaSet, MakesPodsFromItsTemplate) {
  TestWorld world;
  world.put(kSet);
  const Plan plan = look(world);
  const auto created = names(plan, "create");
  ASSERT_EQ(created.size(), 3u);
  const auto& body = std::get<Create>(plan.steps[0].op).body;
  EXPECT_TRUE(created[0].starts_with("web-"));
  EXPECT_EQ(created[0].size(), 9u);
  EXPECT_EQ(api::find_string(body, "metadata.labels.app"), "web");
  EXPECT_EQ(api::find_string(body, "metadata.annotations.note"), "x");
  EXPECT_EQ(api::find_array(body, "metadata.ownerReferences")->size(), 1u);
  EXPECT_EQ(plan.steps[0].note->reason, "SuccessfulCreate");
}

TEST(ReplicaSet, TwoActorsMakeTheSameNames) {
  TestWorld one, two;
  one.put(kSet);
  two.put(kSet);
  const auto all = names(look(one), "create");
  EXPECT_EQ(all, names(look(two), "create"));
  // One that has not seen everything yet names a part of the same set.
  two.put(fakes::pod({.name = all[1], .labels = R"({"app":"web"})", .owner = "web"}));
  EXPECT_EQ(names(look(two), "create"), (std::vector<std::string>{all[0], all[2]}));
}

TEST(ReplicaSet, ATerminatingPodIsReplacedUnderAnotherName) {
  TestWorld world;
  world.put(kSet);
  const auto all = names(look(world), "create");
  for (const auto& name : all)
    world.put(
        fakes::pod({.name = name, .labels = R"({"app":"web"})", .node = "h1", .owner = "web"}));
  EXPECT_TRUE(names(look(world), "create").empty());
  world.put(fakes::pod({.name = all[0],
                        .labels = R"({"app":"web"})",
                        .node = "h1",
                        .terminating = true,
                        .owner = "web"}));
  const auto more = names(look(world), "create");
  ASSERT_EQ(more.size(), 1u);
  EXPECT_EQ(std::count(all.begin(), all.end(), more[0]), 0);
}

TEST(ReplicaSet, AdoptsOrphansAndLetsGoOfStrangers) {
  TestWorld world;
  world.put(kSet);
  world.put(fakes::pod({.name = "orphan", .labels = R"({"app":"web"})"}));
  world.put(fakes::pod({.name = "stranger", .labels = R"({"app":"db"})"}));
  world.put(fakes::pod({.name = "relabelled", .labels = R"({"app":"old"})", .owner = "web"}));
  world.put(fakes::pod({.name = "others", .labels = R"({"app":"web"})", .owner = "other"}));
  const Plan plan = look(world);
  EXPECT_EQ(names(plan, "update"), (std::vector<std::string>{"relabelled", "orphan"}));
  EXPECT_EQ(names(plan, "create").size(), 2u) << "the orphan counts already";
  const auto& released = std::get<Update>(plan.steps[0].op).body;
  EXPECT_FALSE(released.at("metadata").as_object().contains("ownerReferences"));
  EXPECT_EQ(api::find_string(released, "metadata.resourceVersion").empty(), false);
}

TEST(ReplicaSet, GivesUpThePodsThatServeLeast) {
  TestWorld world;
  world.put(kSet);
  world.change(view::kReplicaSets, "default", "web",
               [](boost::json::object& body) { body["spec"].as_object()["replicas"] = 0; });
  const std::string app = R"({"app":"web"})";
  const auto put = [&](fakes::PodSpec spec) {
    spec.labels = app;
    spec.owner = "web";
    world.put(fakes::pod(spec));
  };
  put({.name = "old", .node = "h1"});
  put({.name = "crowded", .node = "h2"});
  put({.name = "crowded-too", .node = "h2", .created = "2025-12-31T00:00:00Z"});
  put({.name = "newly-ready", .node = "h1", .ready_since = "2026-01-01T00:30:00Z"});
  put({.name = "unready", .node = "h3", .ready = false});
  put({.name = "pending", .node = "h3", .ready = false, .phase = "Pending"});
  put({.name = "unbound", .phase = "Pending"});
  const Plan plan = look(world);
  EXPECT_EQ(names(plan, "delete"),
            (std::vector<std::string>{"unbound", "pending", "unready", "newly-ready", "crowded",
                                      "old", "crowded-too"}));
}

TEST(ReplicaSet, ReportsCounts) {
  TestWorld world;
  world.put(kSet);
  for (const char* name : {"a", "b", "c"})
    world.put(fakes::pod({.name = name,
                          .labels = R"({"app":"web"})",
                          .node = std::string(name) == "c" ? "h3" : "h1",
                          .owner = "web"}));
  world.members.set("h3", {false, world.mono});
  EXPECT_EQ(to_text(look(world)),
            "update status of replicasets.apps default/web replicas=3 fullyLabeledReplicas=3 "
            "readyReplicas=2 availableReplicas=2 observedGeneration=1\n");
  carry_out(world, look(world));
  EXPECT_EQ(to_text(look(world)), "");
}

TEST(ReplicaSet, MakesAtMostAPlanAtOnce) {
  TestWorld world;
  world.put(kSet);
  world.change(view::kReplicaSets, "default", "web",
               [](boost::json::object& body) { body["spec"].as_object()["replicas"] = 1000; });
  EXPECT_EQ(names(look(world), "create").size(), kStepsMax);
}

}  // namespace
}  // namespace shoal::controllers
