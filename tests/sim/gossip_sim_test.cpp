// SPDX-License-Identifier: Apache-2.0
// Convergence and failure scenarios of the gossip core, on the simulator. Each prints its figures;
// a failure prints the seed, and SHOAL_SIM_SEED=n runs every scenario with that seed alone.
#include "tests/sim/sim.h"

#include <algorithm>
#include <cstdlib>
#include <gtest/gtest.h>

namespace shoal::sim {
namespace {

using gossip::MemberChange;
using gossip::MemberState;
using namespace std::chrono_literals;

std::vector<std::uint64_t> seeds(std::size_t count) {
  if (const char* one = std::getenv("SHOAL_SIM_SEED"))
    return {std::strtoull(one, nullptr, 10)};
  std::vector<std::uint64_t> out;
  for (std::size_t i = 1; i <= count; ++i)
    out.push_back(i * 7919);
  return out;
}

double ms(Duration d) { return std::chrono::duration<double, std::milli>(d).count(); }

// Figures of one kind over seeds and hosts.
class Figures {
public:
  void add(double value) { values_.push_back(value); }
  double at(double share) {
    std::ranges::sort(values_);
    return values_.empty()
               ? -1
               : values_[static_cast<std::size_t>(share * static_cast<double>(values_.size() - 1))];
  }
  std::string text(const char* unit) {
    return fmt::format("p50 {:.1f} p99 {:.1f} max {:.1f} {} (n={})", at(.5), at(.99), at(1), unit,
                       values_.size());
  }

private:
  std::vector<double> values_;
};

#define SEED_TRACE(sim)                                                                            \
  SCOPED_TRACE(                                                                                    \
      fmt::format("replay with SHOAL_SIM_SEED={} --gtest_filter={}.{}", (sim).seed(),              \
                  testing::UnitTest::GetInstance()->current_test_info()->test_suite_name(),        \
                  testing::UnitTest::GetInstance()->current_test_info()->name()))

// All up and agreed, and past the first rush.
void settle(Sim& sim) {
  sim.start_all();
  ASSERT_TRUE(sim.run_until([&] { return sim.all_converged(); }, 30s));
  sim.run_for(5s);
  sim.checker.forget_sightings();
}

class GossipSim : public testing::TestWithParam<std::size_t> {};
INSTANTIATE_TEST_SUITE_P(Hosts, GossipSim, testing::Values(3, 20, 100),
                         [](const auto& p) { return fmt::format("n{}", p.param); });

std::size_t rounds(std::size_t hosts) { return hosts <= 3 ? 10 : hosts <= 20 ? 4 : 2; }

TEST_P(GossipSim, EverybodyJoinsAtOnceAndThenOneMore) {
  Figures all, one;
  for (const std::uint64_t seed : seeds(rounds(GetParam()))) {
    Sim sim(seed, GetParam() + 1);
    SEED_TRACE(sim);
    for (std::size_t i = 0; i < GetParam(); ++i)
      sim.start(i, {0});
    MonoTime begin = sim.now();
    ASSERT_TRUE(sim.run_until(
        [&] {
          return sim.all_converged() && sim.core(GetParam() - 1).members().size() == GetParam();
        },
        30s));
    all.add(ms(sim.now() - begin));
    sim.run_for(5s);
    begin = sim.now();
    sim.start(GetParam(), {1});
    ASSERT_TRUE(sim.run_until([&] { return sim.all_see(GetParam(), MemberState::kAlive); }, 10s));
    one.add(ms(sim.now() - begin));
    EXPECT_EQ(sim.checker.count(MemberChange::kDied), 0U);
  }
  fmt::print("N={} all join: {}\nN={} one more joins, last host: {}\n", GetParam(), all.text("ms"),
             GetParam(), one.text("ms"));
}

TEST_P(GossipSim, AKilledHostIsDeclaredDeadByAll) {
  Figures last;
  for (const std::uint64_t seed : seeds(rounds(GetParam()) * 3)) {
    Sim sim(seed, GetParam());
    SEED_TRACE(sim);
    settle(sim);
    sim.run_for(std::chrono::milliseconds(sim.random().below(2000)));
    const MonoTime begin = sim.now();
    sim.kill(GetParam() / 2);
    ASSERT_TRUE(
        sim.run_until([&] { return sim.all_see(GetParam() / 2, MemberState::kDead); }, 30s));
    last.add(ms(sim.now() - begin));
    EXPECT_EQ(sim.checker.count(MemberChange::kDied), GetParam() - 1)
        << "somebody healthy died too";
    EXPECT_TRUE(sim.run_until([&] { return sim.all_converged(); }, 10s));
  }
  fmt::print("N={} killed host, last observer: {}\n", GetParam(), last.text("ms"));
  EXPECT_LT(last.at(1), GetParam() <= 3 ? 4500 : GetParam() <= 20 ? 6000 : 8000);
}

TEST_P(GossipSim, AnEventReachesAll) {
  Figures each, last;
  double bytes_each = 0;
  for (const std::uint64_t seed : seeds(rounds(GetParam()))) {
    Sim sim(seed, GetParam());
    SEED_TRACE(sim);
    settle(sim);
    const auto total_bytes = [&] {
      double sum = 0;
      for (std::size_t i = 0; i < sim.size(); ++i)
        sum += static_cast<double>(sim.host(i).bytes_out);
      return sum;
    };
    const double idle_from = total_bytes();
    sim.run_for(20s);
    const double idle = (total_bytes() - idle_from) / 20 / static_cast<double>(sim.size());
    constexpr std::size_t kEvents = 20;
    const double busy_from = total_bytes();
    const MonoTime busy_begin = sim.now();
    for (std::size_t n = 0; n < kEvents; ++n) {
      const std::size_t origin = sim.random().below(GetParam());
      const std::string value(200, static_cast<char>('a' + n));
      const MonoTime begin = sim.now();
      sim.publish(origin, "/pods/default/web", value);
      const auto& arrivals =
          sim.checker.arrivals(sim.host(origin).name, "/pods/default/web", value);
      ASSERT_TRUE(sim.run_until([&] { return arrivals.size() == GetParam() - 1; }, 10s));
      for (const auto& a : arrivals)
        each.add(ms(a.at - begin));
      last.add(ms(arrivals.back().at - begin));
      sim.run_for(500ms);
    }
    const double busy_s = ms(sim.now() - busy_begin) / 1000;
    bytes_each =
        ((total_bytes() - busy_from) / static_cast<double>(sim.size()) - idle * busy_s) / kEvents;
    fmt::print("N={} idle {:.0f} bytes/s a host\n", GetParam(), idle);
    EXPECT_LT(idle, 800);
  }
  fmt::print("N={} event: a host {}; last host {}; {:.0f} bytes a host an event\n", GetParam(),
             each.text("ms"), last.text("ms"), bytes_each);
  EXPECT_LT(last.at(1), 100);
}

TEST_P(GossipSim, ABurstOf2000EntriesArrivesWhole) {
  Figures took;
  for (const std::uint64_t seed : seeds(GetParam() <= 20 ? 2 : 1)) {
    Sim sim(seed, GetParam());
    SEED_TRACE(sim);
    sim.net.loss = 0.01;
    settle(sim);
    const MonoTime begin = sim.now();
    for (int n = 0; n < 2000; ++n)
      sim.at(std::chrono::microseconds(50 * n), [&sim, n] {
        sim.publish(static_cast<std::size_t>(n) % 2, fmt::format("/pods/default/p{}", n),
                    std::string(200, 'x'));
      });
    const auto complete = [&] {
      for (std::size_t i = 0; i < sim.size(); ++i)
        if (sim.core(i).complete_to("h1") != 1000 || sim.core(i).complete_to("h2") != 1000)
          return false;
      return true;
    };
    ASSERT_TRUE(sim.run_until(complete, 20s));
    took.add(ms(sim.now() - begin));
    for (std::size_t i = 0; i < sim.size(); ++i) {
      std::size_t held = 0;
      sim.core(i).for_each_entry("h1", [&](auto, auto&) { ++held; });
      sim.core(i).for_each_entry("h2", [&](auto, auto&) { ++held; });
      EXPECT_EQ(held, 2000U) << sim.host(i).name;
      sim.checker.check_mirror(sim.host(i).name, sim.core(i));
    }
    EXPECT_EQ(sim.checker.count(MemberChange::kDied), 0U);
  }
  fmt::print("N={} burst of 2000 in 100 ms, everywhere: {}\n", GetParam(), took.text("ms"));
}

TEST_P(GossipSim, ThirtyPercentLossFailsNobodyForGood) {
  for (const std::uint64_t seed : seeds(rounds(GetParam()))) {
    Sim sim(seed, GetParam());
    SEED_TRACE(sim);
    settle(sim);
    sim.net.loss = 0.3;
    for (int n = 0; n < 60; ++n)
      sim.at(std::chrono::seconds(n), [&sim, n] {
        sim.publish(static_cast<std::size_t>(n) % sim.size(), fmt::format("k{}", n % 7),
                    fmt::format("v{}", n));
      });
    sim.run_for(90s);
    const std::size_t deaths = sim.checker.count(MemberChange::kDied);
    fmt::print("N={} seed {}: 30 % loss for 90 s: {} suspicions, {} deaths seen\n", GetParam(),
               seed, sim.checker.count(MemberChange::kSuspected), deaths);
    EXPECT_LE(deaths, GetParam() * 3);
    sim.net.loss = 0;
    EXPECT_TRUE(sim.run_until([&] { return sim.all_converged(); }, 30s));
  }
}

TEST_P(GossipSim, APartitionHeals) {
  Figures took;
  for (const std::uint64_t seed : seeds(rounds(GetParam()))) {
    Sim sim(seed, GetParam());
    SEED_TRACE(sim);
    settle(sim);
    sim.cut_groups(GetParam() / 2);
    sim.run_for(45s);
    sim.publish(0, "left", "1");
    sim.publish(GetParam() - 1, "right", "2");
    sim.run_for(45s);
    EXPECT_FALSE(sim.all_converged());
    EXPECT_EQ(sim.core(0).member(sim.host(GetParam() - 1).name)->state, MemberState::kDead);
    const MonoTime begin = sim.now();
    sim.heal();
    ASSERT_TRUE(sim.run_until([&] { return sim.all_converged(); }, 30s));
    took.add(ms(sim.now() - begin));
    EXPECT_TRUE(sim.core(0).entry(sim.host(GetParam() - 1).name, "right"));
    EXPECT_TRUE(sim.core(GetParam() - 1).entry("h1", "left"));
  }
  fmt::print("N={} heal after a 90 s split, all: {}\n", GetParam(), took.text("ms"));
}

TEST_P(GossipSim, AStoppedHostBlamesNobody) {
  for (const std::uint64_t seed : seeds(rounds(GetParam()))) {
    Sim sim(seed, GetParam());
    SEED_TRACE(sim);
    settle(sim);
    for (int n = 0; n < 6; ++n) {
      sim.pause(1, 4s);
      sim.run_for(15s);
    }
    for (const auto& s : sim.checker.sightings())
      if (s.change == MemberChange::kDied) {
        EXPECT_EQ(s.subject, "h2") << "declared by " << s.observer;
      }
    EXPECT_TRUE(sim.run_until([&] { return sim.all_converged(); }, 20s));
  }
}

TEST_P(GossipSim, ARestartedHostSupersedesItsPast) {
  for (const std::uint64_t seed : seeds(rounds(GetParam()))) {
    Sim sim(seed, GetParam());
    SEED_TRACE(sim);
    settle(sim);
    sim.publish(1, "kept", "old");
    sim.publish(1, "dropped", "old");
    sim.run_for(2s);
    sim.kill(1);
    // Now and then before it is noticed, and then after it is dead.
    sim.run_for(seed % 2 == 0 ? 300ms : 15s);
    sim.start(1, {0});
    ASSERT_TRUE(sim.run_until(
        [&] {
          return sim.all_see(1, MemberState::kAlive) && sim.core(0).member("h2")->start_id == 1002;
        },
        10s));
    sim.publish(1, "kept", "new");
    sim.run_for(3s);
    // Until it has said that it has said all, the rest of its past stays.
    EXPECT_EQ(*sim.core(0).entry("h2", "kept")->value, "new");
    EXPECT_TRUE(sim.core(0).entry("h2", "dropped"));
    sim.publish_settled(1);
    ASSERT_TRUE(sim.run_until([&] { return sim.all_converged(); }, 10s));
    for (std::size_t i = 0; i < sim.size(); ++i) {
      EXPECT_FALSE(sim.core(i).entry("h2", "dropped")) << sim.host(i).name;
      EXPECT_EQ(*sim.core(i).entry("h2", "kept")->value, "new");
    }
    sim.run_for(20s);
    EXPECT_TRUE(sim.all_converged());
  }
}

// Everything at once, then peace: all hosts must agree. The same seed must give the same trace.
std::uint64_t chaos(std::uint64_t seed, std::size_t hosts, bool corrupt) {
  Sim sim(seed, hosts);
  SEED_TRACE(sim);
  sim.net = {.loss = 0.1, .duplicate = 0.1, .corrupt = corrupt ? 0.02 : 0, .delay_max = 80ms};
  sim.checker.set_trusting(corrupt);
  sim.start_all();
  std::uint64_t revision = 0;
  for (int n = 0; n < 400; ++n) {
    sim.run_for(std::chrono::milliseconds(sim.random().below(400)));
    const std::size_t i = sim.random().below(hosts);
    const std::string key = fmt::format("k{}", sim.random().below(20));
    switch (sim.random().below(10)) {
    case 0:
      if (i != 0 && sim.is_up(i))
        sim.kill(i);
      break;
    case 1:
    case 2:
      if (!sim.is_up(i))
        sim.start(i, {0});
      break;
    case 3:
      sim.cut(i, sim.random().below(hosts));
      break;
    case 4:
      sim.heal();
      break;
    case 5:
      sim.pause(i, std::chrono::milliseconds(sim.random().below(3000)));
      break;
    case 6:
      ++revision;
      sim.publish_desired(0,
                          {{key, fmt::format("d{}", revision), revision, revision},
                           {key + "x", std::nullopt, 0, revision}},
                          revision);
      break;
    case 7:
      if (sim.is_up(i))
        sim.publish(i, key, std::nullopt);
      break;
    default:
      if (sim.is_up(i))
        sim.publish(i, key, std::string(sim.random().below(3000), 'v'));
    }
  }
  sim.net = {};
  sim.heal();
  if (corrupt)
    return sim.trace_hash();
  for (std::size_t i = 0; i < hosts; ++i)
    if (!sim.is_up(i))
      sim.start(i, {0});
  for (std::size_t i = 0; i < hosts; ++i)
    sim.publish_settled(i);
  EXPECT_TRUE(sim.run_until([&] { return sim.all_converged(); }, 60s));
  for (std::size_t i = 0; i < hosts; ++i) {
    sim.checker.check_mirror(sim.host(i).name, sim.core(i));
    for (std::size_t j = 0; j < hosts; ++j) {
      std::map<std::string, std::string> own, seen;
      sim.core(j).for_each_entry(sim.host(j).name,
                                 [&](auto k, auto& e) { own.emplace(k, *e.value); });
      sim.core(i).for_each_entry(sim.host(j).name,
                                 [&](auto k, auto& e) { seen.emplace(k, *e.value); });
      EXPECT_EQ(own, seen) << sim.host(i).name << " of " << sim.host(j).name;
    }
  }
  return sim.trace_hash();
}

TEST(GossipChaos, AllAgreeAfterFaults) {
  for (const std::uint64_t seed : seeds(12))
    chaos(seed, seed % 3 == 0 ? 7 : 4, false);
}

// Packets with changed bytes, which no AEAD would let through: hosts may be told nonsense, and go on.
TEST(GossipChaos, CorruptPacketsStopNobody) {
  for (const std::uint64_t seed : seeds(6))
    chaos(seed, 4, true);
}

TEST(GossipChaos, TheSameSeedGivesTheSameTrace) {
  for (const std::uint64_t seed : seeds(2)) {
    const std::uint64_t first = chaos(seed, 5, false);
    EXPECT_EQ(first, chaos(seed, 5, false)) << "seed " << seed;
    EXPECT_NE(first, chaos(seed + 1, 5, false)) << "seed " << seed;
  }
}

}  // namespace
}  // namespace shoal::sim
