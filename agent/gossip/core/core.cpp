// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/core/core.h"

#include "agent/gossip/core/anti_entropy.h"
#include "agent/gossip/core/context.h"
#include "agent/gossip/core/membership.h"
#include "agent/gossip/core/prober.h"
#include "agent/gossip/core/replication.h"

#include <algorithm>
#include <type_traits>
#include <utility>

namespace shoal::gossip {

struct Core::Impl {
  Impl(ProtocolConfig config, Random& random)
      : ctx{std::move(config), random, {}, {}, {}},
        membership(ctx, {[this](const std::string& name) { replication.remove(name); },
                         [this](std::uint64_t start_id) { replication.own(start_id); }}),
        replication(ctx, membership), anti_entropy(ctx, membership, replication),
        prober(ctx, membership, [this] { return anti_entropy.summary(); }) {}

  // Every input runs inside one of these: it sets the time and sends what was queued.
  class Input {
  public:
    Input(Impl& impl, MonoTime now, Effects& out) : impl_(impl) {
      SHOAL_ASSERT(now >= impl.ctx.now);
      impl.ctx.now = now;
      impl.ctx.out = &out;
    }
    ~Input() {
      impl_.replication.finish();
      impl_.ctx.out = nullptr;
    }
    Input(const Input&) = delete;
    Input& operator=(const Input&) = delete;

  private:
    Impl& impl_;
  };

  void on_packet(const SocketAddress& from, std::string_view bytes, bool is_datagram);
  void handle(const SocketAddress& from, const std::string& sender, const Message& message,
              bool is_datagram);
  void on_timer(const Timer& timer);
  void notice_pause(const Timer& timer);

  Context ctx;
  Membership membership;
  Replication replication;
  AntiEntropy anti_entropy;
  Prober prober;
  MonoTime pause_end;
};

Core::Core(ProtocolConfig config, Random& random)
    : impl_(std::make_unique<Impl>(std::move(config), random)) {
  SHOAL_ASSERT(validate(impl_->ctx.config).has_value());
}

Core::~Core() = default;

// ---------------------------------------------------------------------------- inputs

void Core::start(MonoTime now, Effects& out) {
  const Impl::Input input(*impl_, now, out);
  impl_->membership.table().self().since = now;
  impl_->replication.own(impl_->ctx.config.start_id);
  impl_->prober.start();
  impl_->ctx.arm(TimerKind::kHousekeeping, impl_->ctx.config.housekeeping_interval);
}

void Core::on_datagram(const SocketAddress& from, std::string_view bytes, MonoTime now,
                       Effects& out) {
  const Impl::Input input(*impl_, now, out);
  ++impl_->ctx.stats.datagrams_in;
  impl_->ctx.stats.datagram_bytes_in += bytes.size();
  impl_->on_packet(from, bytes, true);
}

void Core::on_stream_message(const SocketAddress& from, std::string_view bytes, MonoTime now,
                             Effects& out) {
  const Impl::Input input(*impl_, now, out);
  ++impl_->ctx.stats.streams_in;
  impl_->ctx.stats.stream_bytes_in += bytes.size();
  impl_->on_packet(from, bytes, false);
}

void Core::Impl::on_packet(const SocketAddress& from, std::string_view bytes, bool is_datagram) {
  const auto packet = decode_packet(bytes);
  if (!packet) {
    ++ctx.stats.malformed;
    return;
  }
  if (packet->sender == membership.self().name)
    return;  // our own, come back, or another host under our name: see Membership for that
  for (const Message& message : packet->messages)
    handle(from, packet->sender, message, is_datagram);
}

void Core::Impl::handle(const SocketAddress& from, const std::string& sender,
                        const Message& message, bool is_datagram) {
  std::visit(
      [&](const auto& m) {
        using T = std::decay_t<decltype(m)>;
        if constexpr (std::is_same_v<T, Ping>) {
          if (!is_datagram)
            return;  // a stream's address is not one to answer to
          prober.on_ping(from, sender, m);
          if (m.target == membership.self().name)
            anti_entropy.compare(from, m.summary);
        } else if constexpr (std::is_same_v<T, Ack>) {
          prober.on_ack(m);
        } else if constexpr (std::is_same_v<T, PingRequest>) {
          if (is_datagram)
            prober.on_ping_request(from, m);
        } else if constexpr (std::is_same_v<T, Nack>) {
          prober.on_nack(sender, m);
        } else if constexpr (std::is_same_v<T, Record>) {
          membership.apply(m);
        } else if constexpr (std::is_same_v<T, Verdict>) {
          membership.apply(m);
          const Node* node = membership.table().find(m.name);
          if (node != nullptr && node->member.state == MemberState::kSuspect)
            prober.probe_soon(m.name);
        } else if constexpr (std::is_same_v<T, Sync>) {
          anti_entropy.on_sync(sender, m);
        } else if constexpr (std::is_same_v<T, Announce>) {
          for (const OriginDigest& digest : m.origins)
            replication.consider(sender, digest);
        } else if constexpr (std::is_same_v<T, Want>) {
          replication.on_want(sender, m);
        } else if constexpr (std::is_same_v<T, Delta>) {
          replication.on_delta(sender, m);
        }
      },
      message);
}

void Core::on_refused(const SocketAddress& to, MonoTime now, Effects& out) {
  const Impl::Input input(*impl_, now, out);
  impl_->prober.on_refused(to);
}

void Core::on_timer(std::uint64_t token, MonoTime now, Effects& out) {
  const Impl::Input input(*impl_, now, out);
  if (const Timer* timer = impl_->ctx.timers.find(token))
    impl_->notice_pause(*timer);
  if (const auto timer = impl_->ctx.timers.take(token))
    impl_->on_timer(*timer);
  else
    ++impl_->ctx.stats.stale_timers;
}

// A timer that comes late says that this host stood still (stopped, swapped, starved): what it did
// not hear meanwhile proves nothing about others, and much may still wait in its sockets.
void Core::Impl::notice_pause(const Timer& timer) {
  const Duration late = ctx.now - timer.at;
  if (late <= Duration(ctx.config.probe_timeout) || timer.at < pause_end)
    return;
  pause_end = ctx.now;
  ++ctx.stats.pauses;
  ctx.worsen_health(1);
  prober.void_probe();
  membership.extend_suspicions(late + ctx.config.probe_interval);
}

void Core::Impl::on_timer(const Timer& timer) {
  switch (timer.kind) {
  case TimerKind::kProbe:
    return prober.on_probe_timer();
  case TimerKind::kProbeTimeout:
    return prober.on_timeout_timer();
  case TimerKind::kSuspicion:
    return membership.on_suspicion_timer(timer.subject);
  case TimerKind::kRelay:
    return prober.on_relay_timer(timer.number);
  case TimerKind::kGossip:
    return membership.on_gossip_timer();
  case TimerKind::kDeadProbe:
    return prober.on_dead_probe_timer();
  case TimerKind::kJoin:
    return anti_entropy.on_join_timer();
  case TimerKind::kLeave:
    return membership.on_leave_timer();
  case TimerKind::kFlush:
    return replication.on_flush_timer();
  case TimerKind::kAnnounce:
    return replication.on_announce_timer();
  case TimerKind::kWant:
    return replication.on_want_timer(timer.subject);
  case TimerKind::kHousekeeping:
    membership.purge();
    replication.table().collect_tombstones(ctx.now - ctx.config.tombstone_retention);
    replication.table().abandon_resets(ctx.now - ctx.config.reset_timeout);
    ctx.arm(TimerKind::kHousekeeping, ctx.config.housekeeping_interval);
    return;
  }
}

// ---------------------------------------------------------------------------- commands

void Core::join(std::span<const SocketAddress> seeds, MonoTime now, Effects& out) {
  const Impl::Input input(*impl_, now, out);
  impl_->anti_entropy.join(seeds);
}

void Core::leave(MonoTime now, Effects& out) {
  const Impl::Input input(*impl_, now, out);
  impl_->membership.leave();
}

void Core::update_meta(MemberMeta meta, MonoTime now, Effects& out) {
  const Impl::Input input(*impl_, now, out);
  impl_->membership.update_meta(std::move(meta));
}

Result<> Core::forget(std::string_view name, MonoTime now, Effects& out) {
  const Impl::Input input(*impl_, now, out);
  return impl_->membership.forget(name);
}

Result<> Core::publish(std::string_view key, std::optional<std::string> value, MonoTime now,
                       Effects& out) {
  const Impl::Input input(*impl_, now, out);
  return impl_->replication.publish(key, std::move(value));
}

void Core::publish_settled(MonoTime now, Effects& out) {
  const Impl::Input input(*impl_, now, out);
  impl_->replication.publish_settled();
}

Result<> Core::publish_desired(std::span<const DesiredEvent> events, std::uint64_t complete_to,
                               MonoTime now, Effects& out) {
  const Impl::Input input(*impl_, now, out);
  return impl_->replication.publish_desired(events, complete_to, false);
}

Result<> Core::publish_desired_snapshot(std::span<const DesiredEvent> values,
                                        std::uint64_t revision, MonoTime now, Effects& out) {
  const Impl::Input input(*impl_, now, out);
  return impl_->replication.publish_desired(values, revision, true);
}

// ---------------------------------------------------------------------------- readers

const Member& Core::self() const { return impl_->membership.self(); }

std::vector<Member> Core::members() const {
  std::vector<Member> out;
  for (const auto& [name, node] : impl_->membership.table().all())
    if (node.member.state != MemberState::kForgotten)
      out.push_back(node.member);
  return out;
}

std::optional<Member> Core::member(std::string_view name) const {
  const Node* node = std::as_const(impl_->membership).table().find(name);
  if (node == nullptr || node->member.state == MemberState::kForgotten)
    return std::nullopt;
  return node->member;
}

std::optional<Entry> Core::entry(std::string_view origin, std::string_view key) const {
  const Entry* found = impl_->replication.table().find(origin, key);
  return found == nullptr ? std::nullopt : std::optional(*found);
}

void Core::for_each_entry(
    std::string_view origin,
    const std::function<void(std::string_view key, const Entry&)>& visit) const {
  impl_->replication.table().for_each(origin, visit);
}

std::uint64_t Core::complete_to(std::string_view origin) const {
  return impl_->replication.table().complete_to(origin);
}

std::uint64_t Core::summary() const { return impl_->anti_entropy.summary(); }

unsigned Core::health() const { return impl_->ctx.health; }

const Stats& Core::stats() const { return impl_->ctx.stats; }

}  // namespace shoal::gossip
