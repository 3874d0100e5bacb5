// SPDX-License-Identifier: Apache-2.0
// What to do next for a pod, and what to report of it: pure functions of what is wanted and what
// was observed. The worker (pod_worker.h) carries steps out one at a time and looks again after
// each.
//
// Restart rules are Kubernetes': the first restart at once, then after 10 s, doubling to 300 s; a
// container that ran for 10 minutes begins anew.
//
// Init containers run one after the other, sidecars among them stay; the main containers follow
// when the last has ended well or, a sidecar, started. All that is known by sandbox: in a new one
// they run again. The way down is the other way round: main containers at once, then the sidecars
// from the last to the first.
#pragma once

#include "agent/node/pod_spec.h"
#include "netplane/base/clock.h"
#include "netplane/base/ip.h"
#include "netplane/model/model.h"
#include "runtime/shim/protocol.h"

#include <boost/json/object.hpp>
#include <optional>
#include <string>
#include <vector>

namespace shoal::node {

inline constexpr std::chrono::minutes kBackoffReset{10};
inline constexpr std::chrono::seconds kRetryFirst{1};  // of a step that failed
inline constexpr std::chrono::seconds kRetryMax{60};
// For an image that is not here: looking into the local store costs nothing, and it may be loaded
// any moment.
inline constexpr std::chrono::seconds kImageRetry{2};
// While a container is being created by what an earlier agent asked for.
inline constexpr std::chrono::milliseconds kTakeUpRetry{100};
// After a pod's deletion was seen, and before its processes are asked to end, every host has it out
// of its rings. A host that does not say so is not waited for longer than that, nor than the pod's
// grace period.
inline constexpr std::chrono::seconds kDrainMax{10};
// From then on nothing new is led to it: for what was on its way.
inline constexpr std::chrono::milliseconds kDrainSettle{100};
inline constexpr std::chrono::seconds kGraceMin{2};

// Of volumes that cannot be set up, doubling; what is missing is looked at again when it comes.
inline constexpr std::chrono::seconds kVolumeRetryMax{16};

inline constexpr std::string_view kDeadlineExceeded = "DeadlineExceeded";
inline constexpr std::string_view kEvicted = "Evicted";

struct Waiting {
  std::string reason;  // "ContainerCreating", "CrashLoopBackOff", "ErrImageNeverPull", ...
  std::string message;
  bool operator==(const Waiting&) const = default;
};

struct ContainerSeen {
  std::optional<runtime::shim::ContainerState> current;   // the latest attempt
  std::optional<runtime::shim::ContainerState> previous;  // the one before it, when it has ended
  std::uint32_t next_attempt = 0;
  std::uint32_t restarts = 0;
  bool pulling = false;              // its image; it is not started before that has ended
  bool stop_sent = false;            // to the attempt that runs
  std::optional<Waiting> condemned;  // that attempt is to end, and why: a probe or a hook failed
  bool in_hook = false;              // its postStart hook is under way: those behind it wait
  bool cleaned = true;               // nothing is left of the ended attempt but its state and log
  std::string started_id;            // a container that an earlier agent reported as started
  bool started = false;              // running, and its startup probe has passed
  bool ready = false;                // started, and its readiness probe passes
  bool unprobed = false;  // taken up running, and its first probe is not back: nothing is known
  MonoTime not_before{};  // of the next start
  std::chrono::milliseconds backoff{0};
  std::optional<Waiting> waiting;  // the last start failed, or is being waited for
  std::string image_id;
};

struct PodSeen {
  bool adopted = false;  // what an earlier agent left has been looked for
  bool sandbox = false;
  std::uint64_t sandbox_id = 0;  // of the living one
  bool network = false;
  bool volumes_due = false;    // to be set up before anything is started
  bool volumes_stale = false;  // what their files show may have changed
  MonoTime volumes_not_before{};
  bool freed = false;  // nothing is held for it any more: all that is left is shown, not run
  std::vector<model::PodAddress>
      addresses;  // IPv4 first; generation 0: its host's, or not known to be its own yet
  WallTime started{};
  std::optional<Waiting> sandbox_error;
  std::optional<Waiting> failure;  // the pod as a whole is over: its deadline passed, say
  MonoTime retry_at{};             // no step before that, but for stopping
  MonoTime stop_began{};
  std::optional<MonoTime> deadline;       // of the pod as a whole: activeDeadlineSeconds
  std::optional<MonoTime> drain_until;    // set when the stop began
  std::vector<ContainerSeen> containers;  // as in the spec
};

enum class StepKind : std::uint8_t {
  kAdopt,
  kSetUpVolumes,  // or bring their files up to date
  kStartSandbox,
  kAttachNetwork,
  kCleanContainer,  // remove what is left of an ended attempt
  kStartContainer,
  kFree,       // every container has ended for good: all goes but logs and status
  kBeginStop,  // wait for the drain
  kExpire,     // the pod's deadline has passed
  kStopContainer,
  kTeardown,  // everything goes
  kWait,      // until `until`, or until something happens
};

struct Step {
  StepKind kind = StepKind::kWait;
  std::size_t container = 0;
  std::optional<MonoTime> until;
  bool operator==(const Step&) const = default;
};

// wanted: the object exists and this host shall run it. False: stop it and leave nothing.
Step next_step(const PodSpec& spec, const PodSeen& seen, bool wanted, MonoTime now);

// What the processes of a pod get of its grace period, when the stop began `waited` ago: all of it
// if it is no longer than kGraceMin, and never less than that.
std::chrono::seconds grace_left(std::chrono::seconds grace, Duration waited);

// Whether a state tells more than what has been seen of that container. The answer to a creation
// may come after the event of the container's end: a phase never goes back within an attempt.
bool is_news(const ContainerSeen& seen, const runtime::shim::ContainerState& state);

// The main containers may run, or did already: all before them is done in this sandbox.
bool initialized(const PodSpec& spec, const PodSeen& seen);
// No container will be started any more: the pod has succeeded or failed. Sidecars may still run.
bool finished(const PodSpec& spec, const PodSeen& seen);
// Of a container that waits for others, or is being made: "PodInitializing" where there are init
// containers.
Waiting default_waiting(const PodSpec& spec);
// "web-1_default(UID)", as Kubernetes' messages have it.
std::string pod_text(const PodSpec& spec);

// Whether a container that has ended is to be started again.
bool restarts(RestartPolicy policy, const runtime::shim::ContainerState& ended);
// When, and with which backoff the next time.
void plan_restart(const PodSpec& spec, std::size_t container, ContainerSeen& seen, MonoTime now);

// As Go prints durations: "10s", "1m20s", "5m0s", "1.5s".
std::string go_duration(std::chrono::milliseconds duration);

// A start that failed: when the next try is, and what is shown meanwhile.
void plan_retry(ContainerSeen& seen, Waiting why, MonoTime now);

// What an earlier agent reported and only it knew: when the pod began, the address it has or had,
// the images its containers ran.
void restore_status(const PodSpec& spec, const boost::json::object& status, PodSeen& seen);

struct StatusFacts {
  std::vector<IpAddress> host_ips;  // IPv4 first
  WallTime now;
};
// Kubernetes' PodStatus. Condition times are kept from `before` where the status did not change.
// "shoal://UID/NAME-ATTEMPT"
std::string container_id_text(const PodSpec& spec, const runtime::shim::ContainerState& state);
boost::json::object pod_status(const PodSpec& spec, const PodSeen& seen, const StatusFacts& facts,
                               const boost::json::object* before);

}  // namespace shoal::node
