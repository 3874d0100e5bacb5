// SPDX-License-Identifier: Apache-2.0
// The values of the gossip protocol: members and entries.
//
// A member is one life of a host: its name, and a start id that is larger at every start. Two
// records of one name are ordered by (start id, incarnation, state), states in the order of the
// enum; the larger one is the truth. So a restarted host supersedes whatever was said of its
// earlier life, and a refutation (a larger incarnation) supersedes a suspicion.
//
// An entry is (origin, key) -> value. An origin has one writer, whose versions only rise: a host's
// name for the actual state that the host reports, or kDesiredOrigin, whose versions are store
// revisions.
#pragma once

#include "netplane/base/clock.h"
#include "netplane/base/ip.h"
#include "netplane/base/shared_text.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::gossip {

// No host may bear this name.
inline constexpr std::string_view kDesiredOrigin = "desired";

enum class MemberState : std::uint8_t {
  kAlive = 0,
  kSuspect = 1,
  kDead = 2,
  kLeft = 3,       // said so itself
  kForgotten = 4,  // removed by an operator's or a controller's decision, with its entries
};
std::string_view to_string(MemberState state);

// What a member says of itself. Small: it travels with every alive message.
struct MemberMeta {
  SocketAddress gossip_address;              // where its UDP and TCP gossip ports are reached
  std::optional<SocketAddress> api_address;  // its API over TLS
  std::optional<IpAddress> underlay;         // the address that pod traffic is tunnelled to
  std::vector<IpPrefix> pod_cidrs;           // at most kPodCidrsMax
  std::string version;                       // of shoald
  bool native_routes = false;                // pods of others are reached by routes from there
  bool operator==(const MemberMeta&) const = default;
};

struct Member {
  std::string name;
  MemberState state = MemberState::kAlive;
  std::uint64_t start_id = 0;
  std::uint64_t incarnation = 0;
  MemberMeta meta;

  // Suspects are still taken for alive: suspicion is a question, not an answer.
  bool is_live() const { return state <= MemberState::kSuspect; }
  bool operator==(const Member&) const = default;
};

// Shared and immutable, so that a value of 1 MiB is held once. Null: deleted.
using Value = std::shared_ptr<const std::string>;

struct Entry {
  Value value;
  std::uint64_t version = 0;  // in its origin; of "desired": the store revision of this change
  std::uint64_t create_revision = 0;  // "desired" only: of the key's present life
};

// A committed change of desired state, as the store gives it (shoal::store::Event has the same
// fields).
struct DesiredEvent {
  std::string key;
  SharedText value;  // absent: deleted
  std::uint64_t create_revision = 0;
  std::uint64_t revision = 0;
};

}  // namespace shoal::gossip
