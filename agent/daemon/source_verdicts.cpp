// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/source_verdicts.h"

#include <algorithm>

namespace shoal::daemon {

std::string_view to_string(SourceVerdict verdict) {
  switch (verdict) {
  case SourceVerdict::kUnknown:
    return "unknown";
  case SourceVerdict::kPasses:
    return "passes";
  case SourceVerdict::kDrops:
    return "drops";
  }
  return "?";
}

void SourceVerdicts::presume_drops(const std::string& peer) {
  if (Peer& known = peers_[peer]; known.verdict == SourceVerdict::kUnknown)
    known.verdict = SourceVerdict::kDrops;
}

bool SourceVerdicts::heard(const std::string& name, SourceRound round, bool foreign, MonoTime now) {
  Peer& peer = peers_[name];
  if (round < peer.round)
    return false;
  bool changed = false;
  if (round > peer.round) {
    changed = settle(peer, now);
    peer.round = round;
    peer.own = peer.foreign = false;
  }
  (foreign ? peer.foreign : peer.own) = true;
  return changed;
}

// The round is over: the peer is at a later one.
bool SourceVerdicts::settle(Peer& peer, MonoTime now) {
  if (!peer.own && !peer.foreign)
    return false;
  peer.hits = peer.foreign ? peer.hits + 1 : 0;
  peer.misses = peer.foreign ? 0 : peer.misses + 1;
  if (peer.verdict != SourceVerdict::kDrops) {
    if (peer.foreign)
      peer.verdict = SourceVerdict::kPasses;
    if (peer.misses < kSourceMisses)
      return false;
    const bool flaps = peer.turned && now - peer.turned_at < kSourceHolds;
    peer.hits_needed = flaps ? std::min(peer.hits_needed * 2, kSourceHitsMax) : kSourceHits;
    peer.verdict = SourceVerdict::kDrops;
  } else {
    if (peer.hits < peer.hits_needed)
      return false;
    peer.verdict = SourceVerdict::kPasses;
    peer.turned = true;
    peer.turned_at = now;
  }
  ++changes_;
  return true;
}

void SourceVerdicts::keep_only(const std::set<std::string>& peers) {
  std::erase_if(peers_, [&](const auto& each) { return !peers.contains(each.first); });
}

SourceVerdict SourceVerdicts::verdict(const std::string& peer) const {
  const auto at = peers_.find(peer);
  return at == peers_.end() ? SourceVerdict::kUnknown : at->second.verdict;
}

std::set<std::string> SourceVerdicts::dropped() const {
  std::set<std::string> out;
  for (const auto& [name, peer] : peers_)
    if (peer.verdict == SourceVerdict::kDrops)
      out.insert(name);
  return out;
}

}  // namespace shoal::daemon
