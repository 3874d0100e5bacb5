// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/core/membership.h"

#include "agent/gossip/core/suspicion.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <fmt/format.h>
#include <utility>

namespace shoal::gossip {
namespace {

constexpr std::chrono::seconds kConflictReportInterval{60};
// Of all accusers' names in a verdict: it has to fit into a datagram beside a ping.
constexpr std::size_t kAccuserBytesMax = 512;
constexpr std::size_t kLeaveTold = 16;  // members that hear of it from us directly

Member own_member(const ProtocolConfig& config) {
  Member m;
  m.name = config.name;
  m.start_id = config.start_id;
  m.meta = config.meta;
  return m;
}

bool is_reachable(const SocketAddress& address) {
  return address.port != 0 && !address.ip.is_unspecified() && !address.ip.is_multicast();
}

bool is_life_before(const Standing& a, const Standing& b) {
  return std::tie(a.start_id, a.incarnation) < std::tie(b.start_id, b.incarnation);
}

}  // namespace

Membership::Membership(Context& context, Hooks hooks)
    : ctx_(context), hooks_(std::move(hooks)), table_(own_member(context.config)) {}

const SocketAddress* Membership::address_of(std::string_view name) const {
  const Node* node = table_.find(name);
  return node == nullptr || !node->member.is_live() ? nullptr : &node->member.meta.gossip_address;
}

// ---------------------------------------------------------------------------- what packets say

void Membership::apply(const Record& record) {
  const Member& said = record.member;
  if (table_.is_self(said.name)) {
    apply_to_self(standing(said), &said.meta.gossip_address);
    return;
  }
  if (!is_reachable(said.meta.gossip_address))
    return;
  Node* node = table_.find(said.name);
  if (node == nullptr) {
    admit(record);
    return;
  }
  if (settled_standing(standing(said)) <= standing(node->member))
    return;
  if (said.is_live()) {
    revive(*node, said);
  } else {
    node->member.meta = said.meta;
    end_life(*node, standing(said));
  }
}

void Membership::admit(const Record& record) {
  const Member& said = record.member;
  const auto gone = std::chrono::seconds(said.is_live() ? 0 : record.gone_s);
  if (gone >= ctx_.config.dead_retention)
    return;  // others are about to drop it too
  Node* node = table_.insert(said, ctx_.now - gone);
  if (node == nullptr) {
    ++ctx_.stats.members_refused;
    return;
  }
  if (said.is_live())
    node->member.state = MemberState::kAlive;
  spread(said.name);
  switch (node->member.state) {
  case MemberState::kAlive:
  case MemberState::kSuspect:
    notify(MemberChange::kJoined, node->member);
    return;
  case MemberState::kDead:
    notify(MemberChange::kDied, node->member);
    return;
  case MemberState::kLeft:
    notify(MemberChange::kLeft, node->member);
    return;
  case MemberState::kForgotten:
    return;
  }
}

// A larger incarnation, or another life, that says alive.
void Membership::revive(Node& node, const Member& said) {
  const Member before = node.member;
  end_suspicion(node);
  node.member = said;
  node.member.state = MemberState::kAlive;
  node.since = ctx_.now;
  spread(said.name);
  if (!before.is_live() || before.start_id != said.start_id)
    notify(MemberChange::kJoined, node.member);
  else if (before.state == MemberState::kSuspect)
    notify(MemberChange::kRefuted, node.member);
  if (before.is_live() && before.start_id == said.start_id && before.meta != said.meta)
    notify(MemberChange::kUpdated, node.member);
}

void Membership::apply(const Verdict& verdict) {
  const Standing said{verdict.start_id, verdict.incarnation, verdict.state};
  if (table_.is_self(verdict.name)) {
    apply_to_self(said, nullptr);
    return;
  }
  Node* node = table_.find(verdict.name);
  if (node == nullptr || verdict.state == MemberState::kAlive)
    return;
  if (verdict.state != MemberState::kSuspect) {
    if (said > standing(node->member))
      end_life(*node, said);
    return;
  }
  // Suspicion of a life that we know. Of any other life, the alive record has to come first.
  if (!node->member.is_live() || said.start_id != node->member.start_id ||
      is_life_before(said, standing(node->member)))
    return;
  const bool known = node->suspicion && said.incarnation == node->member.incarnation;
  node->member.incarnation = said.incarnation;
  if (known)
    confirm(*node, verdict.accusers);
  else
    begin_suspicion(*node, verdict.accusers);
}

void Membership::suspect(const std::string& name) {
  Node* node = table_.find(name);
  if (node == nullptr || !node->member.is_live())
    return;
  const std::string accusers[] = {self().name};
  if (node->suspicion)
    confirm(*node, accusers);
  else
    begin_suspicion(*node, accusers);
}

// Dead, left or forgotten, by a standing larger than the one known.
void Membership::end_life(Node& node, const Standing& said) {
  const MemberState before = node.member.state;
  end_suspicion(node);
  node.member.start_id = said.start_id;
  node.member.incarnation = said.incarnation;
  node.member.state = said.state;
  if (before <= MemberState::kSuspect || said.state == MemberState::kForgotten)
    node.since = ctx_.now;
  spread(node.member.name);
  if (said.state == MemberState::kForgotten) {
    hooks_.removed(node.member.name);
    if (before != said.state)
      notify(MemberChange::kForgotten, node.member);
  } else if (said.state == MemberState::kLeft && before != said.state) {
    notify(MemberChange::kLeft, node.member);
  } else if (said.state == MemberState::kDead && before <= MemberState::kSuspect) {
    ++ctx_.stats.deaths;
    notify(MemberChange::kDied, node.member);
  }
}

// ---------------------------------------------------------------------------- this host

void Membership::apply_to_self(const Standing& said, const SocketAddress* address) {
  const Standing own = standing(self());
  if (leaving())
    return;
  if (said.start_id > own.start_id) {
    if (said.state <= MemberState::kSuspect && address != nullptr &&
        *address != self().meta.gossip_address)
      report_conflict(*address);
    else if (said.state != MemberState::kSuspect || address != nullptr)
      raise_start_id(said.start_id);
    return;
  }
  if (said.start_id == own.start_id && said.state == MemberState::kAlive && address != nullptr &&
      *address != self().meta.gossip_address && said.incarnation >= own.incarnation) {
    report_conflict(*address);
    return;
  }
  if (said.start_id == own.start_id && said > own) {
    refute(said);
    return;
  }
  // Said of the past: whoever said it has not heard of the present.
  if (is_life_before(said, own) && !news_.contains(self().name))
    spread(self().name);
}

void Membership::refute(const Standing& said) {
  table_.self().member.incarnation = said.incarnation + 1;
  ++ctx_.stats.refutations;
  if (said.state != MemberState::kAlive)
    ctx_.worsen_health(1);
  spread(self().name);
}

void Membership::raise_start_id(std::uint64_t seen) {
  if (leaving() || seen < self().start_id)
    return;
  Member& own = table_.self().member;
  own.start_id = seen + 1;
  own.incarnation = 0;
  spread(own.name);
  hooks_.raised(own.start_id);
  ctx_.notify(StartIdRaised{own.start_id});
}

void Membership::report_conflict(const SocketAddress& other) {
  if (last_conflict_ && ctx_.now - *last_conflict_ < kConflictReportInterval)
    return;
  last_conflict_ = ctx_.now;
  ctx_.notify(NameConflict{other});
}

void Membership::update_meta(MemberMeta meta) {
  Member& own = table_.self().member;
  if (own.meta == meta || leaving())
    return;
  own.meta = std::move(meta);
  ++own.incarnation;
  spread(own.name);
}

void Membership::leave() {
  if (leaving())
    return;
  table_.self().member.state = MemberState::kLeft;
  const std::string verdict = verdict_on(table_.self());
  for (const Node* node : table_.choose_live(kLeaveTold, ctx_.random)) {
    DatagramBuilder builder(ctx_.config);
    builder.add(verdict);
    ctx_.send_datagram(node->member.meta.gossip_address, builder.take());
  }
  spread(self().name);
  ctx_.arm(TimerKind::kLeave, ctx_.config.leave_linger);
}

void Membership::on_leave_timer() { ctx_.notify(LeaveDone{}); }

Result<> Membership::forget(std::string_view name) {
  Node* node = table_.find(name);
  if (node == nullptr || node->member.state == MemberState::kForgotten)
    return fail(Errc::kNotFound, fmt::format("forget member {}: no such member", printable(name)));
  if (node->member.is_live() || table_.is_self(name))
    return fail(Errc::kConflict,
                fmt::format("forget member {}: it is {}; stop it first (it would be back at once)",
                            printable(name), to_string(node->member.state)));
  Standing said = standing(node->member);
  said.state = MemberState::kForgotten;
  end_life(*node, said);
  return {};
}

// ---------------------------------------------------------------------------- suspicion

void Membership::begin_suspicion(Node& node, std::span<const std::string> accusers) {
  end_suspicion(node);
  const bool first = node.member.state != MemberState::kSuspect;
  node.member.state = MemberState::kSuspect;
  node.since = ctx_.now;
  node.suspicion.emplace();
  node.suspicion->since = ctx_.now;
  for (const std::string& name : accusers)
    node.suspicion->accuse(name);
  arm_suspicion(node);
  spread(node.member.name);
  ++ctx_.stats.suspicions;
  if (first)
    notify(MemberChange::kSuspected, node.member);
}

void Membership::confirm(Node& node, std::span<const std::string> accusers) {
  const unsigned wanted = confirmations_wanted(ctx_.config, table_.live());
  bool grew = false;
  for (const std::string& name : accusers)
    if (node.suspicion->confirmations() < wanted)
      grew = node.suspicion->accuse(name) || grew;
  if (!grew)
    return;
  arm_suspicion(node);
  spread(node.member.name);
}

void Membership::arm_suspicion(Node& node) {
  Suspicion& s = *node.suspicion;
  ctx_.timers.cancel(s.timer);
  const MonoTime at = s.since + suspicion_timeout(ctx_.config, table_.live(), s.confirmations());
  s.timer = ctx_.arm(TimerKind::kSuspicion, std::max(at - ctx_.now, Duration(0)), node.member.name);
}

void Membership::end_suspicion(Node& node) {
  if (node.suspicion)
    ctx_.timers.cancel(node.suspicion->timer);
  node.suspicion.reset();
}

void Membership::on_suspicion_timer(const std::string& name) {
  Node* node = table_.find(name);
  SHOAL_ASSERT(node != nullptr && node->suspicion);  // the timer is cancelled with the suspicion
  node->suspicion->timer = 0;
  Standing said = standing(node->member);
  said.state = MemberState::kDead;
  end_life(*node, said);
}

void Membership::extend_suspicions(Duration by) {
  for (auto& [name, node] : table_.all()) {
    if (!node.suspicion)
      continue;
    node.suspicion->since += by;
    arm_suspicion(node);
  }
}

void Membership::purge() {
  std::vector<std::string> old;
  for (const auto& [name, node] : table_.all())
    if (!node.member.is_live() && !table_.is_self(name) &&
        ctx_.now - node.since >= ctx_.config.dead_retention)
      old.push_back(name);
  for (const std::string& name : old) {
    hooks_.removed(name);
    news_.remove(name);
    const Member member = table_.find(name)->member;
    table_.erase(name);
    if (member.state != MemberState::kForgotten)
      notify(MemberChange::kForgotten, member);
  }
}

// ---------------------------------------------------------------------------- what is told

std::string Membership::record_of(const Node& node) const {
  Record record{node.member, 0};
  record.member.state = settled_standing(standing(node.member)).state;
  if (!node.member.is_live()) {
    const auto gone = std::chrono::duration_cast<std::chrono::seconds>(ctx_.now - node.since);
    record.gone_s =
        static_cast<std::uint64_t>(std::max<std::chrono::seconds::rep>(gone.count(), 0));
  }
  return encode(record);
}

std::string Membership::verdict_on(const Node& node) const {
  Verdict verdict{
      node.member.name, node.member.state, node.member.start_id, node.member.incarnation, {}};
  if (node.suspicion) {
    std::size_t bytes = 0;
    for (const std::string& name : node.suspicion->accusers)
      if (bytes += name.size(); bytes <= kAccuserBytesMax)
        verdict.accusers.push_back(name);
  }
  return encode(verdict);
}

void Membership::piggyback(DatagramBuilder& builder, unsigned times) {
  if (news_.empty())
    return;
  std::vector<std::string> told;
  news_.for_each([&](const std::string& name) {
    const Node* node = table_.find(name);
    SHOAL_ASSERT(node != nullptr);
    if (!builder.add(node->member.state == MemberState::kAlive ? record_of(*node)
                                                               : verdict_on(*node)))
      return false;
    told.push_back(name);
    return true;
  });
  const unsigned limit = retransmits(ctx_.config, table_.live());
  for (const std::string& name : told)
    news_.told(name, times, limit);
}

void Membership::spread(const std::string& name) {
  news_.add(name);
  if (gossip_timer_ != 0)
    return;
  const MonoTime due = std::max(ctx_.now, last_gossip_ + ctx_.config.gossip_interval);
  gossip_timer_ = ctx_.arm(TimerKind::kGossip, due - ctx_.now);
}

void Membership::on_gossip_timer() {
  gossip_timer_ = 0;
  last_gossip_ = ctx_.now;
  const auto targets = table_.choose_live(ctx_.config.gossip_fanout, ctx_.random);
  if (targets.empty())
    return;  // alone: the news is told when somebody is met
  for (std::size_t n = 0; n < kGossipDatagramsMax && !news_.empty(); ++n) {
    DatagramBuilder builder(ctx_.config);
    piggyback(builder, static_cast<unsigned>(targets.size()));
    const std::string bytes = builder.take();
    for (const Node* node : targets)
      ctx_.send_datagram(node->member.meta.gossip_address, bytes);
  }
  if (!news_.empty())
    gossip_timer_ = ctx_.arm(TimerKind::kGossip, ctx_.config.gossip_interval);
}

void Membership::notify(MemberChange change, const Member& member) {
  ctx_.notify(MemberChanged{change, member});
}

}  // namespace shoal::gossip
