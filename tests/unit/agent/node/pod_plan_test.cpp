// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/agent/node/pod_plan_fixture.h"

namespace shoal::node {
namespace {

namespace json = boost::json;
using runtime::shim::ContainerPhase;
using runtime::shim::ContainerState;
using std::chrono::seconds;

TEST(NextStep, BringsAPodUpInOrder) {
  const PodSpec spec = pod(RestartPolicy::kAlways, {"a", "b"});
  PodSeen state;
  state.containers.resize(2);
  EXPECT_EQ(next_step(spec, state, true, at(0)), Step{StepKind::kAdopt});
  state.adopted = true;
  EXPECT_EQ(next_step(spec, state, true, at(0)), Step{StepKind::kStartSandbox});
  state.sandbox = true;
  EXPECT_EQ(next_step(spec, state, true, at(0)), Step{StepKind::kAttachNetwork});
  state.network = true;
  EXPECT_EQ(next_step(spec, state, true, at(0)), (Step{StepKind::kStartContainer, 0, {}}));
  state.containers[0].current = running(0, "a");
  EXPECT_EQ(next_step(spec, state, true, at(0)), (Step{StepKind::kStartContainer, 1, {}}));
  state.containers[1].current = running(0, "b");
  EXPECT_EQ(next_step(spec, state, true, at(0)), wait());
}

TEST(NextStep, AFailedStepWaitsForItsRetry) {
  const PodSpec spec = pod();
  PodSeen state;
  state.containers.resize(1);
  state.retry_at = at(5);
  EXPECT_EQ(next_step(spec, state, true, at(4)), wait(at(5)));
  EXPECT_EQ(next_step(spec, state, true, at(5)), Step{StepKind::kAdopt});
  state.adopted = true;
  EXPECT_EQ(next_step(spec, state, true, at(4)), wait(at(5)));
  EXPECT_EQ(next_step(spec, state, true, at(5)), Step{StepKind::kStartSandbox});
}

TEST(IsNews, APhaseNeverGoesBack) {
  ContainerSeen container;
  EXPECT_TRUE(is_news(container, running()));
  container.current = running(1);
  EXPECT_FALSE(is_news(container, exited(0)));  // of the attempt before
  EXPECT_TRUE(is_news(container, exited(0, 1, 1)));
  EXPECT_TRUE(is_news(container, running(2)));
  // The container's end was told before the answer to its creation came.
  container.current = exited(0, 1, 1);
  EXPECT_FALSE(is_news(container, running(1)));
  EXPECT_TRUE(is_news(container, running(2)));
}

TEST(NextStep, RestartsAsThePolicySays) {
  for (const auto& [policy, code, again] : {std::tuple{RestartPolicy::kAlways, 0, true},
                                            {RestartPolicy::kAlways, 1, true},
                                            {RestartPolicy::kOnFailure, 0, false},
                                            {RestartPolicy::kOnFailure, 1, true},
                                            {RestartPolicy::kNever, 0, false},
                                            {RestartPolicy::kNever, 1, false}}) {
    PodSeen state = seen({exited(code)});
    const Step done{StepKind::kFree, 0, {}};
    EXPECT_EQ(next_step(pod(policy), state, true, at(0)),
              again ? (Step{StepKind::kStartContainer, 0, {}}) : done);
    EXPECT_EQ(restarts(policy, exited(code)), again);
    state.containers[0].cleaned = false;
    EXPECT_EQ(next_step(pod(policy), state, true, at(0)),
              again ? (Step{StepKind::kCleanContainer, 0, {}}) : done);
  }
}

TEST(NextStep, OneWaitingContainerDoesNotDelayAnother) {
  PodSeen state = seen({exited(1, 1, 0, "a"), exited(1, 1, 0, "b")});
  state.containers[0].not_before = at(20);
  state.containers[1].not_before = at(10);
  const PodSpec spec = pod(RestartPolicy::kAlways, {"a", "b"});
  EXPECT_EQ(next_step(spec, state, true, at(0)), wait(at(10)));
  EXPECT_EQ(next_step(spec, state, true, at(10)), (Step{StepKind::kStartContainer, 1, {}}));
}

TEST(NextStep, AFinishedPodIsFreedOnceAndNotStartedAgain) {
  PodSeen state = seen({exited(0)});
  state.sandbox = state.network = false;  // also when its sandbox died: the address is held
  EXPECT_EQ(next_step(pod(RestartPolicy::kNever), state, true, at(0)), Step{StepKind::kFree});
  state.retry_at = at(1);
  EXPECT_EQ(next_step(pod(RestartPolicy::kNever), state, true, at(0)), wait(at(1)));
  state.retry_at = {};
  state.freed = true;
  EXPECT_EQ(next_step(pod(RestartPolicy::kNever), state, true, at(0)), wait());
  EXPECT_EQ(next_step(pod(RestartPolicy::kNever), state, false, at(0)), Step{StepKind::kTeardown});
  EXPECT_EQ(next_step(pod(RestartPolicy::kAlways), state, true, at(0)),
            Step{StepKind::kStartSandbox});
}

TEST(NextStep, AContainerThatIsDoneIsCleanedWhileAnotherRuns) {
  const PodSpec spec = pod(RestartPolicy::kNever, {"a", "b"});
  PodSeen state = seen({exited(0, 1, 0, "a"), running(0, "b")});
  state.containers[0].cleaned = false;
  EXPECT_EQ(next_step(spec, state, true, at(0)), (Step{StepKind::kCleanContainer, 0, {}}));
  state.containers[0].cleaned = true;
  EXPECT_EQ(next_step(spec, state, true, at(0)), wait());
}

TEST(NextStep, StopsByDrainThenTermThenTeardown) {
  const PodSpec spec = pod();
  PodSeen state = seen({running()});
  EXPECT_EQ(next_step(spec, state, false, at(0)), Step{StepKind::kBeginStop});
  state.drain_until = at(1);
  EXPECT_EQ(next_step(spec, state, false, at(0)), wait(at(1)));
  EXPECT_EQ(next_step(spec, state, false, at(1)), Step{StepKind::kStopContainer});
  state.containers[0].stop_sent = true;
  EXPECT_EQ(next_step(spec, state, false, at(1)), wait());
  state.containers[0].current = exited(0);
  EXPECT_EQ(next_step(spec, state, false, at(1)), Step{StepKind::kTeardown});
}

TEST(NextStep, StopsWithoutDetours) {
  PodSpec at_once = pod();
  at_once.grace = seconds(0);
  PodSeen state = seen({running()});
  state.drain_until = at(1);
  EXPECT_EQ(next_step(at_once, state, false, at(0)), Step{StepKind::kStopContainer});
  EXPECT_EQ(next_step(pod(), seen({std::nullopt}), false, at(0)), Step{StepKind::kTeardown});
  PodSeen nothing;
  nothing.adopted = true;
  nothing.containers.resize(1);
  EXPECT_EQ(next_step(pod(), nothing, false, at(0)), Step{StepKind::kTeardown});
  nothing.adopted = false;  // what an earlier agent left must be found to be removed
  EXPECT_EQ(next_step(pod(), nothing, false, at(0)), Step{StepKind::kAdopt});
}

TEST(GraceLeft, TheDrainCounts) {
  using std::chrono::milliseconds;
  EXPECT_EQ(grace_left(seconds(30), milliseconds(900)), seconds(30));
  EXPECT_EQ(grace_left(seconds(30), seconds(10)), seconds(20));
  EXPECT_EQ(grace_left(seconds(11), seconds(10)), kGraceMin);
  EXPECT_EQ(grace_left(seconds(1), seconds(1)), seconds(1));
  EXPECT_EQ(grace_left(seconds(0), seconds(5)), seconds(0));
}

// Whatever happens in whatever order, a pod that is to go is gone after a bounded number of steps,
// and one that is to run runs: a worker in miniature, without time.
TEST(NextStep, AlwaysComesToRest) {
  for (const RestartPolicy policy : {RestartPolicy::kAlways, RestartPolicy::kNever})
    for (unsigned start = 0; start < 64; ++start) {
      const bool wanted = (start & 32) != 0;
      const PodSpec spec = pod(policy);
      PodSeen state;
      state.adopted = (start & 1) != 0;
      state.sandbox = (start & 2) != 0;
      state.network = (start & 4) != 0;
      state.volumes_due = !state.sandbox;
      state.volumes_stale = state.sandbox;
      state.containers.resize(1);
      if ((start & 8) != 0)
        state.containers[0].current = (start & 16) != 0 ? running() : exited(1);
      bool torn = false;
      int steps = 0;
      for (; steps < 20 && !torn; ++steps) {
        const Step step = next_step(spec, state, wanted, at(steps));
        if (step.kind == StepKind::kWait && !step.until)
          break;
        switch (step.kind) {
        case StepKind::kAdopt:
          state.adopted = true;
          break;
        case StepKind::kSetUpVolumes:
          state.volumes_due = state.volumes_stale = false;
          break;
        case StepKind::kStartSandbox:
          state.sandbox = true;
          break;
        case StepKind::kAttachNetwork:
          state.network = true;
          break;
        case StepKind::kCleanContainer:
          state.containers[0].cleaned = true;
          break;
        case StepKind::kStartContainer:
          state.containers[0].current = running(1);
          break;
        case StepKind::kFree:
          state.freed = true;
          break;
        case StepKind::kBeginStop:
          state.drain_until = at(steps + 1);
          break;
        case StepKind::kExpire:
          ADD_FAILURE() << "no deadline was set";
          break;
        case StepKind::kStopContainer:
          state.containers[0].current = exited(143);
          break;
        case StepKind::kTeardown:
          torn = true;
          break;
        case StepKind::kWait:
          break;
        }
      }
      EXPECT_LT(steps, 20) << start;
      EXPECT_EQ(torn, !wanted) << start;
      const bool finished = policy == RestartPolicy::kNever && (start & 24) == 8;
      EXPECT_EQ(state.freed, wanted && finished) << start;
      if (wanted) {
        EXPECT_EQ(state.containers[0].current->phase,
                  finished ? ContainerPhase::kExited : ContainerPhase::kRunning)
            << start;
      }
    }
}

TEST(PlanRestart, DoublesAndForgets) {
  ContainerSeen container;
  container.current = exited(1);
  std::vector<long> delays;
  for (int i = 0; i < 8; ++i) {
    plan_restart(pod(), 0, container, at(100));
    delays.push_back(std::chrono::duration_cast<seconds>(container.not_before - at(100)).count());
    if (i == 3) {
      EXPECT_EQ(*container.waiting,
                (Waiting{"CrashLoopBackOff", "back-off 40s restarting failed container=web "
                                             "pod=web-1_default(u1)"}));
    }
  }
  EXPECT_EQ(delays, (std::vector<long>{0, 10, 20, 40, 80, 160, 300, 300}));
  EXPECT_EQ(container.waiting->message,
            "back-off 5m0s restarting failed container=web pod=web-1_default(u1)");
  container.waiting.reset();
  container.current = exited(1, 600);
  plan_restart(pod(), 0, container, at(100));
  EXPECT_EQ(container.not_before, at(100));
  EXPECT_FALSE(container.waiting);
}

TEST(PlanRestart, APodMaySayHowLong) {
  PodSpec spec = pod();
  spec.backoff_first = std::chrono::milliseconds(500);
  spec.backoff_max = std::chrono::milliseconds(1500);
  ContainerSeen container;
  container.current = exited(1);
  std::vector<std::string> messages;
  for (int i = 0; i < 4; ++i) {
    plan_restart(spec, 0, container, at(0));
    messages.push_back(container.waiting ? container.waiting->message.substr(0, 13) : "");
  }
  EXPECT_EQ(messages,
            (std::vector<std::string>{"", "back-off 500m", "back-off 1s r", "back-off 1.5s"}));
  EXPECT_EQ(container.not_before, MonoTime(std::chrono::milliseconds(1500)));
}

TEST(NextStep, TheDeadlineOfAPodIsNotSleptThrough) {
  const PodSpec spec = pod();
  PodSeen state = seen({running()});
  state.deadline = at(10);
  EXPECT_EQ(next_step(spec, state, true, at(0)), wait(at(10)));
  EXPECT_EQ(next_step(spec, state, true, at(10)), Step{StepKind::kExpire});
  state.failure = Waiting{std::string(kDeadlineExceeded), ""};
  EXPECT_EQ(next_step(spec, state, true, at(10)), Step{StepKind::kStopContainer});
  PodSeen done = seen({exited(0)});
  done.deadline = at(10);
  EXPECT_EQ(next_step(pod(RestartPolicy::kNever), done, true, at(20)), Step{StepKind::kFree});
}

TEST(NextStep, APostStartHookHoldsThoseBehindIt) {
  const PodSpec spec = pod(RestartPolicy::kAlways, {"a", "b"});
  PodSeen state = seen({running(0, "a"), std::nullopt});
  state.containers[0].in_hook = true;
  EXPECT_EQ(next_step(spec, state, true, at(0)), wait());
  state.containers[0].in_hook = false;
  EXPECT_EQ(next_step(spec, state, true, at(0)), (Step{StepKind::kStartContainer, 1, {}}));
}

TEST(PlanRetry, AMissingImageIsLookedForSoon) {
  ContainerSeen container;
  plan_retry(container, {"ErrImagePull", "not here"}, at(0));
  EXPECT_EQ(*container.waiting, (Waiting{"ErrImagePull", "not here"}));
  EXPECT_EQ(container.not_before, at(2));
  ContainerSeen never;
  plan_retry(never, {"ErrImageNeverPull", ""}, at(0));
  plan_retry(never, {"ErrImageNeverPull", ""}, at(0));
  EXPECT_EQ(never.waiting->reason, "ErrImageNeverPull");
  // What failed for another reason backs off.
  ContainerSeen broken;
  plan_retry(broken, {"RunContainerError", "exec"}, at(0));
  EXPECT_EQ(broken.not_before, at(1));
  plan_retry(broken, {"RunContainerError", "exec"}, at(0));
  EXPECT_EQ(broken.not_before, at(2));
}

// ---- status
std::string ready_of(const json::object& status) {
  for (const json::value& condition : status.at("conditions").as_array())
    if (condition.at("type") == "Ready")
      return std::string(condition.at("status").as_string());
  return "-";
}

TEST(NextStep, VolumesComeBeforeAnythingIsStarted) {
  const PodSpec spec = pod();
  PodSeen state = seen({std::nullopt});
  state.sandbox = state.network = false;
  state.volumes_due = true;
  EXPECT_EQ(next_step(spec, state, true, at(0)).kind, StepKind::kSetUpVolumes);
  state.volumes_not_before = at(2);  // something was missing
  EXPECT_EQ(next_step(spec, state, true, at(1)), wait(at(2)));
  EXPECT_EQ(next_step(spec, state, false, at(1)).kind, StepKind::kTeardown);
  EXPECT_EQ(next_step(spec, state, true, at(2)).kind, StepKind::kSetUpVolumes);
  state.volumes_due = false;
  EXPECT_EQ(next_step(spec, state, true, at(2)).kind, StepKind::kStartSandbox);
}

TEST(NextStep, StaleVolumesOfARunningPodHoldNothingUp) {
  const PodSpec spec = pod();
  PodSeen state = seen({running()});
  state.volumes_stale = true;
  EXPECT_EQ(next_step(spec, state, true, at(0)).kind, StepKind::kSetUpVolumes);
  state.volumes_not_before = at(5);
  EXPECT_EQ(next_step(spec, state, true, at(0)), wait(at(5)));
  state.containers[0].current = exited(1);
  state.containers[0].cleaned = true;
  EXPECT_EQ(next_step(spec, state, true, at(0)).kind, StepKind::kStartContainer);
  state.network = false;
  EXPECT_EQ(next_step(spec, state, true, at(9)).kind, StepKind::kAttachNetwork);
}

TEST(NextStep, AFinishedPodNeedsNoVolumes) {
  const PodSpec spec = pod(RestartPolicy::kNever);
  PodSeen state = seen({exited(0)});
  state.sandbox = false;
  state.volumes_due = true;
  EXPECT_EQ(next_step(spec, state, true, at(0)).kind, StepKind::kFree);
}

TEST(PodStatus, AnEvictionIsRemembered) {
  const PodSpec spec = pod();
  PodSeen state = seen({exited(137)});
  state.freed = true;
  state.failure = Waiting{std::string(kEvicted), "too much"};
  const json::object status = status_of(spec, state);
  EXPECT_EQ(shown_at(status, "/phase"), "Failed");
  EXPECT_EQ(shown_at(status, "/reason"), "Evicted");
  PodSeen after = seen({exited(137)});
  restore_status(spec, status, after);
  ASSERT_TRUE(after.failure);
  EXPECT_EQ(*after.failure, *state.failure);
}

TEST(PodStatus, InTheHostsNetworkAddressesAreTheHosts) {
  PodSpec spec = pod();
  spec.host_network = true;
  PodSeen state = seen({running()});
  state.addresses = {{*IpAddress::parse("198.18.0.11"), 0}};
  const json::object status = status_of(spec, state);
  EXPECT_EQ(shown_at(status, "/podIP"), "198.18.0.11");
  EXPECT_EQ(shown_at(status, "/podIPs"), R"([{"ip":"198.18.0.11"}])");
  EXPECT_EQ(shown_at(status, "/shoalGeneration"), "-");
  state.network = false;
  EXPECT_EQ(shown_at(status_of(spec, state), "/podIP"), "-");
}

TEST(PodStatus, OfARunningPod) {
  PodSeen state = seen({running(2)});
  state.containers[0].ready = true;
  state.containers[0].restarts = 2;
  state.containers[0].previous = exited(1, 1, 1);
  const json::object status = status_of(pod(), state);
  EXPECT_EQ(shown_at(status, "/phase"), "Running");
  EXPECT_EQ(shown_at(status, "/podIP"), "10.244.1.5");
  EXPECT_EQ(shown_at(status, "/podIPs"), R"([{"ip":"10.244.1.5"}])");
  EXPECT_EQ(shown_at(status, "/hostIP"), "198.18.0.11");
  EXPECT_EQ(shown_at(status, "/shoalGeneration"), "3");
  EXPECT_EQ(ready_of(status), "True");
  EXPECT_EQ(shown_at(status, "/containerStatuses/0/restartCount"), "2");
  EXPECT_EQ(shown_at(status, "/containerStatuses/0/state/running/startedAt"),
            "1970-01-01T00:00:01Z");
  EXPECT_EQ(shown_at(status, "/containerStatuses/0/lastState/terminated/exitCode"), "1");
  EXPECT_EQ(shown_at(status, "/containerStatuses/0/lastState/terminated/reason"), "Error");
}

TEST(PodStatus, PhasesAreKubernetes) {
  const auto phase = [](RestartPolicy policy, std::vector<std::optional<ContainerState>> states) {
    return shown_at(status_of(pod(policy, {"a", "b"}), seen(std::move(states))), "/phase");
  };
  EXPECT_EQ(phase(RestartPolicy::kAlways, {std::nullopt, running()}), "Pending");
  EXPECT_EQ(phase(RestartPolicy::kAlways, {running(), running()}), "Running");
  EXPECT_EQ(phase(RestartPolicy::kAlways, {exited(0), exited(1)}), "Running");
  EXPECT_EQ(phase(RestartPolicy::kNever, {exited(0), running()}), "Running");
  EXPECT_EQ(phase(RestartPolicy::kNever, {exited(0), exited(0)}), "Succeeded");
  EXPECT_EQ(phase(RestartPolicy::kNever, {exited(0), exited(3)}), "Failed");
  EXPECT_EQ(phase(RestartPolicy::kOnFailure, {exited(0), exited(3)}), "Running");
}

TEST(PodStatus, ReasonsAreKubernetes) {
  PodSeen state = seen({exited(1)});
  state.containers[0].waiting = Waiting{"CrashLoopBackOff", "back-off 10s"};
  EXPECT_EQ(shown_at(status_of(pod(), state), "/containerStatuses/0/state/waiting/reason"),
            "CrashLoopBackOff");
  EXPECT_EQ(shown_at(status_of(pod(), state), "/containerStatuses/0/lastState/terminated/exitCode"),
            "1");
  ContainerState oom = exited(137);
  oom.oom_killed = true;
  EXPECT_EQ(shown_at(status_of(pod(RestartPolicy::kNever), seen({oom})),
                     "/containerStatuses/0/state/terminated/reason"),
            "OOMKilled");
  EXPECT_EQ(shown_at(status_of(pod(RestartPolicy::kNever), seen({exited(0)})),
                     "/containerStatuses/0/state/terminated/reason"),
            "Completed");
  EXPECT_EQ(
      shown_at(status_of(pod(), seen({std::nullopt})), "/containerStatuses/0/state/waiting/reason"),
      "ContainerCreating");
}

// Whether it gets connections is for those to say who see the deletion; whether it could is here.
TEST(PodStatus, APodThatIsToGoIsReadyWhileItAnswers) {
  PodSeen state = seen({running()});
  state.containers[0].ready = true;
  PodSpec spec = pod();
  EXPECT_EQ(ready_of(status_of(spec, state)), "True");
  spec.deleting = true;
  EXPECT_EQ(ready_of(status_of(spec, state)), "True");
  state.containers[0].ready = false;
  EXPECT_EQ(ready_of(status_of(spec, state)), "False");
}

TEST(PodStatus, TerminationMessagesAreBoundedAndReadable) {
  ContainerState state = exited(1);
  state.message = std::string("done\xff\xe2\x82\xac\xe2") + std::string(5000, 'x');
  const json::object status = status_of(pod(RestartPolicy::kNever, {"a", "b", "c", "d"}),
                                        seen({state, state, state, state}));
  const std::string message = shown_at(status, "/containerStatuses/3/state/terminated/message");
  EXPECT_EQ(message.substr(0, 9), "done?\xe2\x82\xac?");
  EXPECT_EQ(message.size(), 3072U);
}

TEST(PodStatus, OneUnreadyContainerMakesThePodUnready) {
  PodSeen state = seen({running(0, "a"), running(0, "b")});
  state.containers[0].ready = true;
  const json::object status = status_of(pod(RestartPolicy::kAlways, {"a", "b"}), state);
  EXPECT_EQ(ready_of(status), "False");
  EXPECT_NE(json::serialize(status).find("containers with unready status: [b]"), std::string::npos);
}

TEST(PodStatus, TransitionTimesAreKeptWhileNothingChanges) {
  PodSeen state = seen({running()});
  const json::object first = status_of(pod(), state, 100);
  EXPECT_EQ(status_of(pod(), state, 200, &first), first);  // no news, no report
  state.containers[0].ready = true;
  const json::object second = status_of(pod(), state, 300, &first);
  for (const json::value& condition : second.at("conditions").as_array()) {
    const bool changed =
        condition.at("type") == "Ready" || condition.at("type") == "ContainersReady";
    EXPECT_EQ(condition.at("lastTransitionTime"),
              changed ? "1970-01-01T00:05:00Z" : "1970-01-01T00:01:40Z");
  }
}

TEST(PodStatus, AFinishedPodShowsTheAddressItHad) {
  PodSeen state = seen({exited(0)});
  state.freed = true;
  state.network = state.sandbox = false;
  const json::object status = status_of(pod(RestartPolicy::kNever), state);
  EXPECT_EQ(shown_at(status, "/phase"), "Succeeded");
  EXPECT_EQ(shown_at(status, "/podIP"), "10.244.1.5");
  EXPECT_EQ(shown_at(status, "/shoalGeneration"), "-");
}

// What an agent reports after a restart is what the one before it reported, to the letter.
TEST(PodStatus, SurvivesARestartOfTheAgent) {
  for (const bool freed : {false, true}) {
    const PodSpec spec = pod(RestartPolicy::kNever);
    PodSeen before = seen({freed ? exited(3) : running()});
    before.freed = freed;
    before.started = WallTime(seconds(90));
    before.containers[0].image_id = "sha256:abc";
    before.containers[0].ready = !freed;
    const json::object status = status_of(spec, before, 100);
    PodSeen after = seen({before.containers[0].current});
    after.freed = freed;
    after.started = WallTime(seconds(500));
    after.containers[0].ready = !freed;
    after.addresses.clear();
    restore_status(spec, status, after);
    ASSERT_EQ(after.addresses.size(), 1U);
    after.addresses[0].generation = freed ? 0 : 3;  // as attaching it again tells
    EXPECT_EQ(status_of(spec, after, 500, &status), status);
  }
}

TEST(PodStatus, APodOfTwoFamiliesShowsBothAddresses) {
  PodSeen state = seen({running()});
  state.addresses.push_back({*IpAddress::parse("fd10:244:0:1::5"), 4});
  const json::object status = pod_status(
      pod(), state,
      {{*IpAddress::parse("198.18.0.11"), *IpAddress::parse("2001:db8:1::11")}, WallTime()},
      nullptr);
  EXPECT_EQ(shown_at(status, "/podIP"), "10.244.1.5");
  EXPECT_EQ(json::serialize(status.at("podIPs")),
            R"([{"ip":"10.244.1.5"},{"ip":"fd10:244:0:1::5"}])");
  EXPECT_EQ(json::serialize(status.at("hostIPs")),
            R"([{"ip":"198.18.0.11"},{"ip":"2001:db8:1::11"}])");
  EXPECT_EQ(status.at("shoalGeneration"), 3);
  EXPECT_EQ(status.at("shoalGenerationV6"), 4);
}

TEST(PodStatus, AnAddressIsNotShownBeforeItIsAttachedAgain) {
  const PodSpec spec = pod();
  PodSeen state;
  state.containers.resize(1);
  restore_status(spec, status_of(spec, seen({running()})), state);
  EXPECT_EQ(shown_at(status_of(spec, state), "/podIP"), "-");
  // What cannot be read is left out.
  restore_status(spec, json::object{{"startTime", 7}, {"podIP", "x"}, {"containerStatuses", "?"}},
                 state);
}

}  // namespace
}  // namespace shoal::node
