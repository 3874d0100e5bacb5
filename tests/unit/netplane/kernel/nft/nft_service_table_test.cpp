// SPDX-License-Identifier: Apache-2.0
// The service table in a kernel: plans are carried out, and what is read back is what they say.
#include "netplane/base/process.h"
#include "netplane/kernel/nft/nft_service_table.h"
#include "netplane/kernel/rtnl/netns.h"
#include "netplane/plan/nft_services.h"

#include <chrono>
#include <sched.h>
#include <thread>

namespace shoal::kernel {
namespace {

IpAddress ip(std::string_view text) { return *IpAddress::parse(text); }

model::NftSetup setup() { return {.host_v4 = ip("198.18.0.11"), .tunnel_port = 4789}; }

model::Backend backend(std::string_view address, std::string_view group = {}) {
  return {.ip = ip(address), .port = 7000, .group = std::string(group), .host = "h1"};
}

model::ServicePort web(IpFamily family = IpFamily::kV4) {
  model::ServicePort service{.ns = "default", .name = "web", .family = family};
  const bool v4 = family == IpFamily::kV4;
  service.frontends = {{.ip = ip(v4 ? "10.96.0.10" : "fd10:96::10"), .port = 80},
                       {.ip = ip(v4 ? "198.18.0.209" : "2001:db8:1::d1"),
                        .port = 80,
                        .kind = model::FrontendKind::kLoadBalancer}};
  service.groups = {{"blue", 90}, {"green", 10}};
  service.backends = {backend(v4 ? "10.244.1.2" : "fd10:244::2", "blue"),
                      backend(v4 ? "10.244.1.3" : "fd10:244::3", "blue"),
                      backend(v4 ? "10.244.1.4" : "fd10:244::4", "green")};
  return service;
}

model::Desired desired(std::vector<model::ServicePort> services) {
  model::Desired desired{.self = "h1"};
  desired.nodes = {{"h1", ip("198.18.0.11"), {*IpPrefix::parse("10.244.1.0/24")}},
                   {"h2", ip("198.18.0.12"), {*IpPrefix::parse("10.244.2.0/24")}}};
  desired.pods = {{.pod = "default/a", .addresses = {{ip("10.244.1.2")}, {ip("fd10:244::2")}}}};
  desired.services = std::move(services);
  return desired;
}

class NftServiceTableTest : public testing::Test {
protected:
  NftServiceTableTest()
      : netns_(*create_netns()), table_(*open_nft_service_table(64, netns_.get())) {}

  // Applies, and holds what is in the kernel against what is believed to be.
  std::size_t apply(const model::Desired& desired, bool prune = true) {
    plan::NftPlan plan = plan::plan_nft_services(desired, setup(), actual_, {.prune = prune});
    EXPECT_TRUE(plan.issues.empty());
    const Result<> done = table_->commit(plan.change);
    EXPECT_TRUE(done) << done.error().message();
    actual_.note(plan.change);
    actual_.learn(plan);
    const auto held = table_->read();
    EXPECT_TRUE(held);
    EXPECT_EQ(dump(*held), dump(actual_.held));
    const plan::NftPlan again =
        plan::plan_nft_services(desired, setup(), {*held, {}}, {.prune = prune});
    EXPECT_TRUE(again.change.empty()) << "a second plan finds something to do";
    return plan.change.operations();
  }

  UniqueFd netns_;
  std::unique_ptr<NftServiceTable> table_;
  plan::NftActual actual_;
};

TEST_F(NftServiceTableTest, WhatIsPlannedIsHeld) {
  EXPECT_FALSE(*table_->present());
  model::ServicePort affine = web(IpFamily::kV6);
  affine.affinity_s = 600;
  affine.source_ranges = {*IpPrefix::parse("2001:db8:1::/64")};
  apply(desired({web(), affine}));
  EXPECT_TRUE(*table_->present());
  EXPECT_THAT(dump(actual_.held),
              testing::HasSubstr("outside [2001:db8:1::d1]:80/TCP default/web//TCP/v6 gated"));

  // A weight is a chain's rules; a backend that goes, an element; and nothing else is touched.
  model::ServicePort moved = web();
  moved.groups[0].weight = 50;
  EXPECT_EQ(apply(desired({moved, affine})), 1U);
  moved.backends.edit()[0].ip = ip("10.244.1.9");
  EXPECT_EQ(apply(desired({moved, affine})), 2U);
  moved.backends.clear();
  apply(desired({moved, affine}));
  affine.affinity_s = 0;
  affine.source_ranges.clear();
  apply(desired({moved, affine}));
  apply(desired({affine}));
  apply(desired({}));
  EXPECT_TRUE(table_->remove());
  EXPECT_FALSE(*table_->present());
  EXPECT_TRUE(table_->remove());
}

TEST_F(NftServiceTableTest, BeforePruningIsAllowedNothingGoes) {
  apply(desired({web()}));
  const std::string before = dump(actual_.held);
  plan::NftActual restarted{*table_->read(), {}};
  model::ServicePort less = web();
  less.backends.pop_back();
  for (const auto& view : {desired({}), desired({less})}) {
    const auto plan = plan::plan_nft_services(view, setup(), restarted, {.prune = false});
    EXPECT_TRUE(plan.change.empty());
  }
}

TEST_F(NftServiceTableTest, ATableThatSomebodyHasChangedShows) {
  apply(desired({web()}));
  model::NftChange foreign;
  foreign.vips.remove.push_back(ip("198.18.0.209"));
  ASSERT_TRUE(table_->commit(foreign));
  EXPECT_NE(dump(*table_->read()), dump(actual_.held));
  ASSERT_TRUE(table_->remove());
  EXPECT_EQ(*table_->read(), model::NftHeld());
}

// Without the sets that this one has: it is not refused, but made anew.
TEST_F(NftServiceTableTest, ATableOfAnotherVersionIsMadeAnew) {
  std::thread([&] {
    ASSERT_EQ(setns(netns_.get(), CLONE_NEWNET), 0);
    const auto made = run_checked({"nft", "add", "table", "inet", "shoal-services"});
    ASSERT_TRUE(made) << made.error().message();
  }).join();
  const auto held = table_->read();
  ASSERT_TRUE(held) << held.error().message();
  EXPECT_EQ(held->setup, 0U);
  actual_ = {*held, {}};
  apply(desired({web()}));
}

TEST_F(NftServiceTableTest, ARefusedChangeChangesNothing) {
  apply(desired({web()}));
  model::NftChange wrong;
  wrong.vips.add.push_back(ip("198.18.0.1"));
  wrong.inside.add.push_back({{ip("10.96.0.99"), 80}, {"default/nobody//TCP"}});
  const Result<> done = table_->commit(wrong);
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message(), testing::HasSubstr("add elements of set inside4"));
  EXPECT_EQ(dump(*table_->read()), dump(actual_.held));
}

TEST_F(NftServiceTableTest, ManyServicesAreOneTransaction) {
  constexpr unsigned kServices = 5000;
  model::Desired many = desired({});
  for (unsigned i = 0; i < kServices; i++) {
    model::ServicePort service{.ns = "default", .name = fmt::format("s{}", i)};
    service.frontends = {{.ip = ip("10.96.0.0").plus(i + 1), .port = 80}};
    for (unsigned b = 0; b < 10; b++)
      service.backends.push_back(backend(ip("10.128.0.0").plus(i * 10 + b).to_string()));
    many.services.push_back(std::move(service));
  }
  using clock = std::chrono::steady_clock;
  const auto start = clock::now();
  plan::NftPlan plan = plan::plan_nft_services(many, setup(), actual_, {});
  const auto planned = clock::now();
  ASSERT_TRUE(table_->commit(plan.change));
  const auto committed = clock::now();
  actual_.note(plan.change);
  actual_.learn(plan);
  const auto held = table_->read();
  const auto read = clock::now();
  ASSERT_TRUE(held);
  EXPECT_TRUE(*held == actual_.held);
  many.services[kServices / 2].backends.edit()[0].ip = ip("10.200.0.1");
  const std::size_t at[] = {kServices / 2};
  const auto change = clock::now();
  plan = plan::plan_nft_backends(many, at, actual_, {});
  EXPECT_EQ(plan.change.operations(), 2U);
  ASSERT_TRUE(table_->commit(plan.change));
  const auto changed = clock::now();
  const auto ms = [](auto from, auto to) {
    return std::chrono::duration<double, std::milli>(to - from).count();
  };
  RecordProperty("plan_ms", fmt::format("{:.1f}", ms(start, planned)));
  RecordProperty("commit_ms", fmt::format("{:.1f}", ms(planned, committed)));
  RecordProperty("read_ms", fmt::format("{:.1f}", ms(committed, read)));
  RecordProperty("change_ms", fmt::format("{:.2f}", ms(change, changed)));
}

}  // namespace
}  // namespace shoal::kernel
