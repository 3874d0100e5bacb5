// SPDX-License-Identifier: Apache-2.0
// What to do next for one pod of this host: next_step(spec, intent, observed, now), pure and
// level-triggered. The worker does one step, notes what came of it in PodObserved, and asks again.
//
// The rules are kubelet's: a container is restarted after its end as the restart policy says, at
// once the first time and then after 10 s, doubling to 300 s; a run of 10 minutes clears the count.
// A pod whose containers have all ended for good gives back its sandbox and address, and keeps its
// logs and its status.
#pragma once

#include "agent/node/pod_spec.h"
#include "netplane/base/clock.h"
#include "netplane/base/ip.h"
#include "runtime/shim/protocol.h"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace shoal::node {

inline constexpr std::chrono::seconds kRestartDelayFirst{10};
inline constexpr std::chrono::seconds kRestartDelayMax{300};
inline constexpr std::chrono::minutes kRestartCountReset{10};
inline constexpr std::chrono::seconds kImageRetry{2};  // looking into the local store costs nothing

struct PodAddress {
  IpAddress ip;
  std::uint16_t generation = 0;
  bool operator==(const PodAddress&) const = default;
};

struct Waiting {
  std::string
      reason;  // Kubernetes' words: ErrImagePull, CreateContainerError, CrashLoopBackOff, ...
  std::string message;
  bool operator==(const Waiting&) const = default;
};

struct ContainerObserved {
  std::optional<runtime::shim::ContainerState> current;  // the newest attempt
  std::optional<runtime::shim::ContainerState> last;     // the one before
  std::string image_id;                                  // digest of what runs
  std::uint32_t next_attempt = 0;
  std::uint32_t crashes = 0;         // ends in a row without a long run
  std::uint32_t start_failures = 0;  // in a row
  std::optional<Waiting> waiting;    // why the last start failed
  MonoTime retry_at{};               // not before
  bool probe_passes = false;
  std::optional<std::uint32_t> ready_attempt;  // that an earlier agent reported as ready
  bool stop_sent = false;

  bool running() const;
  bool exited() const;
};

enum class SandboxState : std::uint8_t {
  kUnknown,  // not looked yet: an earlier agent may have left one
  kNone,
  kLive,
  kDead,  // its shim died; what it left must be swept
};

struct PodObserved {
  SandboxState sandbox = SandboxState::kUnknown;
  std::optional<PodAddress> address;
  bool attached = false;                      // the address answers in the sandbox that lives
  std::vector<ContainerObserved> containers;  // one for each of the spec's
  std::string trouble;  // the last error of sandbox or network, for status and people
  std::uint32_t sandbox_failures = 0;
  MonoTime sandbox_retry_at{};
  bool finished = false;  // ended for good, now or under an earlier agent
  bool cleared = false;   // everything of it was removed, logs too
};

struct Intent {
  bool run = true;
  std::chrono::milliseconds grace{0};
  MonoTime stop_at{};  // of SIGTERM: readiness has been off since before
};

enum class StepKind : std::uint8_t {
  kNone,      // until `wake` or news
  kFind,      // look for a sandbox that an earlier agent left
  kSweep,     // remove what a dead sandbox left, logs excepted
  kSandbox,   // start one
  kAttach,    // give it its address
  kStart,     // container `container`, attempt next_attempt
  kStop,      // ask every running container to end
  kTeardown,  // sandbox and address; logs too when the pod is to go
  kGone,      // nothing of it is left
};

struct Step {
  StepKind kind = StepKind::kNone;
  std::size_t container = 0;
  std::optional<MonoTime> wake;
  bool operator==(const Step&) const = default;
};

Step next_step(const PodSpec& spec, const Intent& intent, const PodObserved& observed,
               MonoTime now);

bool should_restart(RestartPolicy policy, const runtime::shim::ContainerState& ended);
// All containers have ended and none will be restarted.
bool ended_for_good(const PodSpec& spec, const PodObserved& observed);
// The n-th restart in a row (from 1) waits so long after the end of the run before it.
std::chrono::seconds restart_delay(std::uint32_t crashes);

// ---- noting what happened
// A state that the shim reported. True when it is news.
bool note_state(PodObserved& observed, const PodSpec& spec,
                const runtime::shim::ContainerState& state, MonoTime now);
void note_start_failure(ContainerObserved& container, Waiting why, MonoTime now);
void note_sandbox_failure(PodObserved& observed, std::string trouble, MonoTime now);
// The shim has gone: whatever ran has ended with it.
void note_sandbox_death(PodObserved& observed, const PodSpec& spec, std::int64_t wall_ns,
                        MonoTime now);

}  // namespace shoal::node
