// SPDX-License-Identifier: Apache-2.0
// Runner: carries out the controllers' plans on this host. Every host runs one and no host leads.
//
// Level-triggered: a change of an object, of membership or of the time is only a reason to look at
// the work items it touches; a look computes the plan anew. For each item the live members are
// ranked by rendezvous hashing and the first acts. Another one acts when it has seen the very same
// plan wanted, without any progress, for step_in_after times its rank: this covers a member that
// lives but does not act. Two actors at once are harmless: children have deterministic names and
// are made by compare-and-create, changes carry the revision they were decided on, deletions the
// uid.
//
// Nothing acts before the view is synced and membership has settled. Failed writes are tried again
// with a capped, doubling backoff. The queue, the number of writes in flight and the work of one
// turn are bounded; what overflows is found again by the resync. Threading: the agent's one loop
// thread.
#pragma once

#include "agent/api/writer.h"
#include "agent/controllers/plan.h"
#include "netplane/base/clock.h"

#include <functional>
#include <memory>
#include <string>

namespace shoal::controllers {

inline constexpr std::size_t kQueueItemsMax = 65536;
inline constexpr std::size_t kLooksPerTurn = 64;  // then other work of the loop comes first
inline constexpr std::size_t kWritesInFlightMax = 256;
inline constexpr std::size_t kRanksMax = 8;  // members beyond this rank never step in

// Runs something later on the loop thread. The runner's own tokens make a stale run a no-op.
class Timers {
public:
  virtual ~Timers() = default;
  virtual void run_at(MonoTime when, std::function<void()> run) = 0;
};

struct RunnerOptions {
  std::string self;  // this host's node name
  Options controllers;
  Duration step_in_after = std::chrono::seconds(2);
  Duration resync_every = std::chrono::seconds(30);
  Duration backoff_first = std::chrono::milliseconds(250);
  Duration backoff_max = std::chrono::seconds(30);
  Duration write_timeout = std::chrono::seconds(30);  // a writer that never answers
  // Nothing acts before membership knows every Node and `settled` (when given) says that the live
  // hosts' statuses have arrived: an agent that has just started would take every pod for unready.
  // At most this long after the sync.
  std::function<bool()> settled;
  Duration settle_max = std::chrono::seconds(20);
  // A Node that membership has never heard of counts as dead after this long.
  Duration unknown_member_grace = std::chrono::seconds(60);
};

struct RunnerStats {
  std::uint64_t looks = 0;
  std::uint64_t steps_done = 0;
  std::uint64_t steps_lost = 0;    // somebody else was faster: exists, conflict, not found
  std::uint64_t steps_failed = 0;  // anything else
  std::uint64_t stepped_in = 0;    // plans carried out for a better-ranked member
  std::uint64_t overflows = 0;     // items dropped until the next resync
  std::size_t queued = 0;
  std::size_t in_flight = 0;
};

class Runner {
public:
  // `members` is asked whenever a plan is made. All references must outlive the runner.
  Runner(View& view, api::Writer& writer, const Clock& clock, Timers& timers,
         std::function<const Members&()> members, RunnerOptions options);
  ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  void start();
  // Membership has changed: whatever hangs on a host whose state differs is looked at.
  void members_changed();
  // Everything is looked at again.
  void resync();
  RunnerStats stats() const;
  // Acting, with nothing queued that is due and nothing in flight.
  bool idle() const;

private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace shoal::controllers
