// SPDX-License-Identifier: Apache-2.0
// Counters of the gossip core, all since its start unless they name a present amount.
#pragma once

#include <cstdint>

namespace shoal::gossip {

struct Stats {
  // Packets
  std::uint64_t datagrams_in = 0, datagrams_out = 0;
  std::uint64_t datagram_bytes_in = 0, datagram_bytes_out = 0;  // before sealing
  std::uint64_t streams_in = 0, streams_out = 0;
  std::uint64_t stream_bytes_in = 0, stream_bytes_out = 0;
  std::uint64_t malformed = 0;  // packets that did not parse
  std::uint64_t stale_timers = 0;
  // Membership
  std::uint64_t probes = 0, probes_failed = 0, probes_indirect = 0;
  std::uint64_t suspicions = 0, deaths = 0, refutations = 0, pauses = 0;
  std::uint64_t members_refused = 0;  // the table was full
  // Replication
  std::uint64_t entries_published = 0, entries_applied = 0, entries_stale = 0, entries_refused = 0;
  std::uint64_t pushes = 0, announcements = 0, wants = 0, want_timeouts = 0, syncs = 0, resets = 0;
  std::uint64_t fresh_overflows = 0;  // bursts that were left to announcements
  std::uint64_t tombstones_collected = 0;
  // Present amounts
  std::uint64_t entries = 0, tombstones = 0, table_bytes = 0;
};

}  // namespace shoal::gossip
