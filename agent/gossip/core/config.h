// SPDX-License-Identifier: Apache-2.0
// The protocol's knobs. The defaults are for a LAN: a killed host of three is declared dead by all
// after about 2 to 4 s. validate() holds the relations that the protocol relies on.
#pragma once

#include "agent/gossip/core/limits.h"
#include "agent/gossip/core/types.h"
#include "netplane/base/result.h"

#include <array>
#include <chrono>
#include <cstdint>
#include <string>

namespace shoal::gossip {

using std::chrono::milliseconds;

struct ProtocolConfig {
  // ---- this host
  std::string name;            // an RFC 1123 name, not "desired"
  std::uint64_t start_id = 0;  // larger at every start of this host (see net/start_record.h); not 0
  MemberMeta meta;

  // ---- membership: SWIM (Das et al. 2002) with Lifeguard (Dadgar et al. 2017)
  milliseconds probe_interval{500};  // one member is probed in each; stretched by local health
  milliseconds probe_timeout{200};   // then helpers are asked to probe
  unsigned indirect_helpers = 3;
  unsigned suspicion_mult = 4;      // shortest suspicion: mult * max(1, log10(n)) * probe_interval
  unsigned suspicion_max_mult = 6;  // unconfirmed suspicion: this many times the shortest
  unsigned health_max = 8;          // local health multiplier: 0 .. health_max
  milliseconds gossip_interval{100};  // while there is membership news to tell
  unsigned gossip_fanout = 3;
  unsigned retransmit_mult = 4;  // news is told mult * ceil(log10(n + 1)) times by each member
  milliseconds dead_probe_interval{2000};  // one dead member is dialled in each: partitions heal
  milliseconds dead_retention{72 * 3'600'000L};  // then the record and its origin's entries go
  milliseconds join_retry{1000};  // seeds are asked again until another live member is known,
                                  // and 31 times more rarely after that
  milliseconds leave_linger{1000};

  // ---- replication: scuttlebutt (van Renesse et al. 2008) with eager push and lazy announcements
  unsigned push_fanout = 4;
  unsigned announce_fanout = 3;
  std::array<milliseconds, 3> announce_delays{milliseconds(10), milliseconds(30), milliseconds(50)};
  milliseconds flush_gap{4};         // between eager pushes: a burst shares datagrams
  milliseconds sync_interval{1000};  // digests are exchanged at most this often, when they differ
  milliseconds want_timeout{100};    // a request for missing entries is repeated elsewhere; doubles
  milliseconds reset_timeout{5000};  // a full transfer that makes no progress is given up
  milliseconds tombstone_retention{3'600'000};
  milliseconds housekeeping_interval{10'000};

  std::size_t datagram_bytes_max = 1340;  // before sealing
};

Result<> validate(const ProtocolConfig& config);

// The two knobs that are the operator's, and what depends on them: whatever the interval, a timeout
// of at most half of it makes a configuration that validate() accepts.
void set_probing(ProtocolConfig& config, milliseconds interval, milliseconds timeout);

}  // namespace shoal::gossip
