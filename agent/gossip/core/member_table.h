// SPDX-License-Identifier: Apache-2.0
// MemberTable: the records of all members by name, this host's included, and choices among them.
#pragma once

#include "agent/gossip/core/message.h"
#include "agent/gossip/core/types.h"
#include "netplane/base/random.h"

#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

namespace shoal::gossip {

// What one member's life is known by; the larger one is the truth.
struct Standing {
  std::uint64_t start_id = 0;
  std::uint64_t incarnation = 0;
  MemberState state = MemberState::kAlive;
  auto operator<=>(const Standing&) const = default;
};
inline Standing standing(const Member& m) { return {m.start_id, m.incarnation, m.state}; }
// As digests compare it: suspicion is news of the moment and is not synchronised.
Standing settled_standing(Standing s);

struct Suspicion {
  std::vector<std::string> accusers;  // distinct, at most kAccusersMax
  MonoTime since;
  std::uint64_t timer = 0;
  std::size_t confirmations() const { return accusers.empty() ? 0 : accusers.size() - 1; }
  bool accuse(const std::string& name);  // true: a new one
};

struct Node {
  Member member;
  MonoTime since;  // of the present state
  std::optional<Suspicion> suspicion;
};

class MemberTable {
public:
  explicit MemberTable(Member self);

  const Node& self() const { return *self_; }
  Node& self() { return *self_; }
  bool is_self(std::string_view name) const { return name == self_->member.name; }
  Node* find(std::string_view name);
  const Node* find(std::string_view name) const;
  Node* insert(Member member, MonoTime since);  // null: full
  void erase(std::string_view name);
  std::size_t live() const;  // this host included
  const std::map<std::string, Node, std::less<>>& all() const { return nodes_; }
  std::map<std::string, Node, std::less<>>& all() { return nodes_; }

  // Up to `count` live members, never this host or one for which skip() holds.
  std::vector<const Node*> choose_live(std::size_t count, Random& random,
                                       const std::function<bool(const Member&)>& skip = {}) const;
  std::vector<const Node*> choose_dead(std::size_t count, Random& random) const;

  std::vector<MemberDigest> digests() const;
  std::uint64_t summary() const;

private:
  std::map<std::string, Node, std::less<>> nodes_;
  Node* self_;
};

}  // namespace shoal::gossip
