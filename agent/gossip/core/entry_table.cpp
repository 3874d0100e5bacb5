// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/core/entry_table.h"

#include "netplane/base/hash.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <fmt/format.h>
#include <utility>

namespace shoal::gossip {
namespace {

const Cursor kStart{1, {}};

Cursor after_version(std::uint64_t version) { return Cursor{version + 1, {}}; }

std::size_t stored_bytes(std::string_view key, const Value& value) {
  return key.size() + (value ? value->size() : 0);
}

bool same_value(const Value& a, const Value& b) { return a == b || (a && b && *a == *b); }

std::size_t entries_max(std::string_view origin) {
  return origin == kDesiredOrigin ? kDesiredEntriesMax : kHostEntriesMax;
}

}  // namespace

const EntryTable::Origin* EntryTable::find_origin(std::string_view origin) const {
  const auto found = origins_.find(origin);
  return found == origins_.end() ? nullptr : &found->second;
}

EntryTable::Origin* EntryTable::origin_for(std::string_view origin) {
  if (const auto found = origins_.find(origin); found != origins_.end())
    return &found->second;
  if (origins_.size() >= kOriginsMax)
    return nullptr;
  return &origins_.try_emplace(std::string(origin)).first->second;
}

// ---------------------------------------------------------------------------- written here

void EntryTable::own(std::string_view origin, std::uint64_t epoch) {
  Origin* o = origin_for(origin);
  SHOAL_ASSERT(o != nullptr && epoch >= o->epoch);
  o->epoch = epoch;
  for (auto& [key, stored] : o->entries)
    stored.epoch = epoch;
}

Result<std::optional<std::uint64_t>>
EntryTable::publish(std::string_view origin, std::string_view key, Value value, MonoTime now) {
  Origin* o = origin_for(origin);
  SHOAL_ASSERT(o != nullptr);
  const auto found = o->entries.find(key);
  if (found == o->entries.end() ? !value : same_value(found->second.entry.value, value))
    return std::optional<std::uint64_t>();
  if (!has_room(origin, *o, key, value))
    return fail(
        Errc::kExhausted,
        fmt::format("publish {}: the gossip table is full ({} entries of this host, at most "
                    "{}; {} bytes in all, at most {})",
                    printable(key), o->entries.size(), entries_max(origin), stats_.table_bytes,
                    kTableBytesMax));
  const std::uint64_t version = o->known.version;
  o->known = after_version(version);
  put(origin, *o, DeltaEntry{std::string(key), std::move(value), version, 0}, now, nullptr);
  return std::optional(version);
}

std::uint64_t EntryTable::publish_settled(std::string_view origin,
                                          std::vector<EntryChanged>& changes) {
  Origin* o = origin_for(origin);
  SHOAL_ASSERT(o != nullptr);
  o->settled = o->known.version;  // a version of its own, which holds no entry
  o->known = after_version(o->settled);
  drop_leftovers(origin, *o, changes);
  return o->settled;
}

// ---------------------------------------------------------------------------- come from elsewhere

EntryTable::Applied EntryTable::apply(const Delta& delta, MonoTime now,
                                      std::vector<EntryChanged>& changes) {
  Applied applied;
  Origin* o = origin_for(delta.origin);
  if (o == nullptr) {
    applied.refused = true;
    ++stats_.entries_refused;
    return applied;
  }
  if (delta.epoch < o->epoch)
    return applied;
  if (delta.epoch > o->epoch) {
    begin_epoch(*o, delta.epoch);
    applied.advanced = true;
  }
  if (delta.reset && delta.from == kStart) {
    o->reset.emplace(Reset{kStart, {}, now});
    for (const auto& [key, stored] : o->entries)
      if (stored.epoch == o->epoch)
        o->reset->unconfirmed.insert(key);
  }
  for (const DeltaEntry& entry : delta.entries) {
    if (!has_room(delta.origin, *o, entry.key, entry.value)) {
      applied.refused = true;
      ++stats_.entries_refused;
    } else if (put(delta.origin, *o, entry, now, &changes)) {
      applied.fresh.insert(entry.version);
    }
  }
  if (!applied.refused) {
    if (delta.reset)
      advance_reset(delta, *o, now, applied, changes);
    else if (delta.from <= o->known && delta.to > o->known) {
      o->known = delta.to;
      applied.advanced = true;
    }
    if (delta.settled > o->settled) {
      o->settled = delta.settled;
      applied.advanced = true;
    }
    if (o->settled != 0 && o->complete() >= o->settled)
      drop_leftovers(delta.origin, *o, changes);
  }
  return applied;
}

EntryTable::Applied EntryTable::apply_snapshot(const Delta& delta, MonoTime now,
                                               std::vector<EntryChanged>& changes) {
  Delta whole = delta;
  whole.from = kStart;
  whole.reset = true;
  whole.more = false;
  return apply(whole, now, changes);
}

void EntryTable::advance_reset(const Delta& delta, Origin& o, MonoTime now, Applied& applied,
                               std::vector<EntryChanged>& changes) {
  if (!o.reset || o.reset->at != delta.from || delta.to < delta.from)
    return;
  for (const DeltaEntry& entry : delta.entries)
    if (const auto found = o.reset->unconfirmed.find(entry.key);
        found != o.reset->unconfirmed.end())
      o.reset->unconfirmed.erase(found);
  o.reset->at = delta.to;
  o.reset->progress = now;
  if (delta.more)
    return;
  const Reset done = std::move(*o.reset);
  o.reset.reset();
  sweep(delta.origin, o, done.unconfirmed, delta.to.version, changes);
  o.collected = std::max(o.collected, delta.to.version - 1);
  if (delta.to > o.known) {
    o.known = delta.to;
    applied.advanced = true;
  }
  ++stats_.resets;
}

void EntryTable::sweep(std::string_view name, Origin& o,
                       const std::set<std::string, std::less<>>& keys, std::uint64_t below,
                       std::vector<EntryChanged>& changes) {
  for (const std::string& key : keys) {
    const auto found = o.entries.find(key);
    if (found != o.entries.end() && found->second.entry.version < below)
      erase(name, o, key, below - 1, &changes);
  }
}

void EntryTable::begin_epoch(Origin& o, std::uint64_t epoch) {
  o.epoch = epoch;
  o.known = kStart;
  o.collected = 0;
  o.settled = 0;
  o.by_version.clear();
  o.reset.reset();
  for (auto it = o.entries.begin(); it != o.entries.end();) {
    if (it->second.entry.value) {
      ++it;
      continue;
    }
    stats_.table_bytes -= it->first.size();
    --stats_.tombstones;
    it = o.entries.erase(it);
  }
}

void EntryTable::drop_leftovers(std::string_view name, Origin& o,
                                std::vector<EntryChanged>& changes) {
  if (o.by_version.size() == o.entries.size())
    return;  // there are none
  std::vector<std::string> gone;
  for (const auto& [key, stored] : o.entries)
    if (stored.epoch < o.epoch)
      gone.push_back(key);
  for (const std::string& key : gone)
    erase(name, o, key, o.settled, &changes);
}

void EntryTable::remove_origin(std::string_view origin, std::vector<EntryChanged>& changes) {
  const auto found = origins_.find(origin);
  if (found == origins_.end())
    return;
  Origin& o = found->second;
  while (!o.entries.empty()) {
    const auto first = o.entries.begin();
    const std::string key = first->first;
    erase(origin, o, key, first->second.entry.version, &changes);
  }
  origins_.erase(found);
}

// ---------------------------------------------------------------------------- one entry

bool EntryTable::has_room(std::string_view origin, const Origin& o, std::string_view key,
                          const Value& value) const {
  const auto found = o.entries.find(key);
  if (found == o.entries.end() && o.entries.size() >= entries_max(origin))
    return false;
  const std::size_t before =
      found == o.entries.end() ? 0 : stored_bytes(key, found->second.entry.value);
  return stats_.table_bytes - before + stored_bytes(key, value) <= kTableBytesMax;
}

// False when what is here is as new.
bool EntryTable::put(std::string_view name, Origin& o, const DeltaEntry& entry, MonoTime now,
                     std::vector<EntryChanged>* changes) {
  const auto [it, inserted] = o.entries.try_emplace(entry.key);
  Stored& stored = it->second;
  if (!inserted && stored.epoch == o.epoch && stored.entry.version >= entry.version) {
    ++stats_.entries_stale;
    return false;
  }
  const bool was_live = !inserted && stored.entry.value;
  if (inserted) {
    stats_.table_bytes += entry.key.size();
  } else {
    o.by_version.erase({stored.entry.version, it->first});
    stats_.table_bytes -= stored.entry.value ? stored.entry.value->size() : 0;
    (stored.entry.value ? stats_.entries : stats_.tombstones) -= 1;
  }
  stored = Stored{Entry{entry.value, entry.version, entry.create_revision}, o.epoch};
  o.by_version.emplace(entry.version, it->first);
  stats_.table_bytes += entry.value ? entry.value->size() : 0;
  (entry.value ? stats_.entries : stats_.tombstones) += 1;
  if (!entry.value)
    bury(Tombstone{now, std::string(name), entry.key, o.epoch, entry.version});
  if (changes != nullptr) {
    ++stats_.entries_applied;
    if (was_live || entry.value)
      changes->push_back(EntryChanged{std::string(name), entry.key, stored.entry});
  }
  return true;
}

// Without a trace: for what a reset, a settled restart or a removal ends.
void EntryTable::erase(std::string_view name, Origin& o, std::string_view key,
                       std::uint64_t version, std::vector<EntryChanged>* changes) {
  const auto found = o.entries.find(key);
  SHOAL_ASSERT(found != o.entries.end());
  const Stored& stored = found->second;
  stats_.table_bytes -= stored_bytes(key, stored.entry.value);
  (stored.entry.value ? stats_.entries : stats_.tombstones) -= 1;
  if (stored.entry.value && changes != nullptr)
    changes->push_back(
        EntryChanged{std::string(name), std::string(key), Entry{nullptr, version, 0}});
  if (stored.epoch == o.epoch)
    o.by_version.erase({stored.entry.version, found->first});
  o.entries.erase(found);
}

void EntryTable::bury(Tombstone tombstone) {
  tombstones_.push_back(std::move(tombstone));
  if (tombstones_.size() > kTombstonesMax) {
    exhume(tombstones_.front());
    tombstones_.pop_front();
  }
}

void EntryTable::exhume(const Tombstone& tombstone) {
  const auto found = origins_.find(tombstone.origin);
  if (found == origins_.end() || found->second.epoch != tombstone.epoch)
    return;
  Origin& o = found->second;
  const auto entry = o.entries.find(tombstone.key);
  if (entry == o.entries.end() || entry->second.entry.value ||
      entry->second.entry.version != tombstone.version)
    return;  // written again since
  o.collected = std::max(o.collected, tombstone.version);
  erase(tombstone.origin, o, tombstone.key, tombstone.version, nullptr);
  ++stats_.tombstones_collected;
}

void EntryTable::collect_tombstones(MonoTime before) {
  while (!tombstones_.empty() && tombstones_.front().at < before) {
    exhume(tombstones_.front());
    tombstones_.pop_front();
  }
}

void EntryTable::abandon_resets(MonoTime before) {
  for (auto& [name, o] : origins_)
    if (o.reset && o.reset->progress < before)
      o.reset.reset();
}

// ---------------------------------------------------------------------------- told to others

std::optional<Delta> EntryTable::build_delta(std::string_view origin, std::uint64_t epoch,
                                             const Cursor& from, bool resetting,
                                             std::size_t bytes_max) const {
  const Origin* o = find_origin(origin);
  if (o == nullptr || epoch > o->epoch)
    return std::nullopt;
  Delta delta;
  delta.origin = origin;
  delta.epoch = o->epoch;
  delta.settled = o->settled;
  delta.from = epoch == o->epoch ? std::max(from, kStart) : kStart;
  resetting = resetting && epoch == o->epoch;
  if (delta.from >= o->known && !resetting)
    return std::nullopt;
  if (!resetting && delta.from.version <= o->collected) {
    resetting = true;
    delta.from = kStart;
  }
  delta.reset = resetting;
  delta.to = std::max(delta.from, o->known);
  std::size_t bytes = 0;
  for (auto it = o->by_version.lower_bound({delta.from.version, delta.from.key});
       it != o->by_version.end(); ++it) {
    const Cursor at{it->first, std::string(it->second)};
    if (at >= o->known)
      break;
    const Entry& entry = o->entries.find(it->second)->second.entry;
    const std::size_t more =
        delta_entry_bytes(at.key.size(), entry.value ? entry.value->size() : 0);
    if (!delta.entries.empty() && bytes + more > bytes_max) {
      delta.to = at;
      delta.more = true;
      break;
    }
    bytes += more;
    delta.entries.push_back(DeltaEntry{at.key, entry.value, entry.version, entry.create_revision});
  }
  return delta;
}

std::optional<Delta> EntryTable::build_push(std::string_view origin,
                                            std::set<std::uint64_t>& versions,
                                            std::size_t bytes_max) const {
  const Origin* o = find_origin(origin);
  if (o == nullptr || versions.empty()) {
    versions.clear();
    return std::nullopt;
  }
  Delta delta;
  std::size_t bytes = 0;
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  bool consecutive = true;
  auto it = o->by_version.lower_bound({*versions.begin(), std::string_view()});
  while (it != o->by_version.end() && versions.contains(it->first)) {
    // All keys of one version travel together.
    const std::uint64_t version = it->first;
    std::size_t group_bytes = 0;
    auto end = it;
    for (; end != o->by_version.end() && end->first == version; ++end) {
      const Value& value = o->entries.find(end->second)->second.entry.value;
      group_bytes += delta_entry_bytes(end->second.size(), value ? value->size() : 0);
    }
    if (bytes + group_bytes > bytes_max)
      break;
    bytes += group_bytes;
    for (; it != end; ++it) {
      const Entry& entry = o->entries.find(it->second)->second.entry;
      delta.entries.push_back(
          DeltaEntry{std::string(it->second), entry.value, version, entry.create_revision});
    }
    consecutive = consecutive && (last == 0 || version == last + 1);
    first = first == 0 ? version : first;
    last = version;
  }
  if (delta.entries.empty()) {
    // The first one is not here any more (its key was written again), or is too big for a datagram.
    if (it == o->by_version.end() || it->first != *versions.begin())
      versions.erase(versions.begin());
    return std::nullopt;
  }
  versions.erase(versions.begin(), versions.upper_bound(last));
  delta.origin = origin;
  delta.epoch = o->epoch;
  delta.settled = o->settled;
  delta.pushed = true;
  // A host writes one key a version, so a row of versions without a gap is complete even where
  // this member's own knowledge is not.
  const bool claim = o->complete() >= last || (origin != kDesiredOrigin && consecutive);
  delta.from = Cursor{first, {}};
  delta.to = claim ? after_version(last) : delta.from;
  return delta;
}

OriginDigest EntryTable::digest(std::string_view origin) const {
  OriginDigest d;
  d.origin = origin;
  if (const Origin* o = find_origin(origin)) {
    d.epoch = o->epoch;
    d.complete = o->complete();
    d.settled = o->settled;
  }
  return d;
}

std::vector<OriginDigest> EntryTable::digests() const {
  std::vector<OriginDigest> out;
  for (const auto& [name, o] : origins_)
    if (o.complete() != 0)
      out.push_back(digest(name));
  return out;
}

std::uint64_t EntryTable::summary() const {
  std::uint64_t sum = 0;
  for (const auto& [name, o] : origins_)
    if (o.complete() != 0)
      sum += hash64(name, mix64(o.epoch) ^ mix64(o.complete() + 1) ^ mix64(~o.settled));
  return sum;
}

// ---------------------------------------------------------------------------- readers

const Entry* EntryTable::find(std::string_view origin, std::string_view key) const {
  const Origin* o = find_origin(origin);
  if (o == nullptr)
    return nullptr;
  const auto found = o->entries.find(key);
  return found == o->entries.end() || !found->second.entry.value ? nullptr : &found->second.entry;
}

void EntryTable::for_each(std::string_view origin,
                          const std::function<void(std::string_view, const Entry&)>& visit) const {
  if (const Origin* o = find_origin(origin))
    for (const auto& [key, stored] : o->entries)
      if (stored.entry.value)
        visit(key, stored.entry);
}

std::uint64_t EntryTable::complete_to(std::string_view origin) const {
  const Origin* o = find_origin(origin);
  return o == nullptr ? 0 : o->complete();
}

Cursor EntryTable::known(std::string_view origin) const {
  const Origin* o = find_origin(origin);
  return o == nullptr ? kStart : o->known;
}

std::optional<Cursor> EntryTable::reset_at(std::string_view origin) const {
  const Origin* o = find_origin(origin);
  return o == nullptr || !o->reset ? std::nullopt : std::optional(o->reset->at);
}

std::vector<std::string> EntryTable::origins() const {
  std::vector<std::string> out;
  for (const auto& [name, o] : origins_)
    out.push_back(name);
  return out;
}

}  // namespace shoal::gossip
