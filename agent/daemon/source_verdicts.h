// SPDX-License-Identifier: Apache-2.0
// SourceVerdicts: does the network take service addresses as the source of what another host sends?
// A host that answers outside clients directly (DSR) needs that; some switches, hypervisors and
// clouds drop what is not from a host's own address.
//
// Each host sends the others a pair of datagrams a round: one from its own address, one from an
// address that is not. A round of which only the first came speaks against it, one of which the
// second came for it, and one of which nothing came says nothing. So neither a host that is away
// nor one that does not send at all is judged; nor is a loss, which takes both alike.
//
// The verdict changes after kSourceMisses rounds in a row against it, and back after kSourceHits
// for it; after twice as many each time when it did not hold for kSourceHolds. Pure. Rounds of a
// peer rise; what is older than the one that it is at is passed over.
#pragma once

#include "netplane/base/clock.h"

#include <compare>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>

namespace shoal::daemon {

inline constexpr unsigned kSourceMisses = 5;
inline constexpr unsigned kSourceHits = 10;
inline constexpr unsigned kSourceHitsMax = 640;
inline constexpr std::chrono::minutes kSourceHolds{10};

struct SourceRound {
  std::uint64_t start = 0;  // of the sender's agent
  std::uint64_t number = 0;
  auto operator<=>(const SourceRound&) const = default;
};

enum class SourceVerdict : std::uint8_t {
  kUnknown,  // taken for kPasses
  kPasses,
  kDrops,
};
std::string_view to_string(SourceVerdict verdict);  // "unknown", "passes", "drops"

class SourceVerdicts {
public:
  // What an earlier agent found out, until there is news.
  void presume_drops(const std::string& peer);
  // True: the verdict about the peer is another one now.
  bool heard(const std::string& peer, SourceRound round, bool foreign, MonoTime now);
  void keep_only(const std::set<std::string>& peers);

  SourceVerdict verdict(const std::string& peer) const;
  std::set<std::string> dropped() const;
  std::uint64_t changes() const { return changes_; }  // to or from kDrops

private:
  struct Peer {
    SourceVerdict verdict = SourceVerdict::kUnknown;
    SourceRound round;
    bool own = false, foreign = false;  // came, of that round
    unsigned misses = 0, hits = 0;      // rounds in a row
    unsigned hits_needed = kSourceHits;
    bool turned = false;  // back to kPasses, at turned_at
    MonoTime turned_at{};
  };
  bool settle(Peer& peer, MonoTime now);

  std::map<std::string, Peer> peers_;
  std::uint64_t changes_ = 0;
};

}  // namespace shoal::daemon
