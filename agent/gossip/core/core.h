// SPDX-License-Identifier: Apache-2.0
// Core: the gossip protocol without IO. It owns the membership (SWIM with Lifeguard) and the
// replicated entries of all origins, and is driven by inputs: packets, timers, commands. Each input
// appends what shall happen to the caller's list of effects, in order. No socket, clock, thread or
// random source is used inside; time is an argument and randomness is handed in, so one seed
// replays everything.
//
// Time is monotonic and must not go back between calls. Packets are given and taken in the clear:
// the shell seals and opens them, and passes on only what was authentic. Malformed packets are
// counted and dropped; nothing that a peer sends may end the program.
//
// Threading: none; one caller at a time.
#pragma once

#include "agent/gossip/core/config.h"
#include "agent/gossip/core/effects.h"
#include "agent/gossip/core/stats.h"
#include "agent/gossip/core/types.h"
#include "netplane/base/random.h"
#include "netplane/base/result.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::gossip {

class Core {
public:
  // The config must have passed validate(); random must outlive the core.
  Core(ProtocolConfig config, Random& random);
  ~Core();
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  // ---- inputs
  void start(MonoTime now, Effects& out);  // once, before any other input
  void on_datagram(const SocketAddress& from, std::string_view bytes, MonoTime now, Effects& out);
  void on_stream_message(const SocketAddress& from, std::string_view bytes, MonoTime now,
                         Effects& out);
  void on_timer(std::uint64_t token, MonoTime now, Effects& out);
  // The kernel said that nobody listens at this address: a reason to ask others at once, never
  // proof.
  void on_refused(const SocketAddress& to, MonoTime now, Effects& out);

  // ---- commands: membership
  void join(std::span<const SocketAddress> seeds, MonoTime now, Effects& out);
  void leave(MonoTime now, Effects& out);  // ends with LeaveDone
  void update_meta(MemberMeta meta, MonoTime now, Effects& out);
  // Removes a dead or left member and its entries everywhere. kConflict while it is live.
  Result<> forget(std::string_view name, MonoTime now, Effects& out);

  // ---- commands: entries
  // Of this host's own origin; no value: delete. Publishing what is there already does nothing.
  // kInvalid: key or value too large; kExhausted: too many entries.
  Result<> publish(std::string_view key, std::optional<std::string> value, MonoTime now,
                   Effects& out);
  // All that this life of the host reports has been published: entries of earlier lives that were
  // not published again are now gone. Without it they stay visible after a restart of the agent.
  void publish_settled(MonoTime now, Effects& out);
  // Commits from the store; everything up to complete_to is known with them (0: no such claim).
  // A key's larger revision wins, wherever it came from.
  Result<> publish_desired(std::span<const DesiredEvent> events, std::uint64_t complete_to,
                           MonoTime now, Effects& out);
  // All live values as of one revision: keys that are not named, and not newer, are gone.
  Result<> publish_desired_snapshot(std::span<const DesiredEvent> values, std::uint64_t revision,
                                    MonoTime now, Effects& out);

  // ---- readers
  const Member& self() const;
  std::vector<Member> members() const;  // by name, this host included, forgotten ones not
  std::optional<Member> member(std::string_view name) const;
  std::optional<Entry> entry(std::string_view origin, std::string_view key) const;  // live only
  void for_each_entry(std::string_view origin,
                      const std::function<void(std::string_view key, const Entry&)>& visit) const;
  std::uint64_t complete_to(std::string_view origin) const;
  std::uint64_t desired_complete_to() const { return complete_to(kDesiredOrigin); }
  // The same on two hosts when they hold the same members and entries.
  std::uint64_t summary() const;
  unsigned health() const;  // local health multiplier, 0 is best
  const Stats& stats() const;

private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace shoal::gossip
