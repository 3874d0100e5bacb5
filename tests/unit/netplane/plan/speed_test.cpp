// SPDX-License-Identifier: Apache-2.0
// What a plan costs: 5,000 services with 10 backends each. The figures are printed; what is
// asserted is only far out of reach of a sound planner on a busy machine.
#include "netplane/plan/lb.h"
#include "plan_fixtures.h"

#include <chrono>

namespace shoal::plan {
namespace {

constexpr unsigned kServices = 5000;
constexpr unsigned kBackends = 10;

class PlanSpeed : public testing::Test {
protected:
  void SetUp() override {
    desired_ = three_hosts();
    for (unsigned i = 0; i < kServices; i++)
      desired_.services.push_back(service(i, kBackends));
  }
  template <class F>
  double best_ms(F&& run) {
    double best = 1e9;
    for (int i = 0; i < 5; i++) {
      const auto start = std::chrono::steady_clock::now();
      run();
      const auto took = std::chrono::steady_clock::now() - start;
      best = std::min(best, std::chrono::duration<double, std::milli>(took).count());
    }
    return best;
  }
  void apply(const Plan& plan) {
    for (const Learned& learned : plan.learned)
      actual_.learn(learned);
    for (const Op& op : plan.ops)
      actual_.note(op, 1);
  }
  model::Desired desired_;
  Actual actual_;
};

TEST_F(PlanSpeed, FiveThousandServices) {
  const double first = best_ms([&] { EXPECT_FALSE(plan_services(desired_, actual_).empty()); });
  apply(plan_services(desired_, actual_));
  const double same = best_ms([&] { EXPECT_TRUE(plan_services(desired_, actual_).empty()); });
  desired_.services[17].backends.pop_back();
  Plan change;
  const double one = best_ms([&] { change = plan_services(desired_, actual_); });
  std::size_t rings = 0;
  for (const Op& op : change.ops)
    if (const auto* write = std::get_if<WriteRings>(&op))
      rings += write->items.size();
  EXPECT_EQ(rings, 1U);
  fmt::print("{} services x {} backends: first plan {:.1f} ms, nothing changed {:.1f} ms, one "
             "changed {:.1f} ms\n",
             kServices, kBackends, first, same, one);
  RecordProperty("first_us", static_cast<int>(first * 1000));
  EXPECT_LT(first, 2000);
  EXPECT_LT(same, 500);
}

}  // namespace
}  // namespace shoal::plan
