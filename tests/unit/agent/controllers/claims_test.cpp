// SPDX-License-Identifier: Apache-2.0
// What becomes of PersistentVolumeClaims, and of the pods that use them.
#include "agent/api/claims.h"
#include "tests/unit/agent/controllers/world.h"

namespace shoal::controllers {
namespace {

struct ClaimWorld : TestWorld {
  void claim(std::string_view name, std::string_view node = "", std::string_view more = "",
             std::string_view mode = "ReadWriteOnce") {
    put(fakes::json_object(fmt::format(
        R"({{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{{"name":"{0}","namespace":"default",
            "uid":"uid-{0}","annotations":{{{1}}}{2}}},
            "spec":{{"accessModes":["{3}"],"resources":{{"requests":{{"storage":"1Gi"}}}}}},
            "status":{{"phase":"Pending"}}}})",
        name, node.empty() ? "" : fmt::format(R"("volume.kubernetes.io/selected-node":"{}")", node),
        more, mode)));
  }
  void user(std::string_view name, std::vector<std::string> claims, std::string node = "",
            std::string phase = "Running") {
    boost::json::object body =
        fakes::pod({.name = std::string(name), .node = std::move(node), .phase = std::move(phase)});
    boost::json::array volumes;
    for (const std::string& one : claims)
      volumes.push_back({{"name", one}, {"persistentVolumeClaim", {{"claimName", one}}}});
    body["spec"].as_object()["volumes"] = std::move(volumes);
    put(std::move(body));
  }
  ObjectPtr get(std::string_view name) { return view.get(view::kClaims, "default", name); }
  std::string node_of(std::string_view pod) {
    return std::string(view::node_of(*view.get(view::kPods, "default", pod)));
  }
  std::string why() {
    const Plan plan = place_pods(world());
    return plan.notes.empty() ? "" : plan.notes[0].message;
  }
};

TEST(Claims, AreBoundToTheHostOfTheirFirstConsumerAndThenThatPodIs) {
  ClaimWorld world;
  world.claim("data");
  world.user("p", {"data"});
  world.user("q", {"data"});
  const Plan first = place_pods(world.world());
  ASSERT_EQ(to_text(first), "update persistentvolumeclaims default/data\n");
  EXPECT_FALSE(
      std::get<Update>(first.steps[0].op).body.at("metadata").at("resourceVersion").is_null())
      << "two members cannot bind it twice";
  carry_out(world, first);
  const std::string node(api::selected_node(world.get("data")->body));
  EXPECT_FALSE(node.empty());
  carry_out(world, place_pods(world.world()));
  EXPECT_EQ(world.node_of("p"), node);
  EXPECT_EQ(world.node_of("q"), node);
}

TEST(Claims, SeveralOfOnePodAreBoundToOneHost) {
  ClaimWorld world;
  world.claim("a");
  world.claim("b", "h3");
  world.user("p", {"a", "b"});
  carry_out(world, place_pods(world.world()));
  EXPECT_EQ(api::selected_node(world.get("a")->body), "h3");
}

TEST(Claims, HoldTheirPodsToTheirHost) {
  ClaimWorld world;
  world.claim("data", "h2");
  world.user("p", {"data"});
  world.members.set("h2", {false, world.mono});
  EXPECT_EQ(world.why(), "0/3 nodes are available: 2 node(s) had volume node affinity conflict, 1 "
                         "node(s) were not reachable.");
  world.claim("other", "h1");
  world.user("p", {"data", "other"});
  world.members.set("h2", {true, world.mono});
  EXPECT_EQ(world.why(), "0/3 nodes are available: 3 node(s) had volume node affinity conflict.");
}

TEST(Claims, ThatAreMissingOrGoingAreWaitedFor) {
  ClaimWorld world;
  world.user("p", {"data"});
  EXPECT_EQ(world.why(), "0/3 nodes are available: persistentvolumeclaim \"data\" not found.");
  world.claim("data", "", R"(,"deletionTimestamp":"2026-01-01T00:00:00Z")");
  EXPECT_EQ(world.why(),
            "0/3 nodes are available: persistentvolumeclaim \"data\" is being deleted.");
}

TEST(Claims, OfOnePodAtATime) {
  ClaimWorld world;
  world.claim("data", "h1", "", "ReadWriteOncePod");
  world.user("p", {"data"});
  world.user("q", {"data"});
  carry_out(world, place_pods(world.world()));
  EXPECT_EQ(world.node_of("p"), "h1");
  EXPECT_EQ(world.node_of("q"), "");
  EXPECT_EQ(world.why(),
            "0/3 nodes are available: 3 node has pod using PersistentVolumeClaim with the same "
            "name and ReadWriteOncePod access mode.");
  world.user("p", {"data"}, "h1", "Succeeded");
  carry_out(world, place_pods(world.world()));
  EXPECT_EQ(world.node_of("q"), "h1");
}

TEST(Claims, StatusSaysWhatTheyAre) {
  ClaimWorld world;
  world.claim("data");
  Plan plan = reconcile_claim(world.world(), *world.get("data"));
  EXPECT_TRUE(plan.steps.empty());
  ASSERT_EQ(plan.notes.size(), 1U);
  EXPECT_EQ(plan.notes[0].reason, "WaitForFirstConsumer");
  // A pod that names its host is not the scheduler's.
  world.user("p", {"data"}, "h2");
  carry_out(world, reconcile_claim(world.world(), *world.get("data")));
  EXPECT_EQ(api::selected_node(world.get("data")->body), "h2");
  carry_out(world, reconcile_claim(world.world(), *world.get("data")));
  EXPECT_EQ(boost::json::serialize(world.get("data")->body.at("status")),
            R"({"phase":"Bound","accessModes":["ReadWriteOnce"],"capacity":{"storage":"1Gi"}})");
  plan = reconcile_claim(world.world(), *world.get("data"));
  EXPECT_TRUE(plan.steps.empty());
  EXPECT_TRUE(plan.notes.empty());
}

TEST(Claims, GoWhenTheirLastPodHasEnded) {
  ClaimWorld world;
  world.claim("data", "h1", R"(,"deletionTimestamp":"2026-01-01T00:00:00Z")");
  world.user("p", {"data"}, "h1");
  world.user("waits", {"data"});  // not on a host, and will not be
  EXPECT_TRUE(reconcile_claim(world.world(), *world.get("data")).steps.empty());
  world.user("p", {"data"}, "h1", "Failed");
  EXPECT_EQ(to_text(reconcile_claim(world.world(), *world.get("data"))),
            "delete persistentvolumeclaims default/data\n");
}

}  // namespace
}  // namespace shoal::controllers
