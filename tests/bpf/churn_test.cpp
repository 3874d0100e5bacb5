// SPDX-License-Identifier: Apache-2.0
// Picks in the kernel while backends and weights change as fast as the agent can change them: ten
// million, and each is a backend that the service has, or had a moment ago.
#include "netplane/apply/plan_runner.h"
#include "netplane/base/clock.h"
#include "netplane/base/random.h"
#include "netplane/plan/lb.h"
#include "tests/bpf/host.h"

#include <atomic>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <deque>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <picker.skel.h>
#include <thread>

namespace shoal::bpftest {
namespace {

constexpr std::uint64_t kPicks = 10'000'000;
constexpr unsigned kChangesMin = 2'000;
constexpr unsigned kChangesPerTick = 100;  // the agent looks for what is due a few times a second
constexpr unsigned kServices = 8;
constexpr __u32 kRunsPerCall = 2'000;
constexpr auto kGrace = std::chrono::milliseconds(200);
constexpr auto kTime = std::chrono::seconds(120);

struct Verdicts {
  __u64 picks, nobody, foreign, mixed;
};

struct PickerDeleter {
  void operator()(picker_bpf* picker) const { picker_bpf__destroy(picker); }
};

class ChurnTest : public testing::Test {
protected:
  ChurnTest() {
    fmt::print("seed {}\n", seed);
    desired.self = "h1";
    desired.nodes = {{"h1", ip("198.18.0.11"), {}, true}, {"h2", ip("198.18.0.12"), {}, true}};
    for (unsigned n = 0; n < kServices; ++n) {
      model::ServicePort service;
      service.ns = "default";
      service.name = fmt::format("s{}", n);
      service.frontends = {{IpAddress::v4(0x0a600001 + n), 80, L4Proto::kTcp}};
      desired.services.push_back(service);
      renew(n);
    }
    const kernel::MapSizes sizes = host.maps().sizes();
    actual = plan::Actual(
        {sizes.services, sizes.frontends, sizes.vips, sizes.backends, sizes.ring_blocks});
  }

  // Other backends, of the next version, in groups of other weights.
  void renew(unsigned n) {
    model::ServicePort& service = desired.services[n];
    const unsigned version = ++versions[n];
    service.groups = {{"blue", static_cast<std::uint32_t>(1 + random.below(100))},
                      {"green", static_cast<std::uint32_t>(random.below(101))}};
    service.backends.clear();
    for (std::uint64_t i = 2 + random.below(6); i > 0; --i) {
      model::Backend backend;
      backend.ip = IpAddress::v4(0x0a000000 | n << 16 | (version & 0xff) << 8 |
                                 static_cast<std::uint32_t>(i));
      backend.port = static_cast<std::uint16_t>(8000 + n);
      backend.generation = static_cast<std::uint16_t>(1 + version / 256);
      backend.group = i % 2 == 0 ? "blue" : "green";
      backend.host = i % 2 == 0 ? "h1" : "h2";
      service.backends.push_back(backend);
    }
    // Both groups have one, so that the weights are what they say.
    service.groups[1].weight += service.backends.size() < 2 ? 1 : 0;
  }

  void run(const plan::Plan& plan) {
    for (const plan::Issue& issue : plan.issues)
      ADD_FAILURE() << issue.object << ": " << issue.error.message();
    apply::PlanRunner runner(host.maps(), actual, ++round);
    runner.run(plan);
    for (const apply::ObjectError& error : runner.errors())
      ADD_FAILURE() << error.object << ": " << error.error.message();
    rounds.emplace_back(round, clock.now());
  }

  // What has had its grace is used again, as the agent does it.
  void release() {
    std::optional<plan::Stamp> due;
    for (; !rounds.empty() && clock.now() - rounds.front().second >= kGrace; rounds.pop_front())
      due = rounds.front().first;
    if (due && actual.release(*due))
      run(plan::plan_frees(actual));
  }

  const std::uint64_t seed = SystemRandom().next();
  SeededRandom random{seed};
  Host host{"churn", {}, churn_sizes()};
  SystemClock clock;
  model::Desired desired;
  plan::Actual actual;
  plan::Stamp round = 0;
  std::deque<std::pair<plan::Stamp, MonoTime>> rounds;
  unsigned versions[kServices] = {};

private:
  static kernel::MapSizes churn_sizes() {
    kernel::MapSizes sizes = small_sizes();
    sizes.backends = 65'536;
    sizes.ring_blocks = 65'536;
    return sizes;
  }
};

TEST_F(ChurnTest, EveryPickIsABackendOfItsService) {
  run(plan::plan_services(desired, actual));
  std::vector<plan::ChangedService> known;
  for (unsigned n = 0; n < kServices; ++n) {
    const auto at = actual.frontends().find({IpAddress::v4(0x0a600001 + n), 80, L4Proto::kTcp});
    ASSERT_NE(at, actual.frontends().end());
    // The program knows services by their index.
    ASSERT_EQ(at->second.inside, n);
    known.push_back({&desired.services[n], &desired.services[n], at->second.inside});
  }

  const std::unique_ptr<picker_bpf, PickerDeleter> picker(picker_bpf__open());
  ASSERT_NE(picker, nullptr);
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, picker->obj) {
    const std::filesystem::path pin = host.loader().maps_folder() / bpf_map__name(map);
    const UniqueFd fd(bpf_obj_get(pin.c_str()));
    if (fd) {
      ASSERT_EQ(bpf_map__reuse_fd(map, fd.get()), 0) << pin;
    }
  }
  ASSERT_EQ(picker_bpf__load(picker.get()), 0);

  std::atomic<bool> stop = false;
  std::thread picking([&] {
    const Frame frame(64, 0);
    while (!stop) {
      bpf_test_run_opts options{};
      options.sz = sizeof(options);
      options.data_in = frame.data();
      options.data_size_in = static_cast<__u32>(frame.size());
      options.repeat = kRunsPerCall;
      EXPECT_EQ(bpf_prog_test_run_opts(bpf_program__fd(picker->progs.judge_picks), &options), 0);
      EXPECT_EQ(options.retval, 0U);
    }
  });

  const auto verdicts = [&] {
    Verdicts seen{};
    const __u32 zero = 0;
    EXPECT_EQ(bpf_map_lookup_elem(bpf_map__fd(picker->maps.verdicts), &zero, &seen), 0);
    return seen;
  };
  const MonoTime began = clock.now();
  unsigned changes = 0;
  while (clock.now() - began < kTime && !HasFailure() &&
         (changes < kChangesMin || verdicts().picks < kPicks)) {
    const auto n = static_cast<unsigned>(random.below(kServices));
    renew(n);
    run(plan::plan_changes(desired, {&known[n], 1}, actual).value());
    if (++changes % kChangesPerTick == 0)
      release();
  }
  const double seconds = std::chrono::duration<double>(clock.now() - began).count();
  stop = true;
  picking.join();

  const Verdicts seen = verdicts();
  fmt::print("{} picks, {} changes, {:.0f} changes a second\n", seen.picks, changes,
             changes / seconds);
  EXPECT_GE(seen.picks, kPicks);
  EXPECT_GE(changes, kChangesMin);
  EXPECT_EQ(seen.nobody, 0U);
  EXPECT_EQ(seen.foreign, 0U);
  EXPECT_EQ(seen.mixed, 0U);
}

}  // namespace
}  // namespace shoal::bpftest
