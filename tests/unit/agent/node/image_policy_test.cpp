// SPDX-License-Identifier: Apache-2.0
#include "agent/node/image_policy.h"

#include "tests/unit/agent/node/pod_plan_fixture.h"

namespace shoal::node {
namespace {

using std::chrono::milliseconds;

TEST(ImageStep, ByPolicy) {
  const PullSeen seen;
  EXPECT_EQ(image_step(PullPolicy::kIfNotPresent, true, seen, 0, at(0)), ImageStep::kUse);
  EXPECT_EQ(image_step(PullPolicy::kIfNotPresent, false, seen, 0, at(0)), ImageStep::kPull);
  EXPECT_EQ(image_step(PullPolicy::kNever, true, seen, 0, at(0)), ImageStep::kUse);
  EXPECT_EQ(image_step(PullPolicy::kNever, false, seen, 0, at(0)), ImageStep::kMissing);
  EXPECT_EQ(image_step(PullPolicy::kAlways, true, seen, 0, at(0)), ImageStep::kPull);
  EXPECT_EQ(image_step(PullPolicy::kAlways, false, seen, 0, at(0)), ImageStep::kPull);
}

TEST(ImageStep, AlwaysAsksOnceAnAttempt) {
  PullSeen seen;
  seen.pulled_for = 3;
  EXPECT_EQ(image_step(PullPolicy::kAlways, true, seen, 3, at(0)), ImageStep::kUse);
  EXPECT_EQ(image_step(PullPolicy::kAlways, false, seen, 3, at(0)), ImageStep::kPull);
  EXPECT_EQ(image_step(PullPolicy::kAlways, true, seen, 4, at(0)), ImageStep::kPull);
}

TEST(ImageStep, AFailedPullBacksOffFrom10To300Seconds) {
  PullSeen seen;
  int now = 0;
  for (const int backoff : {10, 20, 40, 80, 160, 300, 300}) {
    pull_failed(seen, "no such host", at(now));
    EXPECT_EQ(image_step(PullPolicy::kAlways, true, seen, 0, at(now + backoff - 1)),
              ImageStep::kBackOff);
    now += backoff;
    EXPECT_EQ(image_step(PullPolicy::kAlways, true, seen, 0, at(now)), ImageStep::kPull);
  }
  // What is loaded by hand meanwhile is taken at once.
  pull_failed(seen, "no such host", at(now));
  EXPECT_EQ(image_step(PullPolicy::kIfNotPresent, true, seen, 0, at(now)), ImageStep::kUse);
  EXPECT_EQ(next_look(PullPolicy::kIfNotPresent, seen, at(now)), at(now + 2));
  EXPECT_EQ(next_look(PullPolicy::kAlways, seen, at(now)), at(now + 300));
  EXPECT_EQ(
      backing_off("x:1", seen),
      (Waiting{"ImagePullBackOff", "Back-off pulling image \"x:1\": ErrImagePull: no such host"}));
}

TEST(ImageTexts, AreKubelets) {
  EXPECT_EQ(
      pulled_text("x", milliseconds(1200), milliseconds(1500), 3),
      "Successfully pulled image \"x\" in 1.2s (1.5s including waiting). Image size: 3 bytes.");
  EXPECT_EQ(never_pulled("x").message,
            "Container image \"x\" is not present with pull policy of Never");
  EXPECT_EQ(local_hint(PullPolicy::kIfNotPresent, true), "");
  EXPECT_NE(local_hint(PullPolicy::kAlways, true), "");
}

TEST(NextStep, APullHoldsUpOnlyWhatStandsBehindIt) {
  const PodSpec spec = pod(RestartPolicy::kAlways, {"a", "b"});
  PodSeen state = seen({std::nullopt, std::nullopt});
  state.containers[0].pulling = true;
  EXPECT_EQ(next_step(spec, state, true, at(0)), (Step{StepKind::kStartContainer, 1, {}}));
  state.containers[1].pulling = true;
  EXPECT_EQ(next_step(spec, state, true, at(0)), wait());
  PodSpec with_init = spec;
  with_init.containers[0].role = Role::kInit;
  state.containers[1].pulling = false;
  EXPECT_EQ(next_step(with_init, state, true, at(0)), wait());
  // Its end waits for none.
  EXPECT_EQ(next_step(spec, state, false, at(0)), Step{StepKind::kTeardown});
}

}  // namespace
}  // namespace shoal::node
