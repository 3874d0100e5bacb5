// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/core/anti_entropy.h"

#include <algorithm>
#include <map>

namespace shoal::gossip {

AntiEntropy::AntiEntropy(Context& context, Membership& membership, Replication& replication)
    : ctx_(context), membership_(membership), replication_(replication) {}

std::uint64_t AntiEntropy::summary() const {
  return membership_.table().summary() + replication_.table().summary();
}

// This host's own record goes first, so that the receiver knows whom to answer.
std::vector<std::string> AntiEntropy::complete_sync() const {
  Sync sync;
  sync.complete = true;
  sync.reply_wanted = true;
  sync.members = membership_.table().digests();
  sync.origins = replication_.table().digests();
  return {membership_.record_of(membership_.table().self()), encode(sync)};
}

void AntiEntropy::join(std::span<const SocketAddress> seeds) {
  seeds_.assign(seeds.begin(),
                seeds.begin() + static_cast<std::ptrdiff_t>(std::min(seeds.size(), kSeedsMax)));
  std::erase(seeds_, membership_.self().meta.gossip_address);
  join_tries_ = 0;
  ctx_.timers.cancel(join_timer_);
  on_join_timer();
}

// As long as nobody else is live: at the start, and again whenever all others are lost. The first
// try goes by datagram, the next by stream, in turn: one of the two may not get through.
void AntiEntropy::on_join_timer() {
  join_timer_ = ctx_.arm(TimerKind::kJoin, ctx_.config.join_retry);
  if (membership_.leaving() || membership_.table().live() > 1)
    return;
  const auto messages = complete_sync();
  std::string packet;
  begin_packet(packet, ctx_.config.name);
  for (const std::string& message : messages)
    packet += message;
  const bool by_stream = join_tries_++ % 2 == 1;
  for (const SocketAddress& seed : seeds_) {
    if (by_stream)
      ctx_.send_stream(seed, packet);
    else
      ctx_.send(seed, messages);
  }
}

void AntiEntropy::compare(const SocketAddress& from, std::uint64_t their_summary) {
  if (their_summary == summary() || ctx_.now < next_sync_ || membership_.leaving())
    return;
  next_sync_ = ctx_.now + ctx_.config.sync_interval;
  ++ctx_.stats.syncs;
  const auto messages = complete_sync();
  ctx_.send(from, messages);
}

void AntiEntropy::on_sync(const std::string& sender, const Sync& sync) {
  Sync reply;
  answer_members(sender, sync, reply);
  answer_origins(sender, sync, reply);
  if (!sync.reply_wanted)
    return;
  replication_.post(sender, membership_.record_of(membership_.table().self()));
  if (!reply.members.empty() || !reply.origins.empty())
    replication_.post(sender, encode(reply));
}

// Records that are newer here are sent; what is newer there is asked for, by naming what is here.
void AntiEntropy::answer_members(const std::string& sender, const Sync& sync, Sync& reply) {
  const MemberTable& table = membership_.table();
  std::map<std::string_view, Standing> theirs;
  for (const MemberDigest& d : sync.members)
    theirs.emplace(d.name, settled_standing({d.start_id, d.incarnation, d.state}));
  for (const auto& [name, node] : table.all()) {
    const auto their = theirs.find(name);
    const bool asked = sync.complete || their != theirs.end();
    const Standing mine = settled_standing(standing(node.member));
    if (asked && name != sender && (their == theirs.end() || mine > their->second))
      replication_.post(sender, membership_.record_of(node));
  }
  for (const auto& [name, their] : theirs) {
    const Node* node = table.find(name);
    const Standing mine = node == nullptr ? Standing{} : settled_standing(standing(node->member));
    if (their > mine)
      reply.members.push_back(
          MemberDigest{std::string(name), mine.state, mine.start_id, mine.incarnation});
    // What the sender believes of itself needs no record: it is live, it has just said so.
    if (name == sender && node != nullptr && mine > their)
      replication_.post(sender, membership_.verdict_on(*node));
  }
}

void AntiEntropy::answer_origins(const std::string& sender, const Sync& sync, Sync& reply) {
  std::map<std::string_view, const OriginDigest*> theirs;
  for (const OriginDigest& d : sync.origins) {
    theirs.emplace(d.origin, &d);
    replication_.consider(sender, d);
  }
  if (!sync.reply_wanted)
    return;
  for (const OriginDigest& mine : replication_.table().digests()) {
    const auto their = theirs.find(mine.origin);
    const bool ahead = their == theirs.end()
                           ? sync.complete
                           : std::pair(mine.epoch, mine.complete) >
                                 std::pair(their->second->epoch, their->second->complete);
    if (ahead)
      reply.origins.push_back(mine);
  }
}

}  // namespace shoal::gossip
