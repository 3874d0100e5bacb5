// SPDX-License-Identifier: Apache-2.0
// Whose a connection is: of a draining group, or of somebody else at the same pod.
#include "netplane/plan/drain.h"

#include "tests/unit/netplane/plan/plan_fixtures.h"

#include <gtest/gtest.h>

namespace shoal::plan {
namespace {

using model::FrontendKind;

class DrainTargetsTest : public testing::Test {
protected:
  DrainTargetsTest() {
    desired.services = {web("web", "10.96.0.1"), web("other", "10.96.0.2")};
    desired.services[1].groups = {{"version=blue", 5}, {"version=green", 5}};
    desired.services[1].frontends.push_back(
        {ip("198.18.0.99"), 30080, L4Proto::kTcp, FrontendKind::kExternalIp});
    desired.pods = {{.pod = "default/blue",
                     .uid = "u",
                     .addresses = {{blue.ip, 1}},
                     .host_ifindex = 1,
                     .pod_mac = {},
                     .host_mac = {}}};
  }
  static model::ServicePort web(std::string name, std::string_view vip) {
    model::ServicePort s;
    s.ns = "default";
    s.name = std::move(name);
    s.frontends = {{ip(vip), 80, L4Proto::kTcp, FrontendKind::kClusterIp}};
    s.groups = {{"version=blue", 0}, {"version=green", 5}};
    s.backends = {{ip("10.244.1.5"), 7000, 1, {}, "version=blue", "h1", "default/blue"},
                  {ip("10.244.2.5"), 7000, 1, {}, "version=green", "h2", "default/green"},
                  {ip("10.244.2.6"), 7000, 1, {}, "", "h2", "default/grey"}};
    return s;
  }
  DrainTargets targets() const { return {desired, groups}; }
  static SocketAddress at(std::string_view address, std::uint16_t port) {
    return {ip(address), port};
  }

  const SocketAddress blue{ip("10.244.1.5"), 7000};
  const SocketAddress green{ip("10.244.2.5"), 7000};
  const std::vector<model::DrainGroup> groups = {{"default", "none", "version=blue"},
                                                 {"default", "web", "version=blue"}};
  model::Desired desired = three_hosts();
};

TEST_F(DrainTargetsTest, OnlyWhatCameThroughTheServiceToItsGroupIsTheGroups) {
  const DrainTargets is = targets();
  EXPECT_EQ(is.groups(), 2U);
  EXPECT_EQ(is.group_of(L4Proto::kTcp, at("10.96.0.1", 80), blue), 1U);
  EXPECT_EQ(is.group_of(L4Proto::kTcp, at("10.96.0.1", 80), green), std::nullopt);
  EXPECT_EQ(is.group_of(L4Proto::kTcp, at("10.96.0.1", 80), at("10.244.2.6", 7000)), std::nullopt);
  EXPECT_EQ(is.group_of(L4Proto::kTcp, at("10.96.0.2", 80), blue), std::nullopt);
  EXPECT_EQ(is.group_of(L4Proto::kUdp, at("10.96.0.1", 80), blue), std::nullopt);
  EXPECT_EQ(is.group_of(L4Proto::kTcp, at("10.96.0.1", 81), blue), std::nullopt);
  EXPECT_EQ(is.group_of(L4Proto::kTcp, blue, blue), std::nullopt);
  EXPECT_TRUE(is.has_backend(L4Proto::kTcp, blue));
  EXPECT_FALSE(is.has_backend(L4Proto::kTcp, green));
  EXPECT_TRUE(is.is_pod_here(blue.ip));
  EXPECT_FALSE(is.is_pod_here(green.ip));
}

TEST_F(DrainTargetsTest, NodePortsCountAtTheAddressesOfOtherHostsToo) {
  desired.services[0].frontends.push_back(
      {ip("198.18.0.11"), 30080, L4Proto::kTcp, FrontendKind::kNodePort});
  const DrainTargets is = targets();
  EXPECT_EQ(is.group_of(L4Proto::kTcp, at("198.18.0.11", 30080), blue), 1U);
  EXPECT_EQ(is.group_of(L4Proto::kTcp, at("198.18.0.12", 30080), blue), 1U);
  EXPECT_EQ(is.group_of(L4Proto::kTcp, at("198.18.0.99", 30080), blue), std::nullopt)
      << "that is the other service's";
  EXPECT_EQ(is.group_of(L4Proto::kTcp, at("198.18.0.12", 30081), blue), std::nullopt);
}

TEST_F(DrainTargetsTest, AGroupThatIsNotAtZeroIsLeftAlone) {
  desired.services[0].groups = {{"version=blue", 1}, {"version=green", 5}};
  EXPECT_TRUE(targets().empty());
  EXPECT_EQ(targets().groups(), 2U);
}

TEST_F(DrainTargetsTest, AllPartsOfAServiceAndSeveralServicesOfAPodAreToldApart) {
  desired.services[1].groups = {{"version=blue", 0}};
  model::ServicePort outside = desired.services[0];
  outside.clients = model::Clients::kOutside;
  outside.frontends = {{ip("198.18.0.200"), 80, L4Proto::kTcp, FrontendKind::kLoadBalancer}};
  desired.services.push_back(outside);
  const std::vector<model::DrainGroup> both = {{"default", "other", "version=blue"},
                                               {"default", "web", "version=blue"},
                                               {"default", "web", "version=green"}};
  const DrainTargets is(desired, both);
  EXPECT_EQ(is.group_of(L4Proto::kTcp, at("10.96.0.2", 80), blue), 0U);
  EXPECT_EQ(is.group_of(L4Proto::kTcp, at("10.96.0.1", 80), blue), 1U);
  EXPECT_EQ(is.group_of(L4Proto::kTcp, at("198.18.0.200", 80), blue), 1U);
  EXPECT_EQ(is.group_of(L4Proto::kTcp, at("198.18.0.200", 80), green), std::nullopt);
}

}  // namespace
}  // namespace shoal::plan
