// SPDX-License-Identifier: Apache-2.0
#include "netplane/plan/routes.h"

#include "netplane/plan/nft_policy.h"
#include "netplane/plan/render.h"
#include "plan_fixtures.h"

namespace shoal::plan {
namespace {

Overlay applied(const model::Desired& desired) {
  std::vector<Issue> issues;
  return desired_overlay(desired, {}, issues);
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
    for (const OverlayRoute& route :
         desired_overlay(desired, {.vips = vips, .native = {}}, issues).routes)
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

TEST(NativeRoutes, LeadToHostsThatAreOnALinkAndOthersKeepTheOverlay) {
  model::Desired desired = three_hosts();
  desired.nodes[2].underlay = ip("203.0.113.13");
  for (model::Node& node : desired.nodes)
    node.pod_cidrs.push_back(cidr(("fd10:244:0:" + node.name.substr(1) + "::/64").c_str()));
  desired.nodes[0].lan_v6 = ip("2001:db8:1::11");
  desired.nodes[1].lan_v6 = ip("2001:db8:1::12");
  OverlayOptions options;
  options.native = {{7, {cidr("192.0.2.0/24")}},
                    {8, {cidr("198.18.0.0/24"), cidr("2001:db8:1::/64")}}};
  std::vector<Issue> issues;
  const Overlay native = desired_overlay(desired, options, issues);
  EXPECT_TRUE(issues.empty());
  EXPECT_EQ(render(native), "node 10.244.1.0/24 self\n"
                            "node 10.244.2.0/24 198.18.0.12 native\n"
                            "node 10.244.3.0/24 203.0.113.13\n"
                            "node fd10:244:0:1::/64 self\n"
                            "node fd10:244:0:2::/64 198.18.0.12 native\n"
                            "node fd10:244:0:3::/64 203.0.113.13\n"
                            "route 10.244.1.0/24 src 198.18.0.11\n"
                            "route 10.244.2.0/24 via 198.18.0.12 link 8 src 198.18.0.11\n"
                            "route 10.244.3.0/24 src 198.18.0.11\n"
                            "route fd10:244:0:1::/64 src 2001:db8:1::11\n"
                            "route fd10:244:0:2::/64 via 2001:db8:1::12 link 8 src 2001:db8:1::11\n"
                            "route fd10:244:0:3::/64 src 2001:db8:1::11\n");
  EXPECT_THAT(overlay_detours(desired, options),
              testing::ElementsAre(
                  testing::AllOf(testing::HasSubstr("host h3 (203.0.113.13) is on no link"),
                                 testing::HasSubstr("10.244.3.0/24"),
                                 testing::HasSubstr("network.mode to vxlan on all hosts")),
                  testing::HasSubstr("host h3 has no IPv6 address")));
  EXPECT_TRUE(overlay_detours(desired, {}).empty());

  // From one mode to the other: the entry and the route are replaced, and nothing is deleted.
  EXPECT_EQ(render(plan_overlay(desired, applied(desired), true, options)),
            "set-node 10.244.2.0/24 198.18.0.12 native\n"
            "set-node fd10:244:0:2::/64 198.18.0.12 native\n"
            "set-route 10.244.2.0/24 via 198.18.0.12 link 8 src 198.18.0.11\n"
            "set-route fd10:244:0:2::/64 via 2001:db8:1::12 link 8 src 2001:db8:1::11\n");
  // A host that leaves takes its routes along.
  desired.nodes.erase(desired.nodes.begin() + 1);
  EXPECT_EQ(render(plan_overlay(desired, native, true, options)),
            "delete-route 10.244.2.0/24\n"
            "delete-route fd10:244:0:2::/64\n"
            "delete-node 10.244.2.0/24\n"
            "delete-node fd10:244:0:2::/64\n");
  EXPECT_TRUE(plan_overlay(desired, native, false, options).empty());
}

TEST(Overlay, OrderDoesNotMatter) {
  model::Desired desired = three_hosts();
  desired.nodes.push_back({"h0", ip("198.18.0.9"), {cidr("10.244.2.0/24")}, true});
  std::vector<Issue> issues;
  const Overlay one = desired_overlay(desired, {}, issues);
  std::reverse(desired.nodes.begin(), desired.nodes.end());
  EXPECT_EQ(desired_overlay(desired, {}, issues), one);
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
