// SPDX-License-Identifier: Apache-2.0
// EntryTable: the replicated entries of all origins, and what is known of each origin's history.
//
// For each origin it keeps `known`, a cursor in (version, key) order: every entry before it that
// still lives (or is a remembered deletion) is here. Entries beyond it may be here too; they came
// by push. A transfer is a claim [from, to): it moves `known` on when it connects to it. Deletions
// are remembered as tombstones and collected in time; `collected` is the version of the newest one
// that was, and a peer that is behind it gets the whole origin (a reset), or it would keep what was
// deleted.
//
// A host that restarts writes under a larger epoch (its start id). Entries of earlier epochs stay
// visible until the new life's `settled` version is known here: an agent's restart must not take
// its pods away. The origin "desired" has the one epoch 0 and versions that are store revisions.
#pragma once

#include "agent/gossip/core/effects.h"
#include "agent/gossip/core/message.h"
#include "agent/gossip/core/stats.h"
#include "agent/gossip/core/types.h"
#include "netplane/base/result.h"

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::gossip {

class EntryTable {
public:
  explicit EntryTable(Stats& stats) : stats_(stats) {}

  // ---- written here
  void own(std::string_view origin, std::uint64_t epoch);  // this host's origin, also after a raise
  // The version written; nothing when the value was there already.
  Result<std::optional<std::uint64_t>> publish(std::string_view origin, std::string_view key,
                                               Value value, MonoTime now);
  std::uint64_t publish_settled(std::string_view origin, std::vector<EntryChanged>& changes);

  // ---- come from elsewhere: a peer's delta, or the store's commits in the same form
  struct Applied {
    std::set<std::uint64_t> fresh;  // versions that were news
    bool advanced = false;          // `known`, epoch or settled rose
    bool refused = false;           // a bound was hit
  };
  Applied apply(const Delta& delta, MonoTime now, std::vector<EntryChanged>& changes);
  // Entries of the set's versions below `revision` that it does not name are gone.
  Applied apply_snapshot(const Delta& delta, MonoTime now, std::vector<EntryChanged>& changes);
  void remove_origin(std::string_view origin, std::vector<EntryChanged>& changes);

  // ---- told to others
  // What follows `from`, about bytes_max of it but at least an entry; nothing when there is no
  // news.
  std::optional<Delta> build_delta(std::string_view origin, std::uint64_t epoch, const Cursor& from,
                                   bool resetting, std::size_t bytes_max) const;
  // The first of `versions` that fit, which are taken out of it, as one delta. Nothing when none
  // fits.
  std::optional<Delta> build_push(std::string_view origin, std::set<std::uint64_t>& versions,
                                  std::size_t bytes_max) const;
  OriginDigest digest(std::string_view origin) const;
  std::vector<OriginDigest> digests() const;
  std::uint64_t summary() const;

  // ---- readers
  const Entry* find(std::string_view origin, std::string_view key) const;  // live ones only
  void for_each(std::string_view origin,
                const std::function<void(std::string_view, const Entry&)>& visit) const;
  std::uint64_t complete_to(std::string_view origin) const;
  Cursor known(std::string_view origin) const;
  // Where a full transfer of the origin stands, when one is running.
  std::optional<Cursor> reset_at(std::string_view origin) const;
  std::vector<std::string> origins() const;

  // ---- time
  void collect_tombstones(MonoTime before);
  void abandon_resets(MonoTime before);

private:
  struct Stored {
    Entry entry;
    std::uint64_t epoch = 0;
  };
  struct Reset {
    Cursor at;
    std::set<std::string, std::less<>> unconfirmed;
    MonoTime progress;
  };
  struct Origin {
    std::uint64_t epoch = 0;
    Cursor known;
    std::uint64_t collected = 0;
    std::uint64_t settled = 0;
    std::map<std::string, Stored, std::less<>> entries;
    // Entries of the present epoch; the keys live in `entries`.
    std::set<std::pair<std::uint64_t, std::string_view>> by_version;
    std::optional<Reset> reset;
    std::uint64_t complete() const { return known.version - 1; }
  };
  using Origins = std::map<std::string, Origin, std::less<>>;
  struct Tombstone {
    MonoTime at;
    std::string origin;
    std::string key;
    std::uint64_t epoch = 0;
    std::uint64_t version = 0;
  };

  const Origin* find_origin(std::string_view origin) const;
  Origin* origin_for(std::string_view origin);
  void begin_epoch(Origin& origin, std::uint64_t epoch);
  bool has_room(std::string_view origin, const Origin& o, std::string_view key,
                const Value& value) const;
  bool put(std::string_view name, Origin& origin, const DeltaEntry& entry, MonoTime now,
           std::vector<EntryChanged>* changes);
  void erase(std::string_view name, Origin& origin, std::string_view key, std::uint64_t version,
             std::vector<EntryChanged>* changes);
  void bury(Tombstone tombstone);
  void exhume(const Tombstone& tombstone);
  void advance_reset(const Delta& delta, Origin& origin, MonoTime now, Applied& applied,
                     std::vector<EntryChanged>& changes);
  void sweep(std::string_view name, Origin& origin, const std::set<std::string, std::less<>>& keys,
             std::uint64_t below, std::vector<EntryChanged>& changes);
  void drop_leftovers(std::string_view name, Origin& origin, std::vector<EntryChanged>& changes);

  Origins origins_;
  std::deque<Tombstone> tombstones_;  // oldest first; some are superseded already
  Stats& stats_;
};

}  // namespace shoal::gossip
