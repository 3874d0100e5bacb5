// SPDX-License-Identifier: Apache-2.0
// What the golden files do not show well: tables that run full, cost, and rare orders of events.
#include "netplane/plan/lb.h"

#include "map_state.h"
#include "netplane/plan/render.h"
#include "plan_fixtures.h"

namespace shoal::plan {
namespace {

class ServicePlan : public testing::Test {
protected:
  Plan apply(bool prune = true) {
    Plan plan = plan_services(desired_, actual_, {.prune = prune});
    stamp_++;
    for (const Learned& learned : plan.learned)
      actual_.learn(learned);
    for (const Op& op : plan.ops) {
      maps_.apply(op);
      actual_.note(op, stamp_);
    }
    EXPECT_THAT(maps_.violations(), testing::IsEmpty());
    return plan;
  }
  void grace() {
    actual_.release(stamp_);
    maps_.grace();
  }
  FrontendKey key(unsigned n) const {
    const model::Frontend f = service(n, 0).frontends[0];
    return {f.ip, f.port, f.proto};
  }
  std::string issues(const Plan& plan) const {
    std::string out;
    for (const Issue& issue : plan.issues)
      out += issue.object + ": " + issue.error.message() + "\n";
    return out;
  }

  model::Desired desired_ = three_hosts();
  Actual actual_;
  MapState maps_;
  Stamp stamp_ = 0;
};

TEST_F(ServicePlan, AChangeTouchesItsOwnServiceOnly) {
  for (unsigned i = 0; i < 50; i++)
    desired_.services.push_back(service(i, 4));
  apply();
  desired_.services[20].backends.pop_back();
  const Plan plan = apply();
  const std::string text = render(plan);
  std::string its;
  for (const Learned& learned : plan.learned)
    if (learned.name == desired_.services[20].id())
      its = fmt::format("service={}", learned.service);
  EXPECT_THAT(text, testing::HasSubstr("write-ring " + its));
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    EXPECT_TRUE(line.find(its) != std::string::npos) << line;
}

TEST_F(ServicePlan, AHostsNewAddressIsWrittenInPlace) {
  desired_.services.push_back(service(0, 2));
  apply();
  desired_.nodes[1].underlay = ip("198.18.0.99");
  EXPECT_EQ(render(apply()),
            "set-backend 2 10.244.2.1:8080 gen=1 epoch=1 node=198.18.0.99 service=0\n");
}

TEST_F(ServicePlan, HowAHostIsReachedIsWrittenInPlaceAndNotOfThisOne) {
  desired_.services.push_back(service(0, 2));
  apply();
  for (model::Node& node : desired_.nodes)
    node.snat = true;
  EXPECT_EQ(render(apply()),
            "set-backend 2 10.244.2.1:8080 gen=1 epoch=1 node=198.18.0.12 snat service=0\n");
}

TEST_F(ServicePlan, NoIndexLeft) {
  actual_ = Actual({.services = 2});
  for (unsigned i = 0; i < 3; i++)
    desired_.services.push_back(service(i, 1));
  EXPECT_THAT(issues(apply()), testing::HasSubstr("s2:http/TCP: all 2 service indexes are in use"));
  EXPECT_EQ(maps_.picks(key(1)).size(), 1U);
  EXPECT_FALSE(maps_.has_frontend(key(2)));
  // It takes the place of one that goes, after the grace.
  desired_.services.erase(desired_.services.begin());
  apply();
  EXPECT_FALSE(maps_.has_frontend(key(2)));
  grace();
  EXPECT_TRUE(apply().issues.empty());
  EXPECT_EQ(maps_.picks(key(2)).size(), 1U);
}

TEST_F(ServicePlan, NoBackendIdLeftServesWithTheRest) {
  actual_ = Actual({.backends = 4});
  desired_.services = {service(0, 2), service(1, 2)};
  EXPECT_THAT(issues(apply()),
              testing::HasSubstr("gets no connections: all 3 backend ids are in use"));
  EXPECT_EQ(maps_.picks(key(0)).size(), 2U);
  EXPECT_EQ(maps_.picks(key(1)).size(), 1U);
}

TEST_F(ServicePlan, NoRingBlockLeftKeepsTheOldRing) {
  actual_ = Actual({.ring_blocks = 9});
  desired_.services = {service(0, 3)};  // 8 blocks of 9
  apply();
  desired_.services[0].backends.clear();
  for (unsigned i = 0; i < 2; i++)
    desired_.services[0].backends.push_back(backend(0, i + 4));
  const Plan plan = apply();
  EXPECT_THAT(issues(plan), testing::HasSubstr("ring blocks in a row are free"));
  // The old ring stays whole: nothing that it names is retired.
  EXPECT_EQ(maps_.picks(key(0)).size(), 3U);
  EXPECT_THAT(render(plan), testing::Not(testing::HasSubstr("retire")));
}

TEST_F(ServicePlan, NoFrontendEntryLeft) {
  actual_ = Actual({.frontends = 1, .vips = 1});
  desired_.services = {service(0, 1), service(1, 1)};
  const std::string text = issues(apply());
  EXPECT_THAT(text, testing::HasSubstr("10.96.0.2:80 is not served: all 1 entries are in use"));
  EXPECT_THAT(text, testing::HasSubstr("address 10.96.0.2: all 1 entries are in use"));
  EXPECT_EQ(maps_.picks(key(0)).size(), 1U);
}

TEST_F(ServicePlan, ARingTooLargeIsRefused) {
  desired_.services = {service(0, 0)};
  for (unsigned i = 0; i < 10'486; i++) {
    model::Backend b = backend(0, 0);
    b.ip = IpAddress::v4(0x0b000000 + i);
    desired_.services[0].backends.push_back(b);
  }
  EXPECT_THAT(issues(apply()), testing::HasSubstr("and 1048576 is the most"));
}

TEST_F(ServicePlan, AFrontendThatChangesHandsNeverStopsServing) {
  desired_.services = {service(0, 1), service(1, 1)};
  apply();
  // s0 goes, and s1 gets its frontend beside its own.
  desired_.services[1].frontends.push_back(desired_.services[0].frontends[0]);
  desired_.services.erase(desired_.services.begin());
  const Plan plan = plan_services(desired_, actual_);
  for (const Op& op : split_items(plan)) {
    maps_.apply(op);
    actual_.note(op, 2);
    EXPECT_FALSE(maps_.picks(key(0)).empty()) << render(plan);
    EXPECT_FALSE(maps_.picks(key(1)).empty()) << render(plan);
  }
  EXPECT_EQ(maps_.picks(key(0)), maps_.picks(key(1)));
}

TEST_F(ServicePlan, ABackendThatComesBackKeepsItsIdAndFlows) {
  desired_.services = {service(0, 2)};
  apply();
  const auto before = maps_.picks(key(0));
  const model::Backend gone = desired_.services[0].backends.back();
  desired_.services[0].backends.pop_back();
  apply();
  desired_.services[0].backends.push_back(gone);
  apply();
  EXPECT_EQ(maps_.picks(key(0)), before);
  grace();
  EXPECT_TRUE(apply().empty());
}

TEST_F(ServicePlan, TheLatestLeaseOfAnAddressGetsTheSlots) {
  desired_.services = {service(0, 1)};
  desired_.services[0].backends.push_back(desired_.services[0].backends[0]);
  desired_.services[0].backends.edit()[1].generation = 9;
  apply();
  const auto picks = maps_.picks(key(0));
  ASSERT_EQ(picks.size(), 1U);
  EXPECT_EQ(maps_.backend(picks.begin()->first)->generation, 9);
}

TEST_F(ServicePlan, AnIncompleteViewTakesNoBackendAway) {
  desired_.services = {service(0, 3)};
  apply();
  const auto before = maps_.picks(key(0));
  actual_ = Actual::recover(maps_.dump(), actual_.limits());
  model::Desired empty = three_hosts();
  std::swap(empty, desired_);
  EXPECT_TRUE(apply(false).empty());
  std::swap(empty, desired_);
  desired_.services[0].backends.resize(1);
  EXPECT_TRUE(apply(false).empty());
  EXPECT_EQ(maps_.picks(key(0)), before);
  // Nor does a host that is not there yet, or that has not been heard of.
  desired_.services = {service(0, 3)};
  desired_.nodes[1].alive = false;
  desired_.nodes.pop_back();
  EXPECT_TRUE(apply(false).empty());
  // One that is named as terminating is known to be.
  desired_ = three_hosts();
  desired_.services = {service(0, 3)};
  desired_.services[0].backends.edit()[2].state = model::BackendState::kTerminating;
  apply(false);
  EXPECT_EQ(maps_.picks(key(0)).size(), 2U);
}

// What affinity led somewhere has an entry, which counts as long as the frontend is there.
TEST_F(ServicePlan, WhereAffinityWasConnectionsHaveEntries) {
  desired_.services = {service(0, 2), service(1, 2)};
  desired_.services[0].affinity_s = 60;
  apply();
  const auto entry = [&](unsigned n) {
    return actual_.frontends().at({desired_.services[n].frontends[0].ip,
                                   desired_.services[n].frontends[0].port,
                                   desired_.services[n].frontends[0].proto});
  };
  EXPECT_FALSE(entry(0).entries) << "while there is affinity, that says so";
  desired_.services[0].affinity_s = 0;
  apply();
  EXPECT_TRUE(entry(0).entries);
  EXPECT_EQ(entry(0).affinity_s, 0U);
  EXPECT_FALSE(entry(1).entries);
  EXPECT_TRUE(apply().empty());
  actual_ = Actual::recover(maps_.dump(), actual_.limits());
  EXPECT_TRUE(apply().empty());
  EXPECT_TRUE(entry(0).entries);
}

// A host is asked about connections while it is alive and understands.
TEST_F(ServicePlan, OnlyLiveHostsThatAnswerAreAsked) {
  desired_.services = {service(0, 3)};
  const auto answering = [&] {
    std::set<std::string> out;
    for (BackendId id = 1; id <= 3; id++)
      if (maps_.backend(id)->answers)
        out.insert(maps_.backend(id)->node.to_string());
    return out;
  };
  apply();
  EXPECT_TRUE(answering().empty());
  for (model::Node& node : desired_.nodes)
    node.answers = true;
  apply();
  EXPECT_EQ(answering(), (std::set<std::string>{"198.18.0.12", "198.18.0.13"})) << "not this one";
  desired_.nodes[1].alive = false;
  apply();
  EXPECT_EQ(answering(), std::set<std::string>{"198.18.0.13"});
  // A view that is not complete yet is no news of a death.
  desired_.nodes[2].alive = false;
  apply(false);
  EXPECT_EQ(answering(), std::set<std::string>{"198.18.0.13"});
  apply();
  EXPECT_TRUE(answering().empty());
}

TEST_F(ServicePlan, ADistrustedRingIsWrittenAgain) {
  desired_.services = {service(0, 2)};
  apply();
  actual_.distrust_ring(0);
  EXPECT_THAT(render(apply()), testing::HasSubstr("write-ring service=0"));
  EXPECT_TRUE(apply().empty());
}

TEST_F(ServicePlan, ARingThatMakesNoSenseIsReplaced) {
  desired_.services = {service(0, 2), service(1, 2)};
  apply();
  model::DataPlane dump = maps_.dump();
  dump.rings[1].ref = dump.rings[0].ref;  // two rings in one place
  dump.rings[1].backends[3] = 77;         // and a slot that names nobody
  actual_ = Actual::recover(dump, actual_.limits());
  const std::string text = render(plan_services(desired_, actual_));
  EXPECT_THAT(text, testing::HasSubstr("switch-ring service=1 to slots=256"));
  EXPECT_THAT(text, testing::Not(testing::HasSubstr("switch-ring service=0")));
}

TEST_F(ServicePlan, AHostsOwnAddressIsNoServiceAddress) {
  desired_.services = {service(0, 1)};
  desired_.services[0].frontends.push_back(
      {ip("198.18.0.11"), 80, L4Proto::kTcp, model::FrontendKind::kExternalIp});
  apply();
  EXPECT_TRUE(maps_.has_frontend({ip("198.18.0.11"), 80, L4Proto::kTcp}));
  EXPECT_FALSE(actual_.vips().contains(ip("198.18.0.11")));
}

TEST_F(ServicePlan, ASelectorlessBackendNeedsNoHost) {
  desired_.services = {service(0, 1)};
  desired_.services[0].backends.edit()[0].host.clear();
  apply();
  const BackendEntry* entry = maps_.backend(1);
  ASSERT_NE(entry, nullptr);
  EXPECT_FALSE(entry->local);
  EXPECT_TRUE(entry->node.is_unspecified());
}

}  // namespace
}  // namespace shoal::plan
