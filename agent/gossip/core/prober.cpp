// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/core/prober.h"

#include <algorithm>
#include <utility>

namespace shoal::gossip {
namespace {
constexpr std::size_t kSoonMax = 16;
}  // namespace

Prober::Prober(Context& context, Membership& membership, std::function<std::uint64_t()> summary)
    : ctx_(context), membership_(membership), summary_(std::move(summary)) {}

void Prober::start() {
  // Hosts that start together do not probe in step.
  const Duration interval = ctx_.config.probe_interval;
  ctx_.arm(TimerKind::kProbe, Duration(static_cast<Duration::rep>(ctx_.random.below(
                                  static_cast<std::uint64_t>(interval.count())))));
  ctx_.arm(TimerKind::kDeadProbe, ctx_.config.dead_probe_interval);
}

Duration Prober::stretched(milliseconds base) const { return Duration(base) * (ctx_.health + 1); }

// ---------------------------------------------------------------------------- the cycle

void Prober::on_probe_timer() {
  if (probe_ && !probe_->acked)
    fail_probe();
  probe_.reset();
  ctx_.timers.cancel(timeout_timer_);
  if (!membership_.leaving()) {
    if (const auto name = next_target()) {
      const Node* node = membership_.table().find(*name);
      probe_ = Probe{.target = *name,
                     .address = node->member.meta.gossip_address,
                     .sequence = ctx_.random.next()};
      ++ctx_.stats.probes;
      send_ping(*node, probe_->sequence);
      timeout_timer_ = ctx_.arm(TimerKind::kProbeTimeout, stretched(ctx_.config.probe_timeout));
    }
  }
  ctx_.arm(TimerKind::kProbe, stretched(ctx_.config.probe_interval));
}

std::optional<std::string> Prober::next_target() {
  const MemberTable& table = membership_.table();
  const auto is_target = [&](const std::string& name) {
    const Node* node = table.find(name);
    return node != nullptr && node->member.is_live() && !table.is_self(name);
  };
  // Suspects that others named and the round take turns: when many die at once, neither waits for
  // the other.
  from_round_ = !from_round_;
  while (!from_round_ && !soon_.empty()) {
    std::string name = std::move(soon_.front());
    soon_.pop_front();
    if (is_target(name))
      return name;
  }
  for (int round = 0; round < 2; ++round) {
    while (!order_.empty()) {
      std::string name = std::move(order_.back());
      order_.pop_back();
      if (is_target(name))
        return name;
    }
    for (const Node* node : table.choose_live(kMembersMax, ctx_.random))
      order_.push_back(node->member.name);
  }
  return std::nullopt;
}

void Prober::probe_soon(const std::string& name) {
  if (soon_.size() < kSoonMax && std::ranges::find(soon_, name) == soon_.end() &&
      (!probe_ || probe_->target != name))
    soon_.push_back(name);
}

// A ping tells a suspect or dead target so at once, so that it can refute (Lifeguard's buddy
// system).
void Prober::send_ping(const Node& target, std::uint64_t sequence) {
  DatagramBuilder builder(ctx_.config);
  builder.add(encode(Ping{sequence, target.member.name, summary_()}));
  if (target.member.state != MemberState::kAlive)
    builder.add(membership_.verdict_on(target));
  membership_.piggyback(builder);
  ctx_.send_datagram(target.member.meta.gossip_address, builder.take());
}

void Prober::reply(const SocketAddress& to, const Message& message) {
  DatagramBuilder builder(ctx_.config);
  builder.add(encode(message));
  membership_.piggyback(builder);
  ctx_.send_datagram(to, builder.take());
}

void Prober::on_timeout_timer() {
  timeout_timer_ = 0;
  if (probe_ && !probe_->acked && !probe_->indirect)
    ask_helpers();
}

void Prober::ask_helpers() {
  probe_->indirect = true;
  const auto helpers = membership_.table().choose_live(
      ctx_.config.indirect_helpers, ctx_.random,
      [&](const Member& m) { return m.name == probe_->target || m.state != MemberState::kAlive; });
  for (const Node* helper : helpers) {
    probe_->helpers.insert(helper->member.name);
    ++ctx_.stats.probes_indirect;
    reply(helper->member.meta.gossip_address,
          PingRequest{probe_->sequence, probe_->target, probe_->address});
  }
}

void Prober::fail_probe() {
  ++ctx_.stats.probes_failed;
  // Helpers that said nothing at all hint at this host rather than at the target, unless they are
  // suspected themselves by now.
  unsigned missed = 0;
  for (const std::string& name : probe_->helpers) {
    const Node* helper = membership_.table().find(name);
    if (!probe_->nacks.contains(name) && helper != nullptr &&
        helper->member.state == MemberState::kAlive)
      ++missed;
  }
  ctx_.worsen_health(probe_->helpers.empty() ? 1 : missed);
  membership_.suspect(probe_->target);
}

void Prober::void_probe() {
  probe_.reset();
  ctx_.timers.cancel(timeout_timer_);
}

// ---------------------------------------------------------------------------- packets

void Prober::on_ping(const SocketAddress& from, const std::string& sender, const Ping& ping) {
  if (ping.target != membership_.self().name)
    return;  // for whoever had this address before
  DatagramBuilder builder(ctx_.config);
  builder.add(encode(Ack{ping.sequence}));
  const Node* node = membership_.table().find(sender);
  if (node != nullptr && node->member.state != MemberState::kAlive)
    builder.add(membership_.verdict_on(*node));
  membership_.piggyback(builder);
  ctx_.send_datagram(from, builder.take());
}

void Prober::on_ack(const Ack& ack) {
  if (probe_ && probe_->sequence == ack.sequence) {
    if (!std::exchange(probe_->acked, true))
      ctx_.improve_health();
    return;
  }
  const auto relay = relays_.find(ack.sequence);
  if (relay == relays_.end())
    return;
  ctx_.timers.cancel(relay->second.timer);
  reply(relay->second.asker, Ack{relay->second.asker_sequence});
  relays_.erase(relay);
}

void Prober::on_ping_request(const SocketAddress& from, const PingRequest& request) {
  // Only members are pinged for others: nobody is made to send packets to strangers.
  const Node* node = membership_.table().find(request.target);
  if (node == nullptr || node->member.meta.gossip_address != request.address ||
      membership_.table().is_self(request.target) || relays_.size() >= kRelaysMax)
    return;
  const std::uint64_t sequence = ctx_.random.next();
  Relay relay{from, request.sequence, request.address, 0};
  relay.timer =
      ctx_.arm(TimerKind::kRelay, Duration(ctx_.config.probe_timeout) * 4 / 5, {}, sequence);
  relays_.emplace(sequence, relay);
  send_ping(*node, sequence);
}

void Prober::on_relay_timer(std::uint64_t sequence) {
  const auto relay = relays_.find(sequence);
  SHOAL_ASSERT(relay != relays_.end());  // the timer is cancelled with the relay
  reply(relay->second.asker, Nack{relay->second.asker_sequence});
  relays_.erase(relay);
}

void Prober::on_nack(const std::string& sender, const Nack& nack) {
  if (!probe_ || probe_->sequence != nack.sequence || !probe_->helpers.contains(sender))
    return;
  probe_->nacks.insert(sender);
  // Refused here and silent to all helpers: nothing more will come, the interval need not run out.
  if (probe_->refused && !probe_->acked && probe_->nacks.size() == probe_->helpers.size()) {
    fail_probe();
    probe_.reset();
  }
}

void Prober::on_refused(const SocketAddress& to) {
  if (probe_ && !probe_->acked && probe_->address == to) {
    probe_->refused = true;
    if (!probe_->indirect)
      ask_helpers();
  }
  std::vector<std::uint64_t> refused;
  for (const auto& [sequence, relay] : relays_)
    if (relay.target == to)
      refused.push_back(sequence);
  for (const std::uint64_t sequence : refused) {
    ctx_.timers.cancel(relays_.at(sequence).timer);
    on_relay_timer(sequence);
  }
}

// ---------------------------------------------------------------------------- the dead

void Prober::on_dead_probe_timer() {
  if (!membership_.leaving())
    for (const Node* node : membership_.table().choose_dead(1, ctx_.random))
      send_ping(*node, ctx_.random.next());
  ctx_.arm(TimerKind::kDeadProbe, ctx_.config.dead_probe_interval);
}

}  // namespace shoal::gossip
