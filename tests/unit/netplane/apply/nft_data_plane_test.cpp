// SPDX-License-Identifier: Apache-2.0
// NftDataPlane on the real kernel, in a network namespace of the test's own.
#include "netplane/apply/nft_data_plane.h"
#include "netplane/base/process.h"
#include "netplane/kernel/rtnl/netns.h"
#include "netplane/kernel/rtnl/pod_net.h"
#include "tests/fakes/fake_clock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <optional>

namespace shoal::apply {
namespace {

IpAddress ip(std::string_view text) { return *IpAddress::parse(text); }
IpPrefix cidr(std::string_view text) { return *IpPrefix::parse(text); }

std::string sh(const std::string& command) {
  const Result<std::string> done = run_checked({"sh", "-ec", command});
  return done ? *done : "failed: " + done.error().message();
}

class NftDataPlaneTest : public testing::Test {
protected:
  NftDataPlaneTest() : netns_(*kernel::create_netns()) {
    scope_.emplace(*kernel::NetnsScope::enter(netns_.get()));
    EXPECT_EQ(sh("ip link set lo up; ip link add eth0 type veth peer name lan; ip link set lan up;"
                 "ip link set eth0 up; ip addr add 198.18.0.11/24 dev eth0"),
              "");
    config_.proxy = ProxyMode::kNftables;
    config_.node_name = "h1";
    config_.uplink = "eth0";
    config_.bpffs = "/nowhere/shoal";
    open();

    desired_.self = "h1";
    desired_.nodes = {{"h1", ip("198.18.0.11"), {cidr("10.244.1.0/24")}},
                      {"h2", ip("198.18.0.12"), {cidr("10.244.2.0/24")}}};
    desired_.cluster_cidrs = {cidr("10.244.0.0/16"), cidr("10.96.0.0/16")};
    desired_.announced_vips = {ip("198.18.0.209")};
    model::ServicePort web{.ns = "default", .name = "web"};
    web.frontends = {
        {.ip = ip("10.96.0.10"), .port = 80},
        {.ip = ip("198.18.0.209"), .port = 80, .kind = model::FrontendKind::kLoadBalancer}};
    web.backends = {{.ip = ip("10.244.1.2"), .port = 7000, .host = "h1"},
                    {.ip = ip("10.244.2.2"), .port = 7000, .host = "h2"}};
    desired_.services = {web};
  }

  void open() {
    plane_.reset();
    auto opened = NftDataPlane::open(config_, clock_);
    ASSERT_TRUE(opened) << opened.error().message();
    plane_ = *std::move(opened);
  }
  void apply(bool prune = true) {
    const ApplyReport report = plane_->apply(desired_, prune);
    for (const ObjectError& error : report.errors)
      ADD_FAILURE() << error.object << ": " << error.error.message();
  }
  // All that is Shoal's in this namespace.
  std::string held() {
    return sh("nft list tables | sort; nft list table netdev shoal-overlay; ip route show proto 83;"
              "ip neigh show proxy; ip -br link show type vxlan | cut -c1-12") +
           *plane_->dump();
  }

  UniqueFd netns_;
  std::optional<kernel::NetnsScope> scope_;
  FakeClock clock_;
  Config config_;
  model::Desired desired_;
  std::unique_ptr<NftDataPlane> plane_;
};

TEST_F(NftDataPlaneTest, TheKernelHoldsWhatIsAskedFor) {
  apply();
  const std::string now = held();
  EXPECT_THAT(now, testing::HasSubstr("10.244.2.0/24  encap ip id 1 src 0.0.0.0 dst 198.18.0.12"));
  EXPECT_THAT(now, testing::HasSubstr("198.18.0.209 dev eth0 proxy"));
  EXPECT_THAT(now, testing::HasSubstr("outside 198.18.0.209:80/TCP default/web//TCP"));
  EXPECT_EQ(plane_->apply(desired_, true).operations, 0U);
  desired_.services.clear();
  desired_.announced_vips.clear();
  apply();
  EXPECT_THAT(held(), testing::Not(testing::HasSubstr("198.18.0.209")));
}

TEST_F(NftDataPlaneTest, NoAddressIsAnnouncedBeforeTheViewIsComplete) {
  EXPECT_TRUE(plane_->apply(desired_, false).ok());
  EXPECT_THAT(held(), testing::Not(testing::HasSubstr("198.18.0.209 dev eth0 proxy")));
  apply();
  EXPECT_THAT(held(), testing::HasSubstr("198.18.0.209 dev eth0 proxy"));
  EXPECT_TRUE(plane_->apply(desired_, false).ok());
  EXPECT_THAT(held(), testing::HasSubstr("198.18.0.209 dev eth0 proxy"));
}

TEST_F(NftDataPlaneTest, AChangeOfBackendsIsOneElement) {
  apply();
  desired_.services[0].backends.edit()[1].ip = ip("10.244.2.9");
  const std::size_t changed[] = {0};
  const ApplyReport report = plane_->apply(desired_, true, changed);
  EXPECT_TRUE(report.ok());
  EXPECT_EQ(report.operations, 2U);  // one goes, one comes
  EXPECT_THAT(held(), testing::HasSubstr("10.244.2.9:7000"));
  EXPECT_EQ(plane_->apply(desired_, true).operations, 0U);
}

TEST_F(NftDataPlaneTest, ARestartChangesNothingAndPrunesNothingEarly) {
  apply();
  const std::string before = held();
  const std::string rules = sh("nft -a list table inet shoal-services");
  open();
  EXPECT_EQ(plane_->apply(desired_, true).operations, 0U);
  EXPECT_EQ(sh("nft -a list table inet shoal-services"), rules);
  open();
  model::Desired nothing;
  nothing.self = "h1";
  nothing.nodes = {desired_.nodes[0]};
  nothing.cluster_cidrs = desired_.cluster_cidrs;
  std::swap(desired_, nothing);
  apply(false);
  EXPECT_EQ(held(), before);
  apply(true);
  EXPECT_THAT(held(), testing::Not(testing::HasSubstr("default/web")));
}

TEST_F(NftDataPlaneTest, TheAuditPutsBackWhatSomebodyTook) {
  apply();
  const std::string right = held();
  const std::pair<const char*, const char*> deeds[] = {
      {"nft delete table inet shoal-services", "the table inet shoal-services was changed"},
      {"nft flush chain inet shoal-services svc/default/web//TCP",
       "the table inet shoal-services was changed"},
      {"nft insert rule inet shoal-services prerouting drop",
       "the table inet shoal-services was changed"},
      {"nft delete table inet shoal", "the table inet shoal was changed"},
      {"nft delete table netdev shoal-overlay", "the device shoal-vxlan or its table was gone"},
      {"ip route del 10.244.2.0/24", "the route to 10.244.2.0/24 was changed"},
      {"ip neigh del proxy 198.18.0.209 dev eth0",
       "the proxy entries of announced addresses were changed"},
      {"ip link del shoal-vxlan", "the device shoal-vxlan or its table was gone"}};
  for (const auto& [deed, finding] : deeds) {
    ASSERT_EQ(sh(deed), "") << deed;
    const AuditReport report = plane_->audit();
    EXPECT_THAT(report.findings, testing::Contains(finding)) << deed;
    EXPECT_TRUE(report.errors.empty()) << deed << ": " << report.errors[0].error.message();
    EXPECT_EQ(held(), right) << deed;
    EXPECT_TRUE(plane_->audit().findings.empty()) << deed;
  }
}

TEST_F(NftDataPlaneTest, APodIsWiredAndTakenApart) {
  apply();
  const UniqueFd pod = *kernel::create_netns();
  const auto attached = plane_->attach_pod({"default/a", "uid-a", pod.get(), {{ip("10.244.1.2")}}});
  ASSERT_TRUE(attached) << attached.error().message();
  EXPECT_THAT(*plane_->dump(), testing::HasSubstr("pod 10.244.1.2"));
  EXPECT_THAT(sh("ping -c1 -W2 10.244.1.2"), testing::HasSubstr(" 0% packet loss"));
  apply();  // not named yet, and kept
  EXPECT_THAT(*plane_->dump(), testing::HasSubstr("pod 10.244.1.2"));
  EXPECT_TRUE(plane_->detach_pod("uid-a", {ip("10.244.1.2")}, DataPlane::Detach::kNow));
  EXPECT_THAT(*plane_->dump(), testing::Not(testing::HasSubstr("pod 10.244.1.2")));
  EXPECT_TRUE(plane_->detach_pod("uid-a", {ip("10.244.1.2")}, DataPlane::Detach::kNow));
}

TEST_F(NftDataPlaneTest, WhatItCannotTellItSaysByName) {
  apply();
  EXPECT_EQ(plane_->begin_flows({}).error().code(), Errc::kUnsupported);
  EXPECT_THAT(plane_->trace({}).error().message(), testing::HasSubstr("proxy: nftables"));
  EXPECT_EQ(plane_->service_view("default/nobody:/TCP").error().code(), Errc::kNotFound);
  const auto view = plane_->service_view("default/web:/TCP");
  ASSERT_TRUE(view);
  EXPECT_EQ(view->frontends.size(), 2U);
  EXPECT_EQ(view->shares[0].ready, 2U);
  EXPECT_DOUBLE_EQ(view->backends[0].effective, 0.5);
  EXPECT_EQ(plane_->drops()->size(), 5U);
  EXPECT_EQ(plane_->counters()->services.size(), 1U);
}

}  // namespace
}  // namespace shoal::apply
