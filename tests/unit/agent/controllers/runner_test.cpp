// SPDX-License-Identifier: Apache-2.0
// One runner with a writer that answers when the test says so.
#include "agent/controllers/runner.h"

#include "netplane/base/hash.h"
#include "tests/fakes/fake_writer.h"
#include "tests/fakes/test_loop.h"
#include "tests/unit/agent/controllers/world.h"

namespace shoal::controllers {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view kSet =
    R"({"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{"name":"web"},
  "spec":{"replicas":1,"selector":{"matchLabels":{"app":"web"}},
          "template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[]}}},
  "status":{"replicas":0}})";

class RunnerTest : public ::testing::Test {
protected:
  // Named so that `self` comes at that rank for the ReplicaSet among three members.
  void start(std::size_t rank, RunnerOptions options = {}) {
    std::vector<std::string> hosts{"h1", "h2", "h3"};
    options.self = rendezvous_rank("replicaset:replicasets.apps/default/web", hosts).at(rank);
    runner = std::make_unique<Runner>(
        world.view, writer, loop.clock(), loop,
        [this]() -> const view::Members& { return world.members; }, options);
    runner->start();
  }
  std::size_t pod_creates() const {
    return static_cast<std::size_t>(
        std::count_if(writer.writes.begin(), writer.writes.end(),
                      [](const auto& write) { return write.what.starts_with("create web-"); }));
  }

  TestWorld world;
  fakes::TestLoop loop;
  fakes::FakeWriter writer;
  std::unique_ptr<Runner> runner;
};

TEST_F(RunnerTest, TheFirstRankActsAtOnce) {
  start(0);
  loop.run_for(10ms);
  world.put(kSet);
  loop.run_for(10ms);
  ASSERT_EQ(pod_creates(), 1u);
  loop.run_for(1s);
  EXPECT_EQ(pod_creates(), 1u) << "not again while the write is under way";
  writer.answer();
  loop.run_for(1ms);
  EXPECT_EQ(writer.events,
            std::vector<std::string>{"Normal web SuccessfulCreate: Created pod: " +
                                     world.view.list(view::kReplicaSets).front()->name + "-" +
                                     writer.events.at(0).substr(writer.events.at(0).size() - 5)});
}

TEST_F(RunnerTest, TheOthersStepInAfterTheirTurn) {
  for (const std::size_t rank : {1u, 2u}) {
    SCOPED_TRACE(rank);
    writer.writes.clear();
    start(rank);
    world.put(kSet);
    loop.run_for(2s * rank - 100ms);
    EXPECT_EQ(pod_creates(), 0u);
    loop.run_for(200ms);
    EXPECT_EQ(pod_creates(), 1u);
    EXPECT_EQ(runner->stats().stepped_in, 1u);
    runner.reset();
    world.remove(view::kReplicaSets, "default", "web");
  }
}

TEST_F(RunnerTest, TheOthersWaitWhileThereIsProgress) {
  start(1);
  world.put(kSet);
  loop.run_for(1900ms);
  world.change(view::kReplicaSets, "default", "web", [](boost::json::object& body) {
    body["spec"].as_object()["replicas"] = 2;  // another plan: the wait begins anew
  });
  loop.run_for(1900ms);
  EXPECT_EQ(pod_creates(), 0u);
  world.remove(view::kReplicaSets, "default", "web");
  loop.run_for(10s);
  EXPECT_TRUE(writer.writes.empty());
}

TEST_F(RunnerTest, ADeadFirstRankIsNotWaitedFor) {
  start(1);
  loop.run_for(10ms);
  world.put(kSet);
  loop.run_for(100ms);
  EXPECT_EQ(pod_creates(), 0u);
  std::vector<std::string> hosts{"h1", "h2", "h3"};
  world.members.set(rendezvous_owner("replicaset:replicasets.apps/default/web", hosts),
                    {false, loop.now()});
  runner->members_changed();
  world.put(kSet);
  loop.run_for(10ms);
  EXPECT_EQ(pod_creates(), 1u);
}

TEST_F(RunnerTest, NothingBeforeTheViewIsSynced) {
  world.view.set_position(false, 0);
  start(0);
  world.put(kSet);
  loop.run_for(60s);
  EXPECT_TRUE(writer.writes.empty());
  world.view.set_position(true, 1000);
  loop.run_for(200ms);
  EXPECT_EQ(pod_creates(), 1u);
}

TEST_F(RunnerTest, WaitsUntilEveryNodeIsKnownAndStatusesAreIn) {
  world.members.erase("h2");
  bool settled = false;
  RunnerOptions options;
  options.settled = [&] { return settled; };
  start(0, options);
  world.put(kSet);
  loop.run_for(5s);
  EXPECT_TRUE(writer.writes.empty());
  world.members.set("h2", {true, loop.now()});
  loop.run_for(5s);
  EXPECT_TRUE(writer.writes.empty());
  settled = true;
  loop.run_for(200ms);
  EXPECT_EQ(pod_creates(), 1u);
}

TEST_F(RunnerTest, DoesNotWaitForEver) {
  world.members.erase("h2");
  start(0);
  world.put(kSet);
  loop.run_for(21s);
  EXPECT_EQ(pod_creates(), 1u);
}

TEST_F(RunnerTest, BacksOffFromFailures) {
  start(0);
  world.put(kSet);
  std::vector<Duration> gaps;
  MonoTime last = loop.now();
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(loop.run_until([&] { return !writer.writes.empty(); }, 40s));
    gaps.push_back(loop.now() - last);
    last = loop.now();
    writer.answer(fakes::FakeWriter::error(503));
  }
  for (std::size_t i = 2; i < gaps.size(); ++i)
    EXPECT_EQ(gaps[i], std::min<Duration>(gaps[i - 1] * 2, 30s)) << i;
  EXPECT_EQ(runner->stats().steps_failed, 10u);
  EXPECT_TRUE(writer.events.empty()) << "an outage is no event a write";
}

TEST_F(RunnerTest, ARefusalIsAnEvent) {
  start(0);
  world.put(kSet);
  loop.run_for(200ms);
  writer.answer(fakes::FakeWriter::error(422));
  ASSERT_EQ(writer.events.size(), 1u);
  EXPECT_TRUE(writer.events[0].starts_with("Warning web FailedCreate: create pods web-"))
      << writer.events[0];
}

TEST_F(RunnerTest, AWriteThatChangesNothingDoesNotSpin) {
  start(0);
  world.put(kSet);
  int writes = 0;
  const MonoTime end = loop.now() + 60s;
  while (loop.now() < end) {
    loop.run_for(10ms);
    for (; !writer.writes.empty(); ++writes)
      writer.answer();
  }
  EXPECT_LE(writes, 12) << "accepted each time, and never seen in the view";
}

TEST_F(RunnerTest, AWriterThatNeverAnswersIsGivenUpOn) {
  start(0);
  world.put(kSet);
  loop.run_for(29s);
  EXPECT_EQ(pod_creates(), 1u);
  EXPECT_EQ(runner->stats().in_flight, 1u);
  loop.run_for(5s);
  EXPECT_EQ(pod_creates(), 2u);
  writer.answer();  // late: counts for nothing
  EXPECT_EQ(runner->stats().in_flight, 1u);
  EXPECT_EQ(runner->stats().steps_done, 0u);
}

TEST_F(RunnerTest, LooksAtEverythingAgainEveryHalfMinute) {
  start(0);
  loop.run_for(1s);
  const auto first = runner->stats().looks;
  EXPECT_GE(first, 4u) << "three nodes and the placement";
  loop.run_for(28s);
  EXPECT_EQ(runner->stats().looks, first);
  loop.run_for(2s);
  EXPECT_EQ(runner->stats().looks, 2 * first);
}

TEST_F(RunnerTest, ANoteIsWrittenOnceWhileItHolds) {
  start(0);
  for (const char* name : {"h1", "h2", "h3"})
    world.put(fakes::node(name, "10.244.1.0/24", "198.18.0.11", false));
  world.put(fakes::pod({.name = "stuck"}));
  // The member that places pods may be another: all ranks are tried.
  for (std::size_t rank = 0; rank < 3; ++rank) {
    runner.reset();
    start(rank);
    for (int i = 0; i < 70; ++i) {
      loop.run_for(1s);
      while (!writer.writes.empty())
        writer.answer();
    }
  }
  EXPECT_EQ(
      std::count_if(writer.events.begin(), writer.events.end(),
                    [](const auto& e) { return e.find("FailedScheduling") != std::string::npos; }),
      1);
}

}  // namespace
}  // namespace shoal::controllers
