// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/core/config.h"

#include "agent/gossip/core/message.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::gossip {
namespace {

Result<> require(bool holds, std::string_view relation) {
  if (holds)
    return {};
  return fail(Errc::kInvalid, fmt::format("gossip config: {}", relation));
}

Result<> validate_self(const ProtocolConfig& c) {
  if (!is_member_name(c.name))
    return fail(Errc::kInvalid,
                fmt::format("gossip config: node name \"{}\" must be an RFC 1123 name (lower case "
                            "letters, digits, '-' and '.') other than \"{}\"",
                            c.name, kDesiredOrigin));
  SHOAL_TRY(require(c.start_id != 0, "start_id must not be 0"));
  SHOAL_TRY(require(c.meta.pod_cidrs.size() <= kPodCidrsMax, "at most 4 pod CIDRs"));
  SHOAL_TRY(require(c.meta.version.size() <= kVersionTextBytesMax, "version is too long"));
  return require(!c.meta.gossip_address.ip.is_unspecified(),
                 "the gossip address told to peers must not be 0.0.0.0 or ::; set the address that "
                 "other hosts reach this one by");
}

}  // namespace

void set_probing(ProtocolConfig& c, milliseconds interval, milliseconds timeout) {
  c.probe_interval = interval;
  c.probe_timeout = timeout;
  c.gossip_interval = std::min(c.gossip_interval, interval);
  c.dead_probe_interval = std::max(c.dead_probe_interval, interval);
  c.join_retry = std::max(c.join_retry, interval);
}

Result<> validate(const ProtocolConfig& c) {
  using namespace std::chrono_literals;
  SHOAL_TRY(validate_self(c));
  // Membership: two steps of probing must fit into one interval, or the next probe cuts it short.
  SHOAL_TRY(require(c.probe_timeout > 0ms, "probe_timeout must be positive"));
  SHOAL_TRY(require(c.probe_timeout * 2 <= c.probe_interval,
                    "probe_interval must be at least twice probe_timeout"));
  SHOAL_TRY(require(c.gossip_interval > 0ms && c.gossip_interval <= c.probe_interval,
                    "gossip_interval must be positive and at most probe_interval"));
  SHOAL_TRY(require(c.suspicion_mult >= 2,
                    "suspicion_mult must be at least 2: a suspect needs time "
                    "to hear of it and to refute"));
  SHOAL_TRY(require(c.suspicion_max_mult >= 1, "suspicion_max_mult must be at least 1"));
  SHOAL_TRY(require(c.gossip_fanout >= 1 && c.push_fanout >= 1 && c.announce_fanout >= 1,
                    "fan-outs must be at least 1"));
  SHOAL_TRY(require(c.indirect_helpers <= 16 && c.health_max <= 16 && c.gossip_fanout <= 16 &&
                        c.push_fanout <= 16 && c.announce_fanout <= 16 && c.retransmit_mult <= 16 &&
                        c.suspicion_mult <= 64 && c.suspicion_max_mult <= 64,
                    "a multiplier or fan-out is unreasonably large"));
  SHOAL_TRY(require(c.retransmit_mult >= 1, "retransmit_mult must be at least 1"));
  SHOAL_TRY(require(c.dead_probe_interval >= c.probe_interval && c.join_retry >= c.probe_interval,
                    "dead_probe_interval and join_retry must be at least probe_interval"));
  SHOAL_TRY(require(c.dead_retention >= 60s,
                    "dead_retention must be at least 60 s, or partitions would not heal"));
  SHOAL_TRY(require(c.leave_linger >= c.gossip_interval,
                    "leave_linger must be at least gossip_interval"));
  // Replication
  SHOAL_TRY(require(c.announce_delays[0] > 0ms && c.announce_delays[0] < c.announce_delays[1] &&
                        c.announce_delays[1] < c.announce_delays[2],
                    "announce_delays must be positive and rise"));
  SHOAL_TRY(require(c.flush_gap >= 0ms && c.want_timeout > 0ms && c.housekeeping_interval > 0ms,
                    "flush_gap, want_timeout and housekeeping_interval must be positive"));
  SHOAL_TRY(require(c.sync_interval >= c.announce_delays[2],
                    "sync_interval must not be shorter than the announcements it backs up"));
  SHOAL_TRY(require(c.reset_timeout > c.want_timeout, "reset_timeout must exceed want_timeout"));
  SHOAL_TRY(require(c.tombstone_retention >= c.sync_interval * 10,
                    "tombstone_retention must be at least ten times sync_interval"));
  return require(c.datagram_bytes_max >= kDatagramBytesMin &&
                     c.datagram_bytes_max <= kDatagramBytesMax,
                 "datagram_bytes_max must hold a ping and a member record, and fit into an MTU");
}

}  // namespace shoal::gossip
