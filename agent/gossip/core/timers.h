// SPDX-License-Identifier: Apache-2.0
// Timers: what each outstanding token is for. Cancelling forgets the token, so that a timer which
// fires anyway finds nothing to do.
#pragma once

#include "agent/gossip/core/effects.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace shoal::gossip {

enum class TimerKind : std::uint8_t {
  kProbe,
  kProbeTimeout,
  kSuspicion,  // subject: the member
  kRelay,      // number: our sequence of the ping sent for another
  kGossip,
  kDeadProbe,
  kJoin,
  kLeave,
  kFlush,
  kAnnounce,
  kWant,  // subject: the origin
  kHousekeeping,
};

struct Timer {
  TimerKind kind = TimerKind::kProbe;
  std::string subject;
  std::uint64_t number = 0;
  MonoTime at;
};

class Timers {
public:
  std::uint64_t arm(Timer timer, Effects& out);
  // Sets token to 0.
  void cancel(std::uint64_t& token);
  // The timer of a token that has fired, forgotten with this; nothing when stale.
  std::optional<Timer> take(std::uint64_t token);
  const Timer* find(std::uint64_t token) const;

private:
  std::map<std::uint64_t, Timer> armed_;
  std::uint64_t last_ = 0;
};

}  // namespace shoal::gossip
