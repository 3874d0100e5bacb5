// SPDX-License-Identifier: Apache-2.0
#include "netplane/plan/routes.h"

#include "netplane/plan/nft_policy.h"
#include "netplane/plan/render.h"
#include "plan_fixtures.h"

namespace shoal::plan {
namespace {

Overlay applied(const model::Desired& desired) {
  std::vector<Issue> issues;
  return desired_overlay(desired, false, issues);
}

TEST(Overlay, RoutesEveryHostsCidrAndItsOwn) {
  EXPECT_EQ(render(applied(three_hosts())), "node 10.244.1.0/24 self\n"
                                            "node 10.244.2.0/24 198.18.0.12\n"
                                            "node 10.244.3.0/24 198.18.0.13\n"
                                            "route 10.244.1.0/24 src 198.18.0.11\n"
                                            "route 10.244.2.0/24 src 198.18.0.11\n"
                                            "route 10.244.3.0/24 src 198.18.0.11\n");
}

TEST(Overlay, RoutesServiceRangesAndWithoutSocketHooksWhatElseServicesHave) {
  model::Desired desired = three_hosts();
  desired.service_cidrs = {cidr("10.96.0.0/16")};
  model::ServicePort service;
  service.frontends = {{ip("10.96.0.10"), 80, L4Proto::kTcp, model::FrontendKind::kClusterIp},
                       {ip("198.18.0.201"), 80, L4Proto::kTcp, model::FrontendKind::kLoadBalancer},
                       {ip("198.18.0.202"), 80, L4Proto::kTcp, model::FrontendKind::kExternalIp},
                       {ip("198.18.0.11"), 30080, L4Proto::kTcp, model::FrontendKind::kNodePort}};
  desired.services = {service};
  const auto beyond_pods = [&](bool vips) {
    std::vector<Issue> issues;
    std::string out;
    for (const OverlayRoute& route : desired_overlay(desired, vips, issues).routes)
      if (!cidr("10.244.0.0/16").contains(route.destination.address()))
        out += route.destination.to_string() + " ";
    return out;
  };
  EXPECT_EQ(beyond_pods(false), "10.96.0.0/16 ");
  EXPECT_EQ(beyond_pods(true), "10.96.0.0/16 198.18.0.201/32 198.18.0.202/32 ");
  EXPECT_TRUE(plan_overlay(desired, applied(desired)).empty());
}

TEST(Overlay, PlansTheDifference) {
  model::Desired desired = three_hosts();
  const Overlay before = applied(desired);
  EXPECT_TRUE(plan_overlay(desired, before).empty());
  desired.nodes.pop_back();
  desired.nodes[1].underlay = ip("198.18.0.22");
  desired.nodes.push_back({"h4", ip("198.18.0.14"), {cidr("10.244.4.0/24")}, true});
  EXPECT_EQ(render(plan_overlay(desired, before)), "set-node 10.244.2.0/24 198.18.0.22\n"
                                                   "set-node 10.244.4.0/24 198.18.0.14\n"
                                                   "set-route 10.244.4.0/24 src 198.18.0.11\n"
                                                   "delete-route 10.244.3.0/24\n"
                                                   "delete-node 10.244.3.0/24\n");
  EXPECT_TRUE(plan_overlay(desired, applied(desired)).empty());
}

TEST(Overlay, DeletesNothingWithoutPrune) {
  const Overlay before = applied(three_hosts());
  EXPECT_TRUE(plan_overlay(model::Desired{}, before, false).empty());
}

TEST(Overlay, ADeadHostKeepsItsRoute) {
  model::Desired desired = three_hosts();
  const Overlay before = applied(desired);
  desired.nodes[2].alive = false;
  EXPECT_TRUE(plan_overlay(desired, before).empty());
}

TEST(Overlay, OrderDoesNotMatter) {
  model::Desired desired = three_hosts();
  desired.nodes.push_back({"h0", ip("198.18.0.9"), {cidr("10.244.2.0/24")}, true});
  std::vector<Issue> issues;
  const Overlay one = desired_overlay(desired, false, issues);
  std::reverse(desired.nodes.begin(), desired.nodes.end());
  EXPECT_EQ(desired_overlay(desired, false, issues), one);
  EXPECT_EQ(issues.size(), 2U);
}

TEST(NftPolicy, InsideIsTheClusterAndItsHosts) {
  EXPECT_EQ(render(desired_nft_policy(three_hosts())), "inside 10.244.0.0/16\n"
                                                       "inside 10.96.0.0/16\n"
                                                       "inside host 198.18.0.11\n"
                                                       "inside host 198.18.0.12\n"
                                                       "inside host 198.18.0.13\n"
                                                       "masquerade 10.244.1.0/24\n");
}

}  // namespace
}  // namespace shoal::plan
