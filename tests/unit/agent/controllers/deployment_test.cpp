// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/agent/controllers/world.h"

namespace shoal::controllers {
namespace {

constexpr std::string_view kDeployment = R"({"apiVersion":"apps/v1","kind":"Deployment",
  "metadata":{"name":"web","generation":1,"annotations":{"kubernetes.io/change-cause":"first"}},
  "spec":{"replicas":2,"selector":{"matchLabels":{"app":"web"}},"revisionHistoryLimit":1,
          "strategy":{"rollingUpdate":{"maxSurge":1,"maxUnavailable":0}},
          "template":{"metadata":{"labels":{"app":"web"}},
                      "spec":{"containers":[{"name":"main","image":"web:1"}]}}}})";

class DeploymentTest : public ::testing::Test {
protected:
  Plan look() {
    return reconcile_deployment(world.world(),
                                *world.view.get(view::kDeployments, "default", "web"));
  }
  // Until the deployment wants nothing; its sets get the pods they ask for, ready at once.
  void settle() {
    for (int i = 0; i < 50; ++i) {
      Plan plan = look();
      carry_out(world, plan);
      for (const auto& set : world.view.list(view::kReplicaSets)) {
        const Plan pods = reconcile_replica_set(world.world(), *set);
        carry_out(world, pods);
        make_ready();
      }
      if (plan.steps.empty())
        return;
    }
    FAIL() << "does not settle:\n" << to_text(look());
  }
  void make_ready() {
    for (const auto& pod : world.view.unbound_pods())
      world.change(view::kPods, "default", pod->name, [&](boost::json::object& body) {
        body["spec"].as_object()["nodeName"] = "h1";
        body["status"] = boost::json::object{
            {"phase", "Running"},
            {"conditions",
             boost::json::array{boost::json::object{{"type", "Ready"},
                                                    {"status", "True"},
                                                    {"lastTransitionTime", rfc3339(world.now)}}}}};
      });
  }
  void set_image(const char* image) {
    world.change(view::kDeployments, "default", "web", [&](boost::json::object& body) {
      body.at("spec").at("template").at("spec").at("containers").at(0).as_object()["image"] = image;
      auto& generation = body["metadata"].as_object()["generation"];
      generation = generation.as_int64() + 1;
    });
  }
  boost::json::object deployment() {
    return world.view.get(view::kDeployments, "default", "web")->body;
  }
  std::vector<std::string> sizes() {
    std::vector<std::string> out;
    for (const auto& set : world.view.list(view::kReplicaSets))
      out.push_back(fmt::format("{}:{}",
                                view::annotation(*set, "deployment.kubernetes.io/revision"),
                                api::find_int(set->body, "spec.replicas", -1)));
    std::sort(out.begin(), out.end());
    return out;
  }
  std::string_view reason(std::string_view type) {
    const auto object = world.view.get(view::kDeployments, "default", "web");
    const auto* condition = view::condition(*object, type);
    return condition ? api::find_string(*condition, "reason") : "none";
  }

  TestWorld world;
};

TEST_F(DeploymentTest, MakesAReplicaSetOfItsTemplate) {
  world.put(kDeployment);
  const Plan plan = look();
  const auto& body = std::get<Create>(plan.steps[0].op).body;
  const std::string hash(api::find_string(body, "metadata.labels.pod-template-hash"));
  EXPECT_EQ(hash.size(), 10u);
  EXPECT_EQ(api::find_string(body, "metadata.name"), "web-" + hash);
  EXPECT_EQ(api::find_string(body, "spec.selector.matchLabels.pod-template-hash"), hash);
  EXPECT_EQ(api::find_string(body, "spec.template.metadata.labels.pod-template-hash"), hash);
  EXPECT_EQ(api::find_int(body, "spec.replicas", 0), 2);
  const auto& annotations = body.at("metadata").at("annotations").as_object();
  EXPECT_EQ(annotations.at("deployment.kubernetes.io/revision").as_string(), "1");
  EXPECT_EQ(annotations.at("deployment.kubernetes.io/max-replicas").as_string(), "3");
  EXPECT_EQ(annotations.at("kubernetes.io/change-cause").as_string(), "first");
  EXPECT_EQ(plan.steps[0].note->message, "Scaled up replica set web-" + hash + " from 0 to 2");
}

TEST_F(DeploymentTest, BecomesAvailableAndComplete) {
  world.put(kDeployment);
  settle();
  EXPECT_EQ(sizes(), std::vector<std::string>{"1:2"});
  EXPECT_EQ(reason("Available"), "MinimumReplicasAvailable");
  EXPECT_EQ(reason("Progressing"), "NewReplicaSetAvailable");
  const auto body = deployment();
  for (const char* field : {"status.replicas", "status.updatedReplicas", "status.readyReplicas",
                            "status.availableReplicas"})
    EXPECT_EQ(api::find_int(body, field, 0), 2) << field;
  EXPECT_EQ(api::find_int(body, "status.observedGeneration", 0), 1);
  EXPECT_EQ(view::annotation(*world.view.get(view::kDeployments, "default", "web"),
                             "deployment.kubernetes.io/revision"),
            "1");
}

TEST_F(DeploymentTest, RollsToANewTemplateAndBack) {
  world.put(kDeployment);
  settle();
  set_image("web:2");
  settle();
  EXPECT_EQ(sizes(), (std::vector<std::string>{"1:0", "2:2"}));
  set_image("web:1");  // the first set comes back, under a new number
  settle();
  EXPECT_EQ(sizes(), (std::vector<std::string>{"2:0", "3:2"}));
  EXPECT_EQ(api::find_int(deployment(), "status.observedGeneration", 0), 3);
}

TEST_F(DeploymentTest, KeepsSoManyOldSets) {
  world.put(kDeployment);
  for (const char* image : {"web:1", "web:2", "web:3", "web:4"}) {
    set_image(image);
    settle();
  }
  EXPECT_EQ(sizes(), (std::vector<std::string>{"3:0", "4:2"}));
}

TEST_F(DeploymentTest, ScalesWithoutANewSet) {
  world.put(kDeployment);
  settle();
  world.change(view::kDeployments, "default", "web",
               [](boost::json::object& body) { body["spec"].as_object()["replicas"] = 5; });
  settle();
  EXPECT_EQ(sizes(), std::vector<std::string>{"1:5"});
  EXPECT_EQ(reason("Progressing"), "NewReplicaSetAvailable");
  world.change(view::kDeployments, "default", "web",
               [](boost::json::object& body) { body["spec"].as_object()["replicas"] = 0; });
  settle();
  EXPECT_EQ(sizes(), std::vector<std::string>{"1:0"});
}

TEST_F(DeploymentTest, PausedRollsNothing) {
  world.put(kDeployment);
  settle();
  world.change(view::kDeployments, "default", "web",
               [](boost::json::object& body) { body["spec"].as_object()["paused"] = true; });
  set_image("web:2");
  settle();
  EXPECT_EQ(sizes(), std::vector<std::string>{"1:2"});
  EXPECT_EQ(reason("Progressing"), "DeploymentPaused");
  world.change(view::kDeployments, "default", "web",
               [](boost::json::object& body) { body["spec"].as_object().erase("paused"); });
  settle();
  EXPECT_EQ(sizes(), (std::vector<std::string>{"1:0", "2:2"}));
}

TEST_F(DeploymentTest, SaysWhenARolloutIsStuck) {
  world.put(kDeployment);
  settle();
  set_image("web:broken");
  carry_out(world, look());  // the new set; its pods never come
  carry_out(world, look());
  const Plan waiting = look();
  ASSERT_TRUE(waiting.again_after);
  EXPECT_LE(*waiting.again_after, std::chrono::seconds(600));
  world.advance(std::chrono::seconds(601));
  carry_out(world, look());
  EXPECT_EQ(reason("Progressing"), "ProgressDeadlineExceeded");
  EXPECT_EQ(reason("Available"), "MinimumReplicasAvailable") << "the old ones still serve";
  EXPECT_EQ(sizes(), (std::vector<std::string>{"1:2", "2:1"}));
}

TEST_F(DeploymentTest, AvoidsANameThatAStrangerHas) {
  world.put(kDeployment);
  const Plan first = look();
  auto body = std::get<Create>(first.steps[0].op).body;
  body["metadata"].as_object().erase("ownerReferences");
  body["metadata"].as_object()["labels"] = boost::json::object{{"app", "not-web"}};
  const std::string name(api::find_string(body, "metadata.name"));
  world.put(body);
  settle();
  EXPECT_EQ(api::find_int(deployment(), "status.collisionCount", 0), 1);
  EXPECT_EQ(world.view.list(view::kReplicaSets).size(), 2u);
}

TEST_F(DeploymentTest, AdoptsAMatchingSet) {
  world.put(kDeployment);
  settle();
  const auto set = world.view.list(view::kReplicaSets).front();
  world.change(view::kReplicaSets, "default", set->name, [](boost::json::object& body) {
    body["metadata"].as_object().erase("ownerReferences");
  });
  settle();
  EXPECT_EQ(world.view.list(view::kReplicaSets).size(), 1u);
  EXPECT_TRUE(view::controller_of(*world.view.list(view::kReplicaSets).front()));
}

}  // namespace
}  // namespace shoal::controllers
