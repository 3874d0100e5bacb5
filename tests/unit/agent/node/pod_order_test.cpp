// SPDX-License-Identifier: Apache-2.0
// The order of a pod's containers: init containers, sidecars, main ones, and the way down.
#include "tests/unit/agent/node/pod_plan_fixture.h"

namespace shoal::node {
namespace {

using runtime::shim::ContainerState;
using std::chrono::seconds;

// Init containers "a" and "b", sidecar "s" between them, main containers "m" and "n".
PodSpec ordered(RestartPolicy restart = RestartPolicy::kAlways) {
  PodSpec spec = pod(restart, {"a", "s", "b", "m", "n"});
  spec.containers[0].role = spec.containers[2].role = Role::kInit;
  spec.containers[1].role = Role::kSidecar;
  return spec;
}

PodSeen nothing_ran() {
  return seen({std::nullopt, std::nullopt, std::nullopt, std::nullopt, std::nullopt});
}

Step start(std::size_t i) { return {StepKind::kStartContainer, i, {}}; }
Step stop(std::size_t i) { return {StepKind::kStopContainer, i, {}}; }

void run(PodSeen& state, std::size_t i, bool started = true) {
  state.containers[i].current = running(state.containers[i].next_attempt++);
  state.containers[i].current->sandbox_id = state.sandbox_id;
  state.containers[i].started = state.containers[i].ready = started;
}

void end(PodSeen& state, std::size_t i, int code) {
  const auto before = *state.containers[i].current;
  state.containers[i].current = exited(code, 1, before.ref.attempt);
  state.containers[i].current->sandbox_id = before.sandbox_id;
  state.containers[i].started = state.containers[i].ready = false;
}

PodSeen all_running() {
  PodSeen state = nothing_ran();
  for (std::size_t i = 0; i < 5; ++i) {
    run(state, i);
    if (i == 0 || i == 2)
      end(state, i, 0);
  }
  return state;
}

TEST(Order, InitContainersOneAfterTheOtherThenTheMainOnes) {
  const PodSpec spec = ordered();
  PodSeen state = nothing_ran();
  EXPECT_EQ(next_step(spec, state, true, at(0)), start(0));
  run(state, 0);
  EXPECT_EQ(next_step(spec, state, true, at(0)), wait());  // until it has ended
  end(state, 0, 0);
  state.containers[0].cleaned = false;
  EXPECT_EQ(next_step(spec, state, true, at(0)), (Step{StepKind::kCleanContainer, 0, {}}));
  state.containers[0].cleaned = true;
  EXPECT_EQ(next_step(spec, state, true, at(0)), start(1));
  run(state, 1, false);
  EXPECT_EQ(next_step(spec, state, true, at(0)), wait());  // until its startup probe has passed
  state.containers[1].started = true;
  EXPECT_EQ(next_step(spec, state, true, at(0)), start(2));
  run(state, 2);
  EXPECT_FALSE(initialized(spec, state));
  end(state, 2, 0);
  EXPECT_TRUE(initialized(spec, state));
  EXPECT_EQ(next_step(spec, state, true, at(0)), start(3));
  run(state, 3);
  EXPECT_EQ(next_step(spec, state, true, at(0)), start(4));
  run(state, 4);
  EXPECT_EQ(next_step(spec, state, true, at(0)), wait());
}

TEST(Order, AFailedInitContainerRunsAgainAndHoldsTheRest) {
  for (const RestartPolicy policy : {RestartPolicy::kAlways, RestartPolicy::kOnFailure}) {
    const PodSpec spec = ordered(policy);
    PodSeen state = nothing_ran();
    run(state, 0);
    end(state, 0, 1);
    state.containers[0].not_before = at(10);
    EXPECT_EQ(next_step(spec, state, true, at(0)), wait(at(10)));
    EXPECT_EQ(next_step(spec, state, true, at(10)), start(0));
    state.containers[0].waiting = Waiting{"CrashLoopBackOff", ""};
    const auto status = status_of(spec, state);
    EXPECT_EQ(shown_at(status, "/phase"), "Pending");
    EXPECT_EQ(shown_at(status, "/initContainerStatuses/0/state/waiting/reason"),
              "CrashLoopBackOff");
    EXPECT_EQ(shown_at(status, "/initContainerStatuses/0/lastState/terminated/exitCode"), "1");
    EXPECT_EQ(shown_at(status, "/containerStatuses/0/state/waiting/reason"), "PodInitializing");
    EXPECT_EQ(condition_of(status, "Initialized"),
              "False ContainersNotInitialized: containers with incomplete status: [a s b]");
  }
}

TEST(Order, AFailedInitContainerFailsAPodThatNeverRestarts) {
  const PodSpec spec = ordered(RestartPolicy::kNever);
  PodSeen state = nothing_ran();
  run(state, 0);
  end(state, 0, 0);
  run(state, 1);
  run(state, 2);
  end(state, 2, 3);
  EXPECT_TRUE(finished(spec, state));
  EXPECT_EQ(next_step(spec, state, true, at(0)), stop(1));  // the sidecar
  state.containers[1].stop_sent = true;
  EXPECT_EQ(next_step(spec, state, true, at(0)), wait());
  end(state, 1, 143);
  EXPECT_EQ(next_step(spec, state, true, at(0)), Step{StepKind::kFree});
  state.freed = true;
  state.sandbox = false;
  EXPECT_EQ(next_step(spec, state, true, at(0)), wait());
  const auto status = status_of(spec, state);
  EXPECT_EQ(shown_at(status, "/phase"), "Failed");
  EXPECT_EQ(condition_of(status, "Ready"), "False PodFailed");
  EXPECT_EQ(shown_at(status, "/initContainerStatuses/2/state/terminated/exitCode"), "3");
  EXPECT_EQ(shown_at(status, "/containerStatuses/0/state/waiting/reason"), "PodInitializing");
}

TEST(Order, ASidecarIsStartedAgainBesideTheMainContainers) {
  for (const RestartPolicy policy : {RestartPolicy::kAlways, RestartPolicy::kNever}) {
    const PodSpec spec = ordered(policy);
    PodSeen state = all_running();
    end(state, 1, 0);
    EXPECT_EQ(next_step(spec, state, true, at(0)), start(1));
    EXPECT_EQ(shown_at(status_of(spec, state), "/phase"), "Running");
    run(state, 1, false);
    end(state, 3, 1);  // one that has not started yet holds nobody up any more
    EXPECT_EQ(next_step(spec, state, true, at(0)),
              policy == RestartPolicy::kNever ? wait() : start(3));
    EXPECT_EQ(condition_of(status_of(spec, state), "Initialized"), "True");
  }
}

TEST(Order, SidecarsEndWithTheMainContainersAndDoNotDecideThePhase) {
  const PodSpec spec = ordered(RestartPolicy::kNever);
  PodSeen state = all_running();
  end(state, 3, 0);
  EXPECT_EQ(next_step(spec, state, true, at(0)), wait());
  end(state, 4, 0);
  EXPECT_EQ(next_step(spec, state, true, at(0)), stop(1));
  EXPECT_EQ(shown_at(status_of(spec, state), "/phase"), "Running");
  end(state, 1, 137);
  EXPECT_EQ(next_step(spec, state, true, at(0)), Step{StepKind::kFree});
  EXPECT_EQ(shown_at(status_of(spec, state), "/phase"), "Succeeded");
  EXPECT_EQ(condition_of(status_of(spec, state), "Initialized"), "True PodCompleted");
  EXPECT_EQ(condition_of(status_of(spec, state), "Ready"), "False PodCompleted");
}

TEST(Order, StopsMainContainersAtOnceThenSidecarsFromTheLast) {
  PodSpec spec = pod(RestartPolicy::kAlways, {"s", "t", "m", "n"});
  spec.containers[0].role = spec.containers[1].role = Role::kSidecar;
  PodSeen state = seen({running(), running(), running(), running()});
  state.drain_until = at(0);
  const auto next = [&] { return next_step(spec, state, false, at(1)); };
  EXPECT_EQ(next(), stop(2));
  state.containers[2].stop_sent = true;
  EXPECT_EQ(next(), stop(3));
  state.containers[3].stop_sent = true;
  EXPECT_EQ(next(), wait());
  end(state, 2, 0);
  EXPECT_EQ(next(), wait());
  end(state, 3, 0);
  EXPECT_EQ(next(), stop(1));
  state.containers[1].stop_sent = true;
  EXPECT_EQ(next(), wait());
  end(state, 1, 0);
  EXPECT_EQ(next(), stop(0));
  end(state, 0, 0);
  EXPECT_EQ(next(), Step{StepKind::kTeardown});
}

TEST(Order, ANewSandboxRunsInitContainersAgain) {
  const PodSpec spec = ordered();
  PodSeen state = all_running();
  for (std::size_t i = 0; i < 5; ++i)  // as the worker notes the shim's death
    if (i != 0 && i != 2)
      end(state, i, 137);
  state.sandbox = state.network = false;
  EXPECT_EQ(next_step(spec, state, true, at(0)), Step{StepKind::kStartSandbox});
  state.sandbox = state.network = true;
  state.sandbox_id = 7;
  EXPECT_EQ(next_step(spec, state, true, at(0)), start(0));
  run(state, 0);
  EXPECT_EQ(next_step(spec, state, true, at(0)), wait());
  end(state, 0, 0);
  EXPECT_EQ(next_step(spec, state, true, at(0)), start(1));
  run(state, 1);
  EXPECT_EQ(next_step(spec, state, true, at(0)), start(2));
  run(state, 2);
  end(state, 2, 0);
  EXPECT_EQ(next_step(spec, state, true, at(0)), start(3));
}

TEST(Order, OneThatIsCondemnedIsStoppedOnceAndRunsAgain) {
  const PodSpec spec = pod();
  PodSeen state = seen({running()});
  state.containers[0].condemned = Waiting{"Unhealthy", ""};
  EXPECT_EQ(next_step(spec, state, true, at(0)), stop(0));
  state.containers[0].stop_sent = true;
  EXPECT_EQ(next_step(spec, state, true, at(0)), wait());
  end(state, 0, 143);
  EXPECT_EQ(next_step(spec, state, true, at(0)), start(0));
}

TEST(Order, APodThatFailedAsAWholeIsStoppedAndFreed) {
  const PodSpec spec = pod();
  PodSeen state = seen({running()});
  state.failure = Waiting{std::string(kDeadlineExceeded), "late"};
  EXPECT_EQ(next_step(spec, state, true, at(0)), stop(0));
  EXPECT_EQ(shown_at(status_of(spec, state), "/phase"), "Running");
  end(state, 0, 143);
  EXPECT_EQ(next_step(spec, state, true, at(0)), Step{StepKind::kFree});
  const auto status = status_of(spec, state);
  EXPECT_EQ(shown_at(status, "/phase"), "Failed");
  EXPECT_EQ(shown_at(status, "/reason"), "DeadlineExceeded");
  PodSeen after = seen({exited(143)});
  restore_status(spec, status, after);
  EXPECT_TRUE(finished(spec, after));
}

// Whatever has run already and wherever an agent begins: the pod comes up in order, without a step
// twice.
TEST(Order, EveryBeginningComesToRest) {
  for (unsigned start_at = 0; start_at < 5; ++start_at)
    for (const bool here : {true, false}) {
      const PodSpec spec = ordered();
      PodSeen state = nothing_ran();
      state.sandbox_id = 1;
      for (std::size_t i = 0; i < start_at; ++i) {
        run(state, i);
        if (i == 0 || i == 2 || !here)
          end(state, i, here ? 0 : 137);
      }
      if (!here)
        state.sandbox_id = 2;
      std::vector<std::size_t> order;
      for (int steps = 0; steps < 10; ++steps) {
        const Step step = next_step(spec, state, true, at(0));
        if (step == wait())
          break;
        ASSERT_EQ(step.kind, StepKind::kStartContainer);
        order.push_back(step.container);
        run(state, step.container);
        if (spec.containers[step.container].role == Role::kInit)
          end(state, step.container, 0);
      }
      std::vector<std::size_t> wanted;
      for (std::size_t i = here ? start_at : 0; i < 5; ++i)
        wanted.push_back(i);
      EXPECT_EQ(order, wanted) << start_at << here;
      EXPECT_EQ(shown_at(status_of(spec, state), "/phase"), "Running");
    }
}

}  // namespace
}  // namespace shoal::node
