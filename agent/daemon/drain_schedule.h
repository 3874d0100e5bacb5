// SPDX-License-Identifier: Apache-2.0
// When the connections of which weight groups are closed: pure, so that every host decides alike
// from the same Services (agent/api/drain_timeout.h) and its own clock.
//
// A group is due from its time on for as long as it is at weight 0. It is looked at at once, a few
// times more soon after, since what was on its way meanwhile may have been missed, and from then on
// now and then: a connection that had been idle for so long that nothing on this host knew of it
// shows when it is used again.
#pragma once

#include "agent/api/drain_timeout.h"
#include "agent/view/view.h"
#include "netplane/base/clock.h"
#include "netplane/model/model.h"

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace shoal::daemon {

inline constexpr unsigned kDrainPassesSoon = 3;
inline constexpr std::chrono::seconds kDrainPassSoon{1};
inline constexpr std::chrono::seconds kDrainPassLater{60};
// The wall clock may be set meanwhile: it is looked at anew so often.
inline constexpr std::chrono::seconds kDrainLookMax{30};
inline constexpr std::chrono::milliseconds kDrainLookMin{10};

class DrainSchedule {
public:
  // What a Service says; no drains: it is forgotten, but for what has been counted of it.
  void set(std::string_view ns, std::string_view name, std::vector<api::GroupDrain> drains);
  void remove(std::string_view ns, std::string_view name);
  // Groups that a pass is due for.
  std::vector<model::DrainGroup> due(WallTime wall, MonoTime now) const;
  // A pass over the group has ended. A group that is not at weight 0 any more is only counted.
  void passed(const model::DrainGroup& group, std::uint64_t closed, MonoTime now);
  // Until the next time that due() may say something else; nothing: before a change never.
  std::optional<Duration> until_next(WallTime wall, MonoTime now) const;

  struct Status {
    std::string group;
    Duration left{0};          // until its connections are closed; 0: it is due
    std::uint64_t closed = 0;  // since it was due
  };
  std::vector<Status> status(std::string_view ns, std::string_view name, WallTime wall) const;
  // Since this agent has started, of Services that are there.
  const std::map<model::DrainGroup, std::uint64_t>& closed() const { return closed_; }

private:
  struct Entry {
    WallTime due{};
    MonoTime next_pass{};
    unsigned passes = 0;
    std::uint64_t closed = 0;
  };
  std::map<model::DrainGroup, Entry> entries_;
  std::map<model::DrainGroup, std::uint64_t> closed_;
};

}  // namespace shoal::daemon
