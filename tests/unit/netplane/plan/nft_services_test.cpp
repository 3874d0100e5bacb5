// SPDX-License-Identifier: Apache-2.0
#include "netplane/plan/nft_services.h"

#include "netplane/base/random.h"
#include "plan_fixtures.h"

#include <algorithm>

namespace shoal::plan {
namespace {

model::NftSetup setup() { return {.host_v4 = ip("198.18.0.11"), .tunnel_port = 4789}; }

model::Desired with(std::vector<model::ServicePort> services) {
  model::Desired desired = three_hosts();
  desired.services = std::move(services);
  return desired;
}

// Plans and follows, as a kernel that takes everything would.
NftPlan carry_out(const model::Desired& desired, NftActual& actual, bool prune = true) {
  NftPlan plan = plan_nft_services(desired, setup(), actual, {.prune = prune});
  actual.note(plan.change);
  actual.learn(plan);
  return plan;
}

std::vector<SocketAddress> places(const NftActual& actual, std::uint64_t pool) {
  std::vector<SocketAddress> out;
  for (const auto& [place, backend] : actual.held.places)
    if (place.first == pool)
      out.push_back(backend);
  return out;
}

TEST(NftServices, SharesAreExact) {
  model::ServicePort web = service(1, 6);
  web.groups = {{"blue", 900'000}, {"green", 100'000}, {"red", 0}, {"empty", 500}};
  for (std::size_t i = 0; i < web.backends.size(); i++)
    web.backends.edit()[i].group = i < 3 ? "blue" : (i < 5 ? "green" : "red");
  const model::Desired desired = with({web});
  const model::NftService made = nft_service(desired, web);
  ASSERT_EQ(made.pools.size(), 2U);  // neither weight 0 nor without backends
  EXPECT_EQ(made.pools[0].weight, 9U);
  EXPECT_EQ(made.pools[0].places.size(), 3U);
  EXPECT_EQ(made.pools[1].weight, 1U);
  EXPECT_EQ(made.pools[1].places.size(), 2U);
}

TEST(NftServices, ASecondPlanIsEmptyAndOrderDoesNotMatter) {
  model::Desired desired = with({service(1, 5), service(2, 3), service(3, 0)});
  NftActual actual;
  EXPECT_TRUE(carry_out(desired, actual).change.rebuild);
  std::ranges::reverse(desired.services);
  for (model::ServicePort& of : desired.services)
    std::ranges::reverse(of.backends.edit());
  EXPECT_TRUE(carry_out(desired, actual).change.empty());
}

TEST(NftServices, ABackendThatGoesIsReplacedByTheLast) {
  model::Desired desired = with({service(1, 5)});
  NftActual actual;
  carry_out(desired, actual);
  const std::uint64_t pool = nft_service(desired, desired.services[0]).pools[0].key;
  const auto before = places(actual, pool);
  std::erase_if(desired.services[0].backends.edit(),
                [&](const model::Backend& b) { return b.ip == before[1].ip; });
  const NftPlan plan = carry_out(desired, actual);
  EXPECT_EQ(plan.change.places.remove.size(), 2U);
  EXPECT_EQ(plan.change.places.add.size(), 1U);
  EXPECT_EQ(plan.change.set_chains.size(), 1U);  // it has one place fewer
  EXPECT_EQ(places(actual, pool), (std::vector{before[0], before[4], before[2], before[3]}));
}

TEST(NftServices, AChangeOfBackendsCostsWhatItTouches) {
  model::Desired desired = with({});
  for (unsigned i = 0; i < 100; i++)
    desired.services.push_back(service(i, 4));
  NftActual actual;
  carry_out(desired, actual);
  desired.services[7].backends.edit()[2].ip = ip("10.244.3.250");
  const std::size_t changed[] = {7};
  const NftPlan plan = plan_nft_backends(desired, changed, actual, {});
  EXPECT_EQ(plan.change.operations(), 2U);
  NftActual other = actual;
  EXPECT_EQ(carry_out(desired, other).change, plan.change);
}

TEST(NftServices, AGroupThatGoesTakesItsPlacesAlong) {
  model::ServicePort web = service(1, 2);
  web.groups = {{"blue", 1}, {"green", 1}};
  web.backends.edit()[0].group = "blue";
  web.backends.edit()[1].group = "green";
  model::Desired desired = with({web});
  NftActual actual;
  carry_out(desired, actual);
  desired.services[0].groups = {{"blue", 1}};
  const std::size_t changed[] = {0};
  NftPlan plan = plan_nft_backends(desired, changed, actual, {});
  EXPECT_EQ(plan.change.places.remove.size(), 1U);
  actual.note(plan.change);
  EXPECT_TRUE(carry_out(desired, actual).change.empty());
}

TEST(NftServices, BeforePruningNothingGoesAndWhatIsNewComes) {
  model::Desired desired = with({service(1, 3), service(2, 3)});
  NftActual actual;
  carry_out(desired, actual);
  NftActual restarted{actual.held, {}};
  model::Desired less = with({service(1, 2), service(3, 1)});  // one backend and one service short
  const NftPlan plan = plan_nft_services(less, setup(), restarted, {.prune = false});
  EXPECT_TRUE(plan.change.places.remove.empty());
  EXPECT_TRUE(plan.change.delete_chains.empty());
  EXPECT_TRUE(plan.change.inside.remove.empty());
  ASSERT_EQ(plan.change.set_chains.size(), 1U);
  EXPECT_EQ(plan.change.set_chains[0].service.chain, "default/s3/http/TCP");
  // A host that is not known to live is no news either.
  desired.nodes[1].alive = false;
  EXPECT_TRUE(plan_nft_services(desired, setup(), restarted, {.prune = false}).change.empty());
  EXPECT_FALSE(plan_nft_services(desired, setup(), restarted, {.prune = true}).change.empty());
  // Nor are other rules than this version's, while what they serve is not known.
  restarted.held.setup = 1;
  EXPECT_TRUE(plan_nft_services(less, setup(), restarted, {.prune = false}).change.empty());
  EXPECT_TRUE(plan_nft_services(less, setup(), restarted, {.prune = true}).change.rebuild);
}

TEST(NftServices, ClientsAreLedByWhereTheyAre) {
  model::ServicePort web = service(1, 2);
  const IpAddress vip = ip("198.18.0.209");
  web.frontends.push_back({vip, 80, L4Proto::kTcp, model::FrontendKind::kLoadBalancer});
  web.source_ranges = {cidr("192.0.2.0/24")};
  model::ServicePort outside = web;
  web.clients = model::Clients::kInside;
  outside.clients = model::Clients::kOutside;
  NftActual actual;
  EXPECT_TRUE(carry_out(with({web, outside}), actual).issues.empty());
  const model::FrontendKey key{vip, 80};
  EXPECT_EQ(actual.held.inside.at(key), (model::NftTarget{"default/s1/http/TCP", false}));
  EXPECT_EQ(actual.held.outside.at(key), (model::NftTarget{"default/s1/http/TCP/outside", true}));
  EXPECT_EQ(actual.held.outside.size(), 1U);  // a ClusterIP is for clients inside
  EXPECT_TRUE(actual.held.vips.contains(vip));
}

TEST(NftServices, AFrontendIsOneServicesOnly) {
  model::ServicePort thief = service(2, 1);
  thief.frontends = service(1, 1).frontends;
  NftActual actual;
  const NftPlan plan = carry_out(with({service(1, 1), thief}), actual);
  ASSERT_EQ(plan.issues.size(), 1U);
  EXPECT_EQ(plan.issues[0].object, "service default/s2:http/TCP");
  EXPECT_EQ(actual.held.inside.begin()->second.chain, "default/s1/http/TCP");
}

TEST(NftServices, MembersAreThoseThatGetNewClients) {
  model::ServicePort web = service(1, 3);
  web.affinity_s = 600;
  web.backends.edit()[0].state = model::BackendState::kTerminating;
  NftActual actual;
  model::Desired desired = with({web});
  carry_out(desired, actual);
  EXPECT_EQ(actual.held.members.size(), 2U);
  desired.services[0].affinity_s = 0;
  carry_out(desired, actual);
  EXPECT_TRUE(actual.held.members.empty());
}

// Random changes: the parts of every change come to the same as the whole.
TEST(NftServices, PartsComeToTheWhole) {
  SeededRandom random(20261126);
  NftActual actual, by_parts;
  for (unsigned round = 0; round < 200; round++) {
    model::Desired desired = with({});
    for (unsigned i = 0; i < 6; i++) {
      if (random.below(4) == 0)
        continue;
      model::ServicePort of = service(i, static_cast<unsigned>(random.below(5)));
      of.affinity_s = random.below(2) == 0 ? 0 : 60;
      if (random.below(3) == 0)
        of.frontends[0].ip = ip("10.96.9.9");  // contested
      desired.services.push_back(std::move(of));
    }
    const NftPlan plan = carry_out(desired, actual);
    NftActual whole = by_parts;
    for (const NftPart& part : split_by_service(plan.change, whole))
      by_parts.note(part.change);
    ASSERT_EQ(by_parts.held, actual.held) << "round " << round;
    by_parts.pools = actual.pools;
  }
}

TEST(NftServices, LongNamesStayApart) {
  const std::string name(300, 'a');
  const std::string one = model::nft_chain_name("ns/" + name + "1:/TCP");
  EXPECT_EQ(one.size(), 200U);
  EXPECT_NE(one, model::nft_chain_name("ns/" + name + "2:/TCP"));
  EXPECT_EQ(model::nft_chain_name("ns/web:http/TCP@v6@outside"), "ns/web/http/TCP/v6/outside");
}

}  // namespace
}  // namespace shoal::plan
