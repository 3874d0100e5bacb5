// SPDX-License-Identifier: Apache-2.0
// What the core asks of its shell, in order: packets to send, timers to arm, news to hand on.
#pragma once

#include "agent/gossip/core/types.h"

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace shoal::gossip {

// May be lost, doubled or reordered. Not larger than ProtocolConfig::datagram_bytes_max.
struct SendDatagram {
  SocketAddress to;
  std::string bytes;
};
// Arrives whole and in order or not at all; for what is too big for datagrams. At most
// kStreamMessageBytesMax. The shell may drop it (queue full, no connection): anti-entropy mends
// that.
struct SendStream {
  SocketAddress to;
  std::string bytes;
};
// Call on_timer(token, now) once `at` has come. Timers are never cancelled: a stale token is a
// no-op.
struct ArmTimer {
  std::uint64_t token = 0;
  MonoTime at;
};

enum class MemberChange : std::uint8_t {
  kJoined,  // new, or back from dead or left; also a new life (start id) of a live one
  kSuspected,
  kRefuted,  // suspect before, alive again
  kDied,
  kLeft,
  kForgotten,  // its record and its entries are gone; EntryChanged came before for each of them
  kUpdated,    // its meta is another
};
std::string_view to_string(MemberChange change);

struct MemberChanged {
  MemberChange change = MemberChange::kJoined;
  Member member;
};
// Something came from another host. Never raised for what this host published itself.
struct EntryChanged {
  std::string origin;
  std::string key;
  Entry entry;  // entry.value null: deleted
};
// Every change of desired state up to this revision is known here (all EntryChanged came before).
struct DesiredComplete {
  std::uint64_t revision = 0;
};
// The cluster knew a later life of this host than the start id given (a lost state folder and a
// clock set back): the core goes on under this one. Persist it.
struct StartIdRaised {
  std::uint64_t start_id = 0;
};
// Another live host uses this host's name.
struct NameConflict {
  SocketAddress other;
};
// leave() has been told to enough members: sockets may close.
struct LeaveDone {};

using Effect = std::variant<SendDatagram, SendStream, ArmTimer, MemberChanged, EntryChanged,
                            DesiredComplete, StartIdRaised, NameConflict, LeaveDone>;
using Effects = std::vector<Effect>;

}  // namespace shoal::gossip
