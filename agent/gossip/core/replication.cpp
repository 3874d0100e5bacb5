// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/core/replication.h"

#include "netplane/base/strings.h"

#include <algorithm>
#include <fmt/format.h>
#include <utility>

namespace shoal::gossip {
namespace {

// A delta's own fields beside its origin's name and its entries, at most.
constexpr std::size_t kDeltaOverheadBytes = 72;
// From these few on, the sender of a burst is not pushed to again.
constexpr std::size_t kFreshFromMax = 4;

Result<> check_entry(std::string_view key, const std::string* value) {
  if (key.empty() || key.size() > kKeyBytesMax)
    return fail(Errc::kInvalid, fmt::format("publish {}: a key has 1 to {} bytes, this one {}",
                                            printable(key), kKeyBytesMax, key.size()));
  if (value && value->size() > kValueBytesMax)
    return fail(Errc::kInvalid, fmt::format("publish {}: a value has at most {} bytes, this one {}",
                                            printable(key), kValueBytesMax, value->size()));
  return {};
}

}  // namespace

Replication::Replication(Context& context, Membership& membership)
    : ctx_(context), membership_(membership), table_(context.stats) {}

// ---------------------------------------------------------------------------- commands

void Replication::own(std::uint64_t epoch) {
  const std::string& name = membership_.self().name;
  table_.own(name, epoch);
  if (table_.complete_to(name) != 0)
    announce(name, true);
}

Result<> Replication::publish(std::string_view key, std::optional<std::string> value) {
  SHOAL_TRY(check_entry(key, value ? &*value : nullptr));
  Value shared = value ? std::make_shared<const std::string>(std::move(*value)) : nullptr;
  const std::string& name = membership_.self().name;
  const auto version = SHOAL_TRY(table_.publish(name, key, std::move(shared), ctx_.now));
  if (!version)
    return {};
  ++ctx_.stats.entries_published;
  note_fresh(name, {*version}, {});
  announce(name, false);
  return {};
}

void Replication::publish_settled() {
  std::vector<EntryChanged> changes;  // there are none: leftovers are kept at other hosts only
  table_.publish_settled(membership_.self().name, changes);
  announce(membership_.self().name, true);
}

Result<> Replication::publish_desired(std::span<const DesiredEvent> events,
                                      std::uint64_t complete_to, bool snapshot) {
  Delta delta;
  delta.origin = kDesiredOrigin;
  delta.to = complete_to == 0 ? delta.from : Cursor{complete_to + 1, {}};
  for (const DesiredEvent& e : events) {
    SHOAL_TRY(check_entry(e.key, e.value.held().get()));
    if (e.revision == 0)
      return fail(Errc::kInvalid, fmt::format("publish {}: revision 0", printable(e.key)));
    delta.entries.push_back(DeltaEntry{e.key, e.value.held(), e.revision, e.create_revision});
  }
  std::vector<EntryChanged> changes;  // the caller's own news
  const auto applied = snapshot ? table_.apply_snapshot(delta, ctx_.now, changes)
                                : table_.apply(delta, ctx_.now, changes);
  ctx_.stats.entries_published += applied.fresh.size();
  if (!applied.fresh.empty() && !snapshot)
    note_fresh(delta.origin, applied.fresh, {});
  if (!applied.fresh.empty() || applied.advanced)
    announce(delta.origin, snapshot);
  if (!applied.refused)
    return {};
  return fail(Errc::kExhausted,
              fmt::format("publish desired state: the gossip table is full (at most {} keys and {} "
                          "bytes); hosts without the store lag behind it",
                          kDesiredEntriesMax, kTableBytesMax));
}

void Replication::remove(const std::string& origin) {
  std::vector<EntryChanged> changes;
  table_.remove_origin(origin, changes);
  stop_wanting(origin);
  announcing_.erase(origin);
  if (const auto found = fresh_.find(origin); found != fresh_.end()) {
    fresh_count_ -= found->second.size();
    fresh_.erase(found);
  }
  report(std::move(changes));
}

void Replication::report(std::vector<EntryChanged> changes) {
  for (EntryChanged& change : changes)
    ctx_.notify(std::move(change));
}

// ---------------------------------------------------------------------------- push

void Replication::note_fresh(const std::string& origin, const std::set<std::uint64_t>& versions,
                             const std::string& from) {
  if (versions.empty())
    return;
  if (fresh_count_ + versions.size() > kFreshMax) {
    ++ctx_.stats.fresh_overflows;
    announce(origin, true);
  } else {
    auto& fresh = fresh_[origin];
    const std::size_t before = fresh.size();
    fresh.insert(versions.begin(), versions.end());
    fresh_count_ += fresh.size() - before;
  }
  if (!from.empty() && fresh_from_.size() < kFreshFromMax)
    fresh_from_.insert(from);
  if (flush_timer_ != 0)
    return;
  const MonoTime due = std::max(ctx_.now, last_flush_ + ctx_.config.flush_gap);
  flush_timer_ = ctx_.arm(TimerKind::kFlush, due - ctx_.now);
}

void Replication::on_flush_timer() {
  flush_timer_ = 0;
  last_flush_ = ctx_.now;
  const std::vector<std::string> datagrams = build_pushes();
  std::set<std::string> not_to = std::exchange(fresh_from_, {});
  if (fresh_.size() == 1)
    not_to.insert(fresh_.begin()->first);  // the origin itself has it
  fresh_.clear();
  fresh_count_ = 0;
  push_to_some(datagrams, not_to);
}

// As many fresh entries as kPushDatagramsMax datagrams hold; the rest is announced instead.
std::vector<std::string> Replication::build_pushes() {
  std::vector<std::string> datagrams;
  DatagramBuilder builder(ctx_.config);
  for (auto& [origin, fresh] : fresh_) {
    auto versions = fresh;
    const std::size_t overhead = kDeltaOverheadBytes + origin.size();
    while (!versions.empty() && datagrams.size() < kPushDatagramsMax) {
      const std::size_t count = versions.size();
      const std::size_t room = builder.room() > overhead ? builder.room() - overhead : 0;
      if (const auto delta = table_.build_push(origin, versions, room)) {
        const bool added = builder.add(encode(*delta));
        SHOAL_ASSERT(added);
      } else if (versions.size() == count && !builder.empty()) {
        datagrams.push_back(builder.take());
      } else if (versions.size() == count) {
        versions.erase(versions.begin());  // too big for any datagram
        announce(origin, true);
      }
    }
    if (!versions.empty()) {
      ++ctx_.stats.fresh_overflows;
      announce(origin, true);
    }
  }
  if (!builder.empty())
    datagrams.push_back(builder.take());
  return datagrams;
}

void Replication::push_to_some(const std::vector<std::string>& datagrams,
                               const std::set<std::string>& not_to) {
  if (datagrams.empty())
    return;
  const auto peers =
      membership_.table().choose_live(ctx_.config.push_fanout, ctx_.random,
                                      [&](const Member& m) { return not_to.contains(m.name); });
  for (const Node* peer : peers)
    for (const std::string& datagram : datagrams) {
      ++ctx_.stats.pushes;
      ctx_.send_datagram(peer->member.meta.gossip_address, datagram);
    }
}

// ---------------------------------------------------------------------------- announce

void Replication::announce(const std::string& origin, bool at_once) {
  const MonoTime due = ctx_.now + (at_once ? milliseconds(0) : ctx_.config.announce_delays[0]);
  const auto [it, inserted] = announcing_.try_emplace(origin, Announcing{0, due});
  it->second.step = 0;
  it->second.at = std::min(it->second.at, due);
  arm_announce();
}

void Replication::arm_announce() {
  if (announcing_.empty())
    return;
  const auto first =
      std::ranges::min_element(announcing_, {}, [](const auto& a) { return a.second.at; });
  if (announce_timer_ != 0 && announce_at_ <= first->second.at)
    return;
  ctx_.timers.cancel(announce_timer_);
  announce_at_ = std::max(first->second.at, ctx_.now);
  announce_timer_ = ctx_.arm(TimerKind::kAnnounce, announce_at_ - ctx_.now);
}

void Replication::on_announce_timer() {
  announce_timer_ = 0;
  std::vector<std::string> datagrams;
  DatagramBuilder builder(ctx_.config);
  Announce batch;
  std::size_t batch_bytes = 0;
  const auto close = [&] {
    if (batch.origins.empty())
      return;
    const bool added = builder.add(encode(batch));
    SHOAL_ASSERT(added);
    datagrams.push_back(builder.take());
    batch.origins.clear();
    batch_bytes = 0;
  };
  const auto& delays = ctx_.config.announce_delays;
  for (auto it = announcing_.begin(); it != announcing_.end();) {
    Announcing& a = it->second;
    if (a.at > ctx_.now || datagrams.size() == kPushDatagramsMax) {
      ++it;
      continue;
    }
    const std::size_t bytes = it->first.size() + 32;
    if (batch_bytes + bytes + 8 > builder.room())
      close();
    batch_bytes += bytes;
    batch.origins.push_back(table_.digest(it->first));
    if (++a.step >= delays.size()) {
      it = announcing_.erase(it);
    } else {
      a.at = ctx_.now + (delays[a.step] - delays[a.step - 1]);
      ++it;
    }
  }
  close();
  const auto peers = membership_.table().choose_live(ctx_.config.announce_fanout, ctx_.random);
  for (const Node* peer : peers)
    for (const std::string& datagram : datagrams) {
      ++ctx_.stats.announcements;
      ctx_.send_datagram(peer->member.meta.gossip_address, datagram);
    }
  arm_announce();
}

// ---------------------------------------------------------------------------- want and delta

// Entries are held of members only, so that what was forgotten cannot come back from a host that
// has not heard of it yet; and nobody tells this host what it wrote itself.
bool Replication::is_acceptable(std::string_view origin, std::uint64_t epoch) {
  if (origin == kDesiredOrigin)
    return epoch == 0;
  const Node* node = membership_.table().find(origin);
  if (node == nullptr || membership_.table().is_self(origin))
    return false;
  return node->member.state != MemberState::kForgotten || epoch > node->member.start_id;
}

void Replication::consider(const std::string& sender, const OriginDigest& digest) {
  if (membership_.table().is_self(digest.origin)) {
    // A later life of this host, or entries that this life has not written: its start id is not
    // new.
    const OriginDigest own = table_.digest(digest.origin);
    if (digest.epoch > own.epoch || (digest.epoch == own.epoch && digest.complete > own.complete))
      membership_.raise_start_id(digest.epoch);
    return;
  }
  if (!is_acceptable(digest.origin, digest.epoch))
    return;
  Wanting candidate;
  candidate.epoch = digest.epoch;
  candidate.complete = digest.complete;
  if (is_satisfied(digest.origin, candidate))
    return;
  Wanting& w = wanting_[digest.origin];
  if (std::pair(candidate.epoch, candidate.complete) > std::pair(w.epoch, w.complete)) {
    w.epoch = candidate.epoch;
    w.complete = candidate.complete;
  }
  if (w.announcers.size() < kAnnouncersMax &&
      std::ranges::find(w.announcers, sender) == w.announcers.end())
    w.announcers.push_back(sender);
  if (w.timer == 0)
    send_want(digest.origin, w);
}

bool Replication::is_satisfied(const std::string& origin, const Wanting& w) const {
  const OriginDigest mine = table_.digest(origin);
  return std::pair(mine.epoch, mine.complete) >= std::pair(w.epoch, w.complete);
}

void Replication::send_want(const std::string& origin, Wanting& w) {
  ++ctx_.stats.wants;
  const auto reset_at = table_.reset_at(origin);
  post(w.announcers.front(),
       encode(Want{origin, table_.digest(origin).epoch, reset_at.value_or(table_.known(origin)),
                   reset_at.has_value()}));
  ctx_.timers.cancel(w.timer);
  w.timer =
      ctx_.arm(TimerKind::kWant, Duration(ctx_.config.want_timeout) * (1U << w.tries), origin);
}

void Replication::on_want_timer(const std::string& origin) {
  const auto found = wanting_.find(origin);
  SHOAL_ASSERT(found != wanting_.end());  // the timer is cancelled with the want
  Wanting& w = found->second;
  w.timer = 0;
  ++ctx_.stats.want_timeouts;
  if (++w.tries >= kWantTriesMax || is_satisfied(origin, w)) {
    wanting_.erase(found);
    return;
  }
  std::ranges::rotate(w.announcers, w.announcers.begin() + 1);
  send_want(origin, w);
}

void Replication::stop_wanting(const std::string& origin) {
  const auto found = wanting_.find(origin);
  if (found == wanting_.end())
    return;
  ctx_.timers.cancel(found->second.timer);
  wanting_.erase(found);
}

void Replication::on_want(const std::string& sender, const Want& want) {
  if (posted_bytes_ >= kReplyBytesMax)
    return;  // it asks again
  if (const auto delta =
          table_.build_delta(want.origin, want.epoch, want.from, want.resetting, kDeltaBytesTarget))
    post(sender, encode(*delta));
}

void Replication::on_delta(const std::string& sender, const Delta& delta) {
  if (!is_acceptable(delta.origin, delta.epoch))
    return;
  const std::uint64_t desired_before = table_.complete_to(kDesiredOrigin);
  std::vector<EntryChanged> changes;
  const auto applied = table_.apply(delta, ctx_.now, changes);
  report(std::move(changes));
  if (table_.complete_to(kDesiredOrigin) > desired_before)
    ctx_.notify(DesiredComplete{table_.complete_to(kDesiredOrigin)});
  if (delta.pushed)
    note_fresh(delta.origin, applied.fresh, sender);
  if (applied.advanced || !applied.fresh.empty())
    announce(delta.origin, false);
  after_transfer(sender, delta, applied.refused);
}

void Replication::after_transfer(const std::string& sender, const Delta& delta, bool refused) {
  const auto found = wanting_.find(delta.origin);
  if (found == wanting_.end())
    return;
  Wanting& w = found->second;
  if (is_satisfied(delta.origin, w) || (refused && !delta.pushed)) {
    stop_wanting(delta.origin);
    return;
  }
  if (delta.pushed || !delta.more)
    return;
  // One part of several: go on with the same peer.
  w.tries = 0;
  std::erase(w.announcers, sender);
  w.announcers.insert(w.announcers.begin(), sender);
  w.announcers.resize(std::min(w.announcers.size(), kAnnouncersMax));
  send_want(delta.origin, w);
}

// ---------------------------------------------------------------------------- queued for peers

void Replication::post(const std::string& to, std::string message) {
  posted_bytes_ += message.size();
  posted_[to].push_back(std::move(message));
}

void Replication::finish() {
  for (const auto& [name, messages] : posted_)
    if (const SocketAddress* address = membership_.address_of(name))
      ctx_.send(*address, messages);
  posted_.clear();
  posted_bytes_ = 0;
}

}  // namespace shoal::gossip
