// SPDX-License-Identifier: Apache-2.0
// Every bound of the gossip protocol, by name. A peer that exceeds one is wrong and is dropped; a
// caller that exceeds one gets an error. Relations between bounds are asserted below.
#pragma once

#include <cstddef>
#include <cstdint>

namespace shoal::gossip {

// Tables.
inline constexpr std::size_t kMembersMax = 1024;             // records, dead and left ones included
inline constexpr std::size_t kOriginsMax = kMembersMax + 1;  // a member each, and "desired"
inline constexpr std::size_t kHostEntriesMax = 16'384;       // of one host's origin
inline constexpr std::size_t kDesiredEntriesMax = 262'144;   // of the origin "desired"
inline constexpr std::size_t kTableBytesMax = 1U << 30;      // keys and values of all origins
inline constexpr std::size_t kTombstonesMax = 65'536;        // beyond: collected before their time
inline constexpr std::size_t kSeedsMax = 64;
inline constexpr std::size_t kTimersMax = 16'384;
inline constexpr std::size_t kRelaysMax = 256;  // indirect probes that we run for others

// Values on the wire, in bytes.
inline constexpr std::size_t kNameBytesMax = 253;
inline constexpr std::size_t kKeyBytesMax = 1024;
inline constexpr std::size_t kValueBytesMax = 3U << 19;  // whatever the store takes
inline constexpr std::size_t kVersionTextBytesMax = 64;
inline constexpr std::size_t kPodCidrsMax = 4;
inline constexpr std::size_t kAccusersMax = 8;  // names in one suspect message
inline constexpr std::size_t kMessagesPerPacketMax = 4096;

// Packets, before sealing. A stream message holds a delta of about kDeltaBytesTarget, or a single
// larger entry.
inline constexpr std::size_t kDatagramBytesMin = 1088;
inline constexpr std::size_t kDatagramBytesMax = 1408;
inline constexpr std::size_t kMemberRecordBytesMax = 512;
inline constexpr std::size_t kDeltaBytesTarget = 256U << 10;
inline constexpr std::size_t kStreamMessageBytesMax = 2U << 20;

// Replication.
inline constexpr std::size_t kFreshMax = 1024;         // versions waiting to be pushed eagerly
inline constexpr std::size_t kPushDatagramsMax = 8;    // of one flush, to each peer of the fan-out
inline constexpr std::size_t kGossipDatagramsMax = 4;  // of one gossip tick, to each peer
inline constexpr std::size_t kReplyDatagramsMax = 3;   // more than that goes by stream
inline constexpr std::size_t kReplyBytesMax = 4U << 20;  // to all requests of one packet
inline constexpr std::size_t kAnnouncersMax = 4;         // remembered for one origin
inline constexpr unsigned kWantTriesMax = 5;

static_assert(kDeltaBytesTarget + kValueBytesMax + kKeyBytesMax + 1024 <= kStreamMessageBytesMax,
              "a delta of full size and one largest entry must fit into a stream message");
static_assert(kMembersMax * (kMemberRecordBytesMax + kNameBytesMax) <= kStreamMessageBytesMax,
              "all members must fit into a stream message");
static_assert(kMemberRecordBytesMax + kNameBytesMax * 2 + 64 <= kDatagramBytesMin,
              "a ping and a member record must fit into the smallest datagram");
static_assert(kReplyBytesMax >= kStreamMessageBytesMax);

}  // namespace shoal::gossip
