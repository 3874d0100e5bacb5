// SPDX-License-Identifier: Apache-2.0
// Services of type LoadBalancer that wait for an address.
#include "agent/controllers/triggers.h"
#include "tests/unit/agent/controllers/world.h"

#include <gmock/gmock.h>

namespace shoal::controllers {
namespace {

using testing::HasSubstr;

class LoadBalancerTest : public ::testing::Test {
protected:
  LoadBalancerTest() { world.options.load_balancer_pools = {*IpPrefix::parse("198.18.0.200/31")}; }
  void put(std::string_view name, std::string_view ip, std::string_view more = "") {
    world.put(fakes::json_object(fmt::format(
        R"({{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{}"}},
            "spec":{{"type":"LoadBalancer","ipFamilies":["IPv4"],"ports":[{{"port":80}}]{}}},
            "status":{{"loadBalancer":{{{}}}}}}})",
        name, more, ip.empty() ? "" : fmt::format(R"("ingress":[{{"ip":"{}"}}])", ip))));
  }
  Plan look(std::string_view name) {
    return reconcile_load_balancer(world.world(),
                                   *world.view.get(view::kServices, "default", name));
  }
  std::string why(std::string_view name) {
    const Plan plan = look(name);
    EXPECT_TRUE(plan.steps.empty());
    EXPECT_EQ(plan.notes.size(), 1U);
    return plan.notes.empty() ? "" : plan.notes[0].reason + ": " + plan.notes[0].message;
  }

  TestWorld world;
};

TEST_F(LoadBalancerTest, SaysWhyAServiceIsPending) {
  put("a", "198.18.0.200");
  put("b", "198.18.0.201");
  EXPECT_TRUE(look("a").notes.empty());
  put("full", "");
  EXPECT_THAT(why("full"), HasSubstr("AllocationFailed: no address is free in 198.18.0.200/31: "
                                     "delete a Service that has one"));
  put("taken", "", R"(,"loadBalancerIP":"198.18.0.201")");
  EXPECT_THAT(why("taken"), HasSubstr("198.18.0.201 is another Service's"));
  put("outside", "", R"(,"loadBalancerIP":"203.0.113.7")");
  EXPECT_THAT(why("outside"), HasSubstr("203.0.113.7 is not in 198.18.0.200/31"));
  world.options.load_balancer_pools.clear();
  EXPECT_THAT(why("full"), HasSubstr("this cluster has no IPv4 addresses for load balancers"));
  put("other", "", R"(,"loadBalancerClass":"other.dev/lb")");
  EXPECT_TRUE(look("other").notes.empty());
}

TEST_F(LoadBalancerTest, WritesTheServiceAgainOnceAnAddressIsFree) {
  put("a", "198.18.0.200");
  put("b", "198.18.0.201");
  put("waits", "");
  std::vector<Item> items;
  const auto subscription = world.view.subscribe([&](const view::Change& change) {
    items_of_change(world.view, world.members, change, [&](const Item& item) {
      if (item.controller == ControllerId::kLoadBalancer)
        items.push_back(item);
    });
  });
  put("b", "198.18.0.201", R"(,"sessionAffinity":"ClientIP")");
  EXPECT_EQ(items.size(), 1U);  // itself: it let nothing go
  items.clear();
  world.remove(view::kServices, "default", "b");
  EXPECT_THAT(items, testing::Contains(Item{ControllerId::kLoadBalancer,
                                            {std::string(view::kServices), "default", "waits"}}));
  const Plan plan = look("waits");
  EXPECT_TRUE(plan.notes.empty());
  ASSERT_EQ(plan.steps.size(), 1U);
  EXPECT_TRUE(std::holds_alternative<Update>(plan.steps[0].op));
  EXPECT_TRUE(look("a").steps.empty());
}

}  // namespace
}  // namespace shoal::controllers
