// SPDX-License-Identifier: Apache-2.0
// What the controllers of several hosts do together: real replicas, writers and runners, gossip
// that is late and out of order, one store. A checker looks at the store after every commit. Seeds
// are printed; SHOAL_SEED replays one,
// SHOAL_SEEDS runs that many.
#include "agent/api/load_balancer.h"
#include "agent/controllers/rollout.h"
#include "agent/view/facts.h"
#include "tests/fakes/fake_cluster.h"

#include <cstdlib>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <numeric>

namespace shoal::fakes {
namespace {

using namespace std::chrono_literals;

std::string deployment(std::string_view name, int replicas, std::string_view image = "web:1") {
  return fmt::format(
      R"({{"apiVersion":"apps/v1","kind":"Deployment","metadata":{{"name":"{0}","namespace":"default"}},
          "spec":{{"replicas":{1},"selector":{{"matchLabels":{{"app":"{0}"}}}},
                   "template":{{"metadata":{{"labels":{{"app":"{0}"}}}},
                                "spec":{{"containers":[{{"name":"main","image":"{2}",
                                         "ports":[{{"containerPort":8080}}]}}]}}}}}}}})",
      name, replicas, image);
}

std::string image_patch(std::string_view image) {
  return fmt::format(
      R"({{"spec":{{"template":{{"spec":{{"containers":[{{"name":"main","image":"{}","ports":[{{"containerPort":8080}}]}}]}}}}}}}})",
      image);
}

std::vector<std::uint64_t> seeds() {
  if (const char* one = std::getenv("SHOAL_SEED"))
    return {std::strtoull(one, nullptr, 10)};
  const char* count = std::getenv("SHOAL_SEEDS");
  std::vector<std::uint64_t> out(count ? std::strtoull(count, nullptr, 10) : 8);
  std::iota(out.begin(), out.end(), std::uint64_t{1});
  return out;
}

class ClusterTest : public ::testing::TestWithParam<std::uint64_t> {
protected:
  void SetUp() override { RecordProperty("seed", std::to_string(GetParam())); }
  void TearDown() override {
    if (HasFailure())
      fmt::print("replay with SHOAL_SEED={}\n", GetParam());
  }
  // More active pods than the set asks for, at any commit.
  static std::size_t surplus(const FakeCluster& cluster) {
    std::size_t most = 0;
    for (const auto& set : cluster.objects(view::kReplicaSets)) {
      const auto pods =
          cluster.active_pods(std::string(api::find_string(set, "metadata.name")) + "-").size();
      const auto wanted = static_cast<std::size_t>(api::find_int(set, "spec.replicas", 0));
      most = std::max(most, pods > wanted ? pods - wanted : 0);
    }
    return most;
  }
};

bool complete(const FakeCluster& cluster, std::string_view name) {
  const auto body = cluster.object(view::kDeployments, name);
  const auto n = [&](std::string_view field) { return api::find_int(body, field, 0); };
  return n("status.observedGeneration") == n("metadata.generation") &&
         n("status.replicas") == n("spec.replicas") &&
         n("status.updatedReplicas") == n("spec.replicas") &&
         n("status.availableReplicas") == n("spec.replicas");
}

TEST_P(ClusterTest, ADeploymentBecomesPodsOnAllHosts) {
  FakeCluster cluster(GetParam(), 3);
  std::size_t most_surplus = 0;
  cluster.check = [&] { most_surplus = std::max(most_surplus, surplus(cluster)); };
  cluster.create(deployment("web", 6));
  ASSERT_TRUE(cluster.until([&] { return complete(cluster, "web"); }));
  EXPECT_EQ(cluster.pods_by_host(), (std::map<std::string, int>{{"h1", 2}, {"h2", 2}, {"h3", 2}}));
  EXPECT_EQ(most_surplus, 0u);
  ASSERT_TRUE(cluster.quiet());
  EXPECT_EQ(cluster.stats().stepped_in, 0u) << "the first rank was enough";
  EXPECT_EQ(cluster.stats().steps_failed, 0u);
}

TEST_P(ClusterTest, ScalesUpAndDown) {
  FakeCluster cluster(GetParam(), 3);
  cluster.create(deployment("web", 2));
  ASSERT_TRUE(cluster.until([&] { return complete(cluster, "web"); }));
  for (const int replicas : {9, 3, 0, 4}) {
    cluster.patch(view::kDeployments, "web",
                  fmt::format(R"({{"spec":{{"replicas":{}}}}})", replicas));
    ASSERT_TRUE(cluster.until([&] {
      return complete(cluster, "web") &&
             cluster.objects(view::kPods).size() == static_cast<std::size_t>(replicas);
    })) << replicas;
  }
  for (const auto& [host, pods] : cluster.pods_by_host())
    EXPECT_LE(pods, 2) << host;
}

TEST_P(ClusterTest, ARollingUpdateKeepsItsPromises) {
  FakeCluster cluster(GetParam(), 3);
  cluster.create(deployment("web", 4));  // surge 1, unavailable 1
  ASSERT_TRUE(cluster.until([&] { return complete(cluster, "web"); }));
  ASSERT_TRUE(cluster.quiet());
  std::size_t most = 0;
  std::size_t fewest = 99;
  cluster.check = [&] {
    most = std::max(most, cluster.active_pods().size());
    fewest = std::min(fewest, cluster.ready_pods());
  };
  cluster.patch(view::kDeployments, "web", image_patch("web:2"));
  ASSERT_TRUE(cluster.until([&] { return complete(cluster, "web"); }));
  EXPECT_LE(most, 5u);
  EXPECT_GE(fewest, 3u);
  EXPECT_EQ(cluster.objects(view::kReplicaSets).size(), 2u);
  for (const auto& pod : cluster.active_pods())
    EXPECT_EQ(pod.at("spec").at("containers").at(0).at("image").as_string(), "web:2");
}

TEST_P(ClusterTest, ADeadHostsPodsAreReplaced) {
  FakeCluster cluster(GetParam(), 3);
  cluster.create(deployment("web", 6));
  ASSERT_TRUE(cluster.until([&] { return complete(cluster, "web"); }));
  const MonoTime killed = cluster.loop.now();
  cluster.kill("h2");
  ASSERT_TRUE(cluster.until([&] { return cluster.ready_pods() == 6; }, 20s));
  // Seen dead within 0.5 s, held for 5 s, then made anew: the rest is the controllers' own time.
  EXPECT_LE(cluster.loop.now() - killed, 8s);
  EXPECT_EQ(cluster.pods_by_host(), (std::map<std::string, int>{{"h1", 3}, {"h3", 3}}));
  EXPECT_FALSE(cluster.events("TaintManagerEviction").empty());
  ASSERT_TRUE(cluster.quiet());
  cluster.revive("h2");
  ASSERT_TRUE(cluster.quiet(90s));
  EXPECT_TRUE(complete(cluster, "web"));
  EXPECT_EQ(cluster.ready_pods(), 6u);
  cluster.create(deployment("more", 3));
  ASSERT_TRUE(cluster.until([&] { return complete(cluster, "more"); }));
  EXPECT_GT(cluster.pods_by_host()["h2"], 0) << "a host that is back takes pods";
}

TEST_P(ClusterTest, AShortAbsenceReplacesNothing) {
  FakeCluster cluster(GetParam(), 3);
  cluster.create(deployment("web", 6));
  ASSERT_TRUE(cluster.until([&] { return complete(cluster, "web"); }));
  ASSERT_TRUE(cluster.quiet());
  const auto before = cluster.pods_by_host();
  cluster.kill("h2");
  cluster.loop.run_for(3s);
  cluster.revive("h2");
  ASSERT_TRUE(cluster.until([&] { return complete(cluster, "web"); }));
  EXPECT_EQ(cluster.pods_by_host(), before);
}

// Every host takes itself for the only one alive, so that all act on everything at once.
TEST_P(ClusterTest, AllActorsAtOnceAreHarmless) {
  controllers::RunnerOptions options;
  options.controllers.pod_replace_after = 1h;
  FakeCluster cluster(GetParam(), 3, {}, options);
  for (const std::string& host : cluster.hosts())
    cluster.isolate_view(host);
  std::size_t most_surplus = 0;
  cluster.check = [&] { most_surplus = std::max(most_surplus, surplus(cluster)); };
  cluster.create(deployment("web", 7));
  ASSERT_TRUE(cluster.until([&] { return cluster.ready_pods() == 7; }));
  cluster.loop.run_for(10s);
  EXPECT_EQ(most_surplus, 0u) << "compare-and-create let one of them win";
  EXPECT_EQ(cluster.objects(view::kReplicaSets).size(), 1u);
  EXPECT_EQ(cluster.objects(view::kPods).size(), 7u);
  EXPECT_GT(cluster.stats().steps_lost, 0u) << "they did meet";
}

TEST_P(ClusterTest, EndpointSlicesFollowThePods) {
  FakeCluster cluster(GetParam(), 3);
  cluster.create(
      R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"default"},
                     "spec":{"selector":{"app":"web"},"ports":[{"port":80,"targetPort":8080}]}})");
  cluster.create(deployment("web", 3));
  const auto ready = [&] {
    std::size_t count = 0;
    for (const auto& slice : cluster.objects(view::kEndpointSlices))
      for (const auto& endpoint : *api::find_array(slice, "endpoints"))
        count += endpoint.at("conditions").at("ready").as_bool() ? 1 : 0;
    return count;
  };
  EXPECT_TRUE(cluster.until([&] { return ready() == 3; }));
  cluster.kill("h1");
  EXPECT_TRUE(cluster.until([&] { return ready() == 3 && cluster.pods_by_host().size() == 2; }));
  cluster.remove(view::kServices, "web");
  EXPECT_TRUE(cluster.until([&] { return cluster.objects(view::kEndpointSlices).empty(); }))
      << "garbage goes with its owner";
}

TEST_P(ClusterTest, DeletingADeploymentTakesEverythingWithIt) {
  FakeCluster cluster(GetParam(), 3);
  cluster.create(deployment("web", 5));
  cluster.create(deployment("other", 2));
  ASSERT_TRUE(
      cluster.until([&] { return complete(cluster, "web") && complete(cluster, "other"); }));
  cluster.remove(view::kDeployments, "web");
  ASSERT_TRUE(cluster.until([&] {
    return cluster.objects(view::kPods).size() == 2 &&
           cluster.objects(view::kReplicaSets).size() == 1;
  }));
  ASSERT_TRUE(cluster.quiet());
  EXPECT_TRUE(complete(cluster, "other"));
}

TEST_P(ClusterTest, ANamespaceGoesWithItsContents) {
  FakeCluster cluster(GetParam(), 3);
  cluster.create(R"({"apiVersion":"v1","kind":"Namespace","metadata":{"name":"team"}})");
  auto body = json_object(deployment("web", 3));
  body["metadata"].as_object()["namespace"] = "team";
  cluster.create(boost::json::serialize(body));
  ASSERT_TRUE(cluster.until([&] { return cluster.ready_pods() == 3; }));
  cluster.remove(view::kNamespaces, "team", {}, "");
  EXPECT_TRUE(cluster.until([&] {
    return cluster.objects(view::kPods).empty() && cluster.objects(view::kReplicaSets).empty() &&
           cluster.objects(view::kDeployments).empty() &&
           cluster.object(view::kNamespaces, "team").empty();
  }));
}

TEST_P(ClusterTest, APodThatFitsNowhereSaysWhyAndRunsWhenItFits) {
  FakeCluster cluster(GetParam(), 2);
  for (const char* host : {"h1", "h2"})
    cluster.patch(view::kNodes, host, R"({"spec":{"unschedulable":true}})");
  cluster.loop.run_for(1s);  // everybody has heard of it
  cluster.create(deployment("web", 1));
  ASSERT_TRUE(cluster.until([&] { return !cluster.events("FailedScheduling").empty(); }));
  EXPECT_EQ(cluster.events("FailedScheduling")[0],
            "0/2 nodes are available: 2 node(s) were unschedulable.");
  cluster.patch(view::kNodes, "h2", R"({"spec":{"unschedulable":null}})");
  EXPECT_TRUE(cluster.until([&] { return cluster.ready_pods() == 1; }));
}

TEST_P(ClusterTest, AnActorThatDoesNotActIsReplaced) {
  FakeCluster cluster(GetParam(), 3);
  for (const std::string& host : cluster.hosts()) {
    SCOPED_TRACE(host);
    cluster.stall(host, true);
    const std::string name = "web-" + host;
    const MonoTime begin = cluster.loop.now();
    cluster.create(deployment(name, 3));
    ASSERT_TRUE(cluster.until([&] { return complete(cluster, name); }));
    // Deployment, set, placement and statuses may each have waited for the stalled member once or
    // more.
    EXPECT_LE(cluster.loop.now() - begin, 20s);
    cluster.stall(host, false);
  }
  EXPECT_GT(cluster.stats().stepped_in, 0u);
}

// Everything at random, one host away at a time; then it must come to rest at what was asked for.
TEST_P(ClusterTest, WhateverHappensItEndsAtWhatWasAskedFor) {
  SeededRandom random(GetParam() * 1000 + 1);
  FakeTimes times;
  times.gossip_max = std::chrono::milliseconds(random.below(2) ? 80 : 1500);
  FakeCluster cluster(GetParam(), 4, times);
  std::map<std::string, std::int64_t> asked;
  std::string away;
  int image = 1;
  for (int i = 0; i < 25; ++i) {
    const std::string name = fmt::format("d{}", random.below(2));
    switch (random.below(6)) {
    case 0:
    case 1:
      if (asked.contains(name)) {
        asked[name] = static_cast<std::int64_t>(random.below(9));
        cluster.patch(view::kDeployments, name,
                      fmt::format(R"({{"spec":{{"replicas":{}}}}})", asked[name]));
      } else {
        asked[name] = 3;
        cluster.create(deployment(name, 3));
      }
      break;
    case 2:
      if (asked.contains(name))
        cluster.patch(view::kDeployments, name, image_patch(fmt::format("web:{}", ++image)));
      break;
    case 3:
      if (const auto pods = cluster.active_pods(); !pods.empty())
        cluster.remove(view::kPods,
                       api::find_string(pods[random.below(pods.size())], "metadata.name"),
                       random.below(2) ? std::optional<std::int64_t>(0) : std::nullopt);
      break;
    default:
      if (away.empty()) {
        away = fmt::format("h{}", random.below(4) + 1);
        cluster.kill(away);
      } else {
        cluster.revive(away);
        away.clear();
      }
    }
    cluster.loop.run_for(std::chrono::milliseconds(random.below(4000)));
  }
  const auto at_rest = [&] {
    std::size_t pods = 0;
    for (const auto& [name, replicas] : asked) {
      if (!complete(cluster, name))
        return false;
      pods += static_cast<std::size_t>(replicas);
    }
    return cluster.objects(view::kPods).size() == pods && cluster.ready_pods() == pods;
  };
  ASSERT_TRUE(cluster.until(at_rest, 300s)) << cluster.describe();
  ASSERT_TRUE(cluster.quiet(300s));
  EXPECT_TRUE(at_rest());
  EXPECT_FALSE(cluster.pods_by_host().contains(away.empty() ? "none" : away));
  for (const auto& [name, replicas] : asked)
    EXPECT_EQ(cluster.active_pods(name + "-").size(), static_cast<std::size_t>(replicas));
}

TEST_P(ClusterTest, ALoadBalancerThatIsPendingGetsTheAddressThatAnotherLetsGo) {
  FakeCluster cluster(GetParam(), 3);
  const auto address = [&](std::string_view name) {
    const auto service = cluster.object(view::kServices, name);
    const auto ips = api::own_load_balancer_ips(service);
    return ips.empty() ? std::string() : ips.front();
  };
  for (const char* name : {"a", "b", "late"})
    cluster.create(fmt::format(
        R"({{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{}","namespace":"default"}},
            "spec":{{"type":"LoadBalancer","ports":[{{"port":80}}]}}}})",
        name));
  ASSERT_TRUE(cluster.until([&] { return !cluster.events("AllocationFailed").empty(); }));
  ASSERT_TRUE(cluster.quiet());
  EXPECT_EQ(address("late"), "");
  EXPECT_EQ(cluster.events("AllocationFailed").size(), 1U);
  const std::string let_go = address("a");
  cluster.remove(view::kServices, "a");
  EXPECT_TRUE(cluster.until([&] { return address("late") == let_go; }));
  EXPECT_TRUE(cluster.quiet());
}

TEST_P(ClusterTest, TheSameSeedIsTheSameRun) {
  const auto run = [&] {
    FakeCluster cluster(GetParam(), 3);
    cluster.create(deployment("web", 4));
    EXPECT_TRUE(cluster.until([&] { return complete(cluster, "web"); }));
    return std::pair(cluster.loop.steps(), cluster.store.now().revision);
  };
  EXPECT_EQ(run(), run());
}

INSTANTIATE_TEST_SUITE_P(Seeds, ClusterTest, ::testing::ValuesIn(seeds()),
                         [](const auto& test) { return fmt::format("seed{}", test.param); });

}  // namespace
}  // namespace shoal::fakes
