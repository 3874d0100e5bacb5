// SPDX-License-Identifier: Apache-2.0
// Membership: who belongs to the cluster and how each of them stands. It merges what packets say,
// times suspicions, refutes what is wrongly said of this host, and tells news on.
#pragma once

#include "agent/gossip/core/context.h"
#include "agent/gossip/core/member_table.h"
#include "agent/gossip/core/news.h"

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::gossip {

class Membership {
public:
  // removed: a member's entries are to go; raised: this host goes on under a larger start id.
  struct Hooks {
    std::function<void(const std::string& name)> removed;
    std::function<void(std::uint64_t start_id)> raised;
  };
  Membership(Context& context, Hooks hooks);

  MemberTable& table() { return table_; }
  const MemberTable& table() const { return table_; }
  const Member& self() const { return table_.self().member; }
  bool leaving() const { return self().state == MemberState::kLeft; }
  const SocketAddress* address_of(std::string_view name) const;  // of a live member

  // ---- what packets say
  void apply(const Record& record);
  void apply(const Verdict& verdict);
  // This host's own probe of it failed.
  void suspect(const std::string& name);
  // A peer knows a later life of this host than this host itself.
  void raise_start_id(std::uint64_t seen);

  // ---- what is told
  std::string record_of(const Node& node) const;   // encoded
  std::string verdict_on(const Node& node) const;  // encoded
  // Adds as much news as fits. What is certain to be sent once is counted as told.
  void piggyback(DatagramBuilder& builder, unsigned times = 1);

  // ---- commands and timers
  void update_meta(MemberMeta meta);
  void leave();
  Result<> forget(std::string_view name);
  void on_gossip_timer();
  void on_suspicion_timer(const std::string& name);
  void on_leave_timer();
  // This host stood still for so long: what it did not hear in that time proves nothing.
  void extend_suspicions(Duration by);
  void purge();  // records past their retention

private:
  void apply_to_self(const Standing& said, const SocketAddress* address);
  void refute(const Standing& said);
  void report_conflict(const SocketAddress& other);
  void begin_suspicion(Node& node, std::span<const std::string> accusers);
  void arm_suspicion(Node& node);
  void end_suspicion(Node& node);
  void confirm(Node& node, std::span<const std::string> accusers);
  void admit(const Record& record);
  void revive(Node& node, const Member& member);
  void end_life(Node& node, const Standing& said);
  void spread(const std::string& name);
  void notify(MemberChange change, const Member& member);

  Context& ctx_;
  Hooks hooks_;
  MemberTable table_;
  News news_;
  std::uint64_t gossip_timer_ = 0;
  MonoTime last_gossip_;
  std::optional<MonoTime> last_conflict_;
};

}  // namespace shoal::gossip
