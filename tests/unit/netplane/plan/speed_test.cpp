// SPDX-License-Identifier: Apache-2.0
// What a plan costs: services with 10 backends each, five times as many of them. The figures are
// printed; what is asserted is that the cost follows the number of services, which a search among
// all of them for each would not. Of this thread's time: how busy the machine is is no matter.
#include "netplane/plan/lb.h"
#include "plan_fixtures.h"

#include <algorithm>
#include <ctime>

namespace shoal::plan {
namespace {

constexpr unsigned kFew = 1000;
constexpr unsigned kMany = 5 * kFew;
constexpr unsigned kBackends = 10;
constexpr double kSlack = 3;  // caches and maps grow too

double cpu_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

template <class F>
double best_ms(F&& run) {
  double best = 1e9;
  for (int i = 0; i < 3; i++) {
    const double start = cpu_ms();
    run();
    best = std::min(best, cpu_ms() - start);
  }
  return best;
}

struct Cost {
  double first, same, one;
};

Cost cost_of(unsigned services) {
  model::Desired desired = three_hosts();
  for (unsigned i = 0; i < services; i++)
    desired.services.push_back(service(i, kBackends));
  Actual actual;
  Cost cost{};
  cost.first = best_ms([&] { EXPECT_FALSE(plan_services(desired, actual).empty()); });
  const Plan plan = plan_services(desired, actual);
  for (const Learned& learned : plan.learned)
    actual.learn(learned);
  for (const Op& op : plan.ops)
    actual.note(op, 1);
  cost.same = best_ms([&] { EXPECT_TRUE(plan_services(desired, actual).empty()); });
  desired.services[17].backends.pop_back();
  Plan change;
  cost.one = best_ms([&] { change = plan_services(desired, actual); });
  std::size_t rings = 0;
  for (const Op& op : change.ops)
    if (const auto* write = std::get_if<WriteRings>(&op))
      rings += write->items.size();
  EXPECT_EQ(rings, 1U);
  fmt::print("{} services x {} backends: first plan {:.1f} ms, nothing changed {:.1f} ms, one "
             "changed {:.1f} ms\n",
             services, kBackends, cost.first, cost.same, cost.one);
  return cost;
}

TEST(PlanSpeed, FollowsTheNumberOfServices) {
  const Cost few = cost_of(kFew);
  const Cost many = cost_of(kMany);
  constexpr double kMost = kSlack * kMany / kFew;
  EXPECT_LT(many.first, few.first * kMost);
  EXPECT_LT(many.same, few.same * kMost);
  EXPECT_LT(many.one, few.one * kMost);
}

}  // namespace
}  // namespace shoal::plan
