// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/checker.h"

#include <algorithm>
#include <gtest/gtest.h>

namespace shoal::sim {

using gossip::MemberChange;
using gossip::MemberState;

void Checker::published(const std::string& origin, const std::string& key,
                        const gossip::Value& value) {
  if (value)
    truth_[{origin, key}].try_emplace(*value);
}

void Checker::started(const std::string& name, std::uint64_t start_id) {
  start_ids_[name] = start_id;
}

void Checker::restarted(const std::string& observer) { mirrors_[observer] = {}; }

void Checker::observe(const std::string& observer, const gossip::Core& core,
                      const gossip::MemberChanged& change, MonoTime now) {
  if (trusting_)
    return;
  const gossip::Member& m = change.member;
  EXPECT_NE(m.name, observer) << "a host reports on itself";
  EXPECT_LE(m.start_id, start_ids_[m.name]) << observer << " made up a life of " << m.name;
  auto& members = mirrors_[observer].members;
  const auto before = members.find(m.name);
  const bool was_live = before != members.end() && before->second.is_live();
  switch (change.change) {
  case MemberChange::kJoined:
    EXPECT_TRUE(!was_live || before->second.start_id < m.start_id)
        << observer << " reports a second join of " << m.name;
    break;
  case MemberChange::kSuspected:
  case MemberChange::kRefuted:
  case MemberChange::kUpdated:
    EXPECT_TRUE(was_live) << observer << ": " << to_string(change.change)
                          << " but not live: " << m.name;
    break;
  case MemberChange::kDied:
  case MemberChange::kLeft:
  case MemberChange::kForgotten:
    EXPECT_FALSE(m.is_live());
    break;
  }
  if (change.change == MemberChange::kForgotten)
    members.erase(m.name);
  else
    members[m.name] = m;
  (void)core;
  sightings_.push_back({now, change.change, m.name, observer});
}

void Checker::observe(const std::string& observer, const gossip::EntryChanged& change,
                      MonoTime now) {
  if (trusting_)
    return;
  EXPECT_NE(change.origin, observer) << "a host is told what it wrote itself";
  auto& entries = mirrors_[observer].entries;
  const EntryId id{change.origin, change.key};
  if (!change.entry.value) {
    EXPECT_EQ(entries.erase(id), 1U) << observer << ": deleted but never seen: " << change.key;
    return;
  }
  entries[id] = change.entry.value;
  const auto known = truth_.find(id);
  ASSERT_NE(known, truth_.end()) << observer << " got an entry that nobody wrote: " << change.key;
  const auto value = known->second.find(*change.entry.value);
  ASSERT_NE(value, known->second.end())
      << observer << " got a value that nobody wrote: " << change.key;
  auto& arrivals = value->second;
  if (std::ranges::find(arrivals, observer, &Arrival::observer) == arrivals.end())
    arrivals.push_back({now, observer});
}

void Checker::check(const std::string& observer, const gossip::Core& core) {
  if (trusting_)
    return;
  EXPECT_EQ(core.self().name, observer);
  EXPECT_TRUE(core.self().state == MemberState::kAlive || core.self().state == MemberState::kLeft)
      << observer << " believes what others say of it";
  // What is known to be complete never shrinks.
  auto& complete = mirrors_[observer].complete[std::string(gossip::kDesiredOrigin)];
  const std::uint64_t now_complete = core.desired_complete_to();
  EXPECT_GE(now_complete, complete) << observer << " forgot desired state";
  complete = now_complete;
}

void Checker::check_mirror(const std::string& observer, const gossip::Core& core) const {
  if (trusting_)
    return;
  const Mirror& mirror = mirrors_.at(observer);
  std::map<std::string, MemberState> seen;
  std::map<std::string, MemberState> held;
  for (const auto& [name, m] : mirror.members)
    seen[name] = m.state;
  for (const gossip::Member& m : core.members())
    if (m.name != observer)
      held[m.name] = m.state;
  EXPECT_EQ(seen, held) << observer << ": notifications and table differ";
  std::size_t live = 0;
  for (const auto& [id, value] : mirror.entries) {
    const auto entry = core.entry(id.first, id.second);
    ASSERT_TRUE(entry) << observer << " lost " << id.second << " of " << id.first << " silently";
    EXPECT_EQ(*entry->value, *value);
    ++live;
  }
  std::size_t in_table = 0;
  for (const gossip::Member& m : core.members())
    if (m.name != observer)
      core.for_each_entry(m.name, [&](auto, auto&) { ++in_table; });
  // "desired" may also hold what this host published itself, of which it is not notified.
  std::size_t desired_seen = 0;
  for (const auto& [id, value] : mirror.entries)
    desired_seen += id.first == gossip::kDesiredOrigin ? 1 : 0;
  EXPECT_EQ(live - desired_seen, in_table) << observer << ": entries without a notification";
}

const std::vector<Checker::Arrival>& Checker::arrivals(const std::string& origin,
                                                       const std::string& key,
                                                       const std::string& value) const {
  return truth_.at({origin, key}).at(value);
}

std::size_t Checker::count(MemberChange change, const std::string& subject) const {
  return static_cast<std::size_t>(std::ranges::count_if(sightings_, [&](const Sighting& s) {
    return s.change == change && (subject.empty() || s.subject == subject);
  }));
}

}  // namespace shoal::sim
