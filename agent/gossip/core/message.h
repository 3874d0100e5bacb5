// SPDX-License-Identifier: Apache-2.0
// The messages of the gossip protocol and their encoding.
//
// A packet (datagram or stream message, before sealing) is
//   version (1 byte, kWireVersion) | sender's name | message*        message: type | length | body
// Integers are LEB128, text is length-prefixed. A type that is not known is skipped, as are bytes
// at the end of a body: a newer member may say more. Anything else that does not parse spoils the
// whole packet.
#pragma once

#include "agent/gossip/core/limits.h"
#include "agent/gossip/core/types.h"
#include "netplane/base/result.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <variant>
#include <vector>

namespace shoal::gossip {

inline constexpr std::uint8_t kWireVersion = 1;

// "Are you there?" The target's name is part of it: its address may have a new owner.
struct Ping {
  static constexpr std::uint8_t kType = 1;
  std::uint64_t sequence = 0;  // random, so that an ack cannot be guessed
  std::string target;
  std::uint64_t summary = 0;  // of the sender's whole state; another one makes the receiver sync
  bool operator==(const Ping&) const = default;
};
struct Ack {
  static constexpr std::uint8_t kType = 2;
  std::uint64_t sequence = 0;
  bool operator==(const Ack&) const = default;
};
// "Ping the target for me."
struct PingRequest {
  static constexpr std::uint8_t kType = 3;
  std::uint64_t sequence = 0;
  std::string target;
  SocketAddress address;
  bool operator==(const PingRequest&) const = default;
};
// "I tried and heard nothing": tells the asker that its own network works.
struct Nack {
  static constexpr std::uint8_t kType = 4;
  std::uint64_t sequence = 0;
  bool operator==(const Nack&) const = default;
};
// Whatever is known of a member, with its meta. Says alive most of the time.
struct Record {
  static constexpr std::uint8_t kType = 5;
  Member member;
  std::uint64_t gone_s = 0;  // dead, left, forgotten: for how long
  bool operator==(const Record&) const = default;
};
// A state of a member that the receiver knows; for kSuspect with those who found it silent.
struct Verdict {
  static constexpr std::uint8_t kType = 6;
  std::string name;
  MemberState state = MemberState::kSuspect;
  std::uint64_t start_id = 0;
  std::uint64_t incarnation = 0;
  std::vector<std::string> accusers;
  bool operator==(const Verdict&) const = default;
};

struct MemberDigest {
  std::string name;
  MemberState state = MemberState::kAlive;
  std::uint64_t start_id = 0;
  std::uint64_t incarnation = 0;
  bool operator==(const MemberDigest&) const = default;
};
struct OriginDigest {
  std::string origin;
  std::uint64_t epoch = 0;
  std::uint64_t complete = 0;
  std::uint64_t settled = 0;
  bool operator==(const OriginDigest&) const = default;
};
// What the sender has. Complete: what it does not name it does not have. Otherwise only
// differences.
struct Sync {
  static constexpr std::uint8_t kType = 7;
  bool complete = false;
  bool reply_wanted = false;
  std::vector<MemberDigest> members;
  std::vector<OriginDigest> origins;
  bool operator==(const Sync&) const = default;
};
// "I have this now."
struct Announce {
  static constexpr std::uint8_t kType = 8;
  std::vector<OriginDigest> origins;
  bool operator==(const Announce&) const = default;
};

// A place in an origin's entries in the order of (version, key): all entries before it. A commit of
// the store may write several keys at one version, so a version alone does not say where a transfer
// stands.
struct Cursor {
  std::uint64_t version = 1;
  std::string key;
  auto operator<=>(const Cursor&) const = default;
};
// "Send me what you have from here on."
struct Want {
  static constexpr std::uint8_t kType = 9;
  std::string origin;
  std::uint64_t epoch = 0;
  Cursor from;
  bool resetting = false;  // goes on with a full transfer
  bool operator==(const Want&) const = default;
};
struct DeltaEntry {
  std::string key;
  Value value;  // null: deleted
  std::uint64_t version = 0;
  std::uint64_t create_revision = 0;
  bool operator==(const DeltaEntry& other) const;
};
// Entries of one origin. With a claim (from < to) it holds everything of the sender's in [from, to)
// that still lives or is a remembered deletion. A reset is the full transfer for a receiver that is
// behind collected deletions: in its parts together, what is not named is gone.
struct Delta {
  static constexpr std::uint8_t kType = 10;
  std::string origin;
  std::uint64_t epoch = 0;
  Cursor from, to;
  std::uint64_t settled = 0;
  bool reset = false;
  bool more = false;    // the sender has entries at or after `to`
  bool pushed = false;  // unasked: hand it on at once
  std::vector<DeltaEntry> entries;
  bool operator==(const Delta&) const = default;
};

using Message =
    std::variant<Ping, Ack, PingRequest, Nack, Record, Verdict, Sync, Announce, Want, Delta>;

struct Packet {
  std::string sender;
  std::vector<Message> messages;
};

void begin_packet(std::string& out, std::string_view sender);
// A message with its type and length, to be appended to a packet.
std::string encode(const Message& message);
Result<Packet> decode_packet(std::string_view bytes);

// How many bytes an entry takes in a delta, at most.
std::size_t delta_entry_bytes(std::size_t key_bytes, std::size_t value_bytes);

bool is_member_name(std::string_view name);

}  // namespace shoal::gossip
