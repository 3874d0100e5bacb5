// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/core/entry_table.h"

#include "netplane/base/random.h"

#include <gtest/gtest.h>

namespace shoal::gossip {
namespace {

using namespace std::chrono_literals;

Value value(std::string text) { return std::make_shared<const std::string>(std::move(text)); }

// One host's table, and the writer's side of one origin.
struct Side {
  Stats stats;
  EntryTable table{stats};
  std::vector<EntryChanged> changes;
  MonoTime now{1h};

  std::uint64_t publish(std::string_view key, Value v) {
    return table.publish("h1", key, std::move(v), now).value().value();
  }
  EntryTable::Applied apply(const Delta& d) {
    changes.clear();
    return table.apply(d, now, changes);
  }
  std::map<std::string, std::string> content(std::string_view origin = "h1") const {
    std::map<std::string, std::string> out;
    table.for_each(origin, [&](auto key, const Entry& e) { out.emplace(key, *e.value); });
    return out;
  }
};

// Asks `from` for everything that `to` lacks, part by part. Returns how many parts it took.
int transfer(Side& from, Side& to, std::string_view origin = "h1", std::size_t bytes = 4096) {
  for (int parts = 0; parts < 1000; ++parts) {
    const auto reset_at = to.table.reset_at(origin);
    const auto delta = from.table.build_delta(origin, to.table.digest(origin).epoch,
                                              reset_at.value_or(to.table.known(origin)),
                                              reset_at.has_value(), bytes);
    if (!delta)
      return parts;
    std::vector<EntryChanged> changes;
    to.table.apply(*delta, to.now, changes);
    std::ranges::move(changes, std::back_inserter(to.changes));
  }
  return -1;
}

TEST(EntryTable, PublishingTheSameAgainIsNoNews) {
  Side a;
  a.table.own("h1", 5);
  EXPECT_EQ(a.publish("k", value("x")), 1U);
  EXPECT_FALSE(a.table.publish("h1", "k", value("x"), a.now)->has_value());
  EXPECT_FALSE(a.table.publish("h1", "absent", nullptr, a.now)->has_value());
  EXPECT_EQ(a.publish("k", nullptr), 2U);
  EXPECT_EQ(a.table.complete_to("h1"), 2U);
}

TEST(EntryTable, DeltasInPartsBringEverything) {
  Side a, b;
  a.table.own("h1", 5);
  for (int i = 0; i < 100; ++i)
    a.publish(fmt::format("k{}", i), value(std::string(100, 'x')));
  a.publish("k7", nullptr);
  EXPECT_GT(transfer(a, b, "h1", 1000), 5);
  EXPECT_EQ(a.content(), b.content());
  EXPECT_EQ(b.table.complete_to("h1"), 101U);
  EXPECT_EQ(a.table.summary(), b.table.summary());
}

TEST(EntryTable, AClaimThatDoesNotConnectLeavesAHole) {
  Side a, b;
  a.table.own("h1", 5);
  a.publish("a", value("1"));
  a.publish("b", value("2"));
  std::set<std::uint64_t> second{2};
  b.apply(*a.table.build_push("h1", second, 1000));
  EXPECT_EQ(b.content(), (std::map<std::string, std::string>{{"b", "2"}}));
  EXPECT_EQ(b.table.complete_to("h1"), 0U);
  std::set<std::uint64_t> first{1};
  b.apply(*a.table.build_push("h1", first, 1000));
  EXPECT_EQ(b.table.complete_to("h1"),
            1U);  // 2 is here, and it is not known that nothing is between
  transfer(a, b);
  EXPECT_EQ(b.table.complete_to("h1"), 2U);
}

TEST(EntryTable, OlderVersionsNeverWin) {
  Side a;
  Delta d{.origin = "desired", .entries = {{"k", value("new"), 9, 3}}};
  a.apply(d);
  d.entries = {{"k", value("old"), 8, 3}};
  EXPECT_TRUE(a.apply(d).fresh.empty());
  EXPECT_TRUE(a.changes.empty());
  EXPECT_EQ(*a.table.find("desired", "k")->value, "new");
  EXPECT_EQ(a.table.find("desired", "k")->create_revision, 3U);
}

TEST(EntryTable, ATransferMayStopWithinOneRevision) {
  Side a, b;
  Delta commit{.origin = "desired", .to = {8, {}}};
  for (int i = 0; i < 20; ++i)
    commit.entries.push_back({fmt::format("k{:02}", i), value(std::string(100, 'v')), 7, 7});
  a.apply(commit);
  auto part = a.table.build_delta("desired", 0, {}, false, 500);
  ASSERT_TRUE(part->more);
  EXPECT_EQ(part->to.version, 7U);
  b.apply(*part);
  EXPECT_EQ(b.table.complete_to("desired"), 6U) << "a part of a revision is not the revision";
  transfer(a, b, "desired", 500);
  EXPECT_EQ(b.table.complete_to("desired"), 7U);
  EXPECT_EQ(b.content("desired").size(), 20U);
}

TEST(EntryTable, APeerBehindCollectedDeletionsIsReset) {
  Side a, b;
  a.table.own("h1", 5);
  for (int i = 0; i < 30; ++i)
    a.publish(fmt::format("k{:02}", i), value("x"));
  transfer(a, b);
  for (int i = 0; i < 10; ++i)
    a.publish(fmt::format("k{:02}", i), nullptr);
  a.publish("k29", value("y"));
  a.now += 2h;
  a.table.collect_tombstones(a.now);
  EXPECT_EQ(a.stats.tombstones, 0U);
  b.changes.clear();
  EXPECT_GT(transfer(a, b, "h1", 200), 1);
  EXPECT_EQ(b.stats.resets, 1U);
  EXPECT_EQ(a.content(), b.content());
  EXPECT_EQ(b.changes.size(), 11U) << "ten deletions and one new value; the rest was known";
  // And whoever asks b from before that gets a reset from b too.
  const auto delta = b.table.build_delta("h1", 5, {3, {}}, false, 1000);
  EXPECT_TRUE(delta->reset);
}

TEST(EntryTable, ASnapshotEndsWhatItDoesNotName) {
  Side a;
  a.apply({.origin = "desired",
           .to = {11, {}},
           .entries = {{"a", value("1"), 4, 4}, {"b", value("2"), 10, 5}}});
  a.changes.clear();
  a.table.apply_snapshot({.origin = "desired", .to = {9, {}}, .entries = {{"c", value("3"), 6, 6}}},
                         a.now, a.changes);
  EXPECT_EQ(a.content("desired"), (std::map<std::string, std::string>{{"b", "2"}, {"c", "3"}}))
      << "a is gone as of 8; b is newer than the snapshot";
  EXPECT_EQ(a.table.complete_to("desired"), 10U);
}

TEST(EntryTable, ANewLifeKeepsThePastUntilItHasSettled) {
  Side first, second, b;
  first.table.own("h1", 5);
  first.publish("kept", value("old"));
  first.publish("dropped", value("old"));
  transfer(first, b);
  second.table.own("h1", 6);
  second.publish("kept", value("new"));
  transfer(second, b);
  EXPECT_EQ(b.content(), (std::map<std::string, std::string>{{"dropped", "old"}, {"kept", "new"}}));
  // What the first life said late changes nothing.
  EXPECT_FALSE(first.table.build_delta("h1", 6, {}, false, 1000));
  b.apply(*first.table.build_delta("h1", 5, {}, false, 1000));
  EXPECT_EQ(b.content()["kept"], "new");
  second.table.publish_settled("h1", second.changes);
  b.changes.clear();
  transfer(second, b);
  EXPECT_EQ(b.content(), (std::map<std::string, std::string>{{"kept", "new"}}));
  ASSERT_EQ(b.changes.size(), 1U);
  EXPECT_EQ(b.changes[0].key, "dropped");
  EXPECT_FALSE(b.changes[0].entry.value);
  EXPECT_EQ(second.table.summary(), b.table.summary());
}

TEST(EntryTable, AFullTableRefusesAndClaimsNothing) {
  Side a, b;
  a.table.own("h1", 5);
  for (std::size_t i = 0; i < kHostEntriesMax; ++i)
    a.publish(fmt::format("k{}", i), value("x"));
  EXPECT_EQ(a.table.publish("h1", "one more", value("x"), a.now).error().code(), Errc::kExhausted);
  EXPECT_TRUE(a.table.publish("h1", "k0", value("y"), a.now)->has_value());
  transfer(a, b);
  Delta d{.origin = "h1", .epoch = 5, .from = b.table.known("h1")};
  d.to = {d.from.version + 1, {}};
  d.entries = {{"one more", value("x"), d.from.version, 0}};
  EXPECT_TRUE(b.apply(d).refused);
  EXPECT_EQ(b.table.known("h1"), d.from);
}

TEST(EntryTable, BytesAreCounted) {
  Side a;
  a.table.own("h1", 5);
  a.publish("key", value("12345"));
  EXPECT_EQ(a.stats.table_bytes, 8U);
  a.publish("key", value("1"));
  EXPECT_EQ(a.stats.table_bytes, 4U);
  a.publish("key", nullptr);
  EXPECT_EQ(a.stats.table_bytes, 3U);
  EXPECT_EQ(a.stats.tombstones, 1U);
  a.table.collect_tombstones(a.now + 1h);
  EXPECT_EQ(a.stats.table_bytes, 0U);
}

// Against a twin that is a map: random writes, pushes in any order, parts, collections, new lives.
TEST(EntryTable, EndsLikeItsDumbTwin) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    SeededRandom random(seed);
    Side a;
    std::vector<Side> replicas(3);
    std::map<std::string, std::string> twin;
    a.table.own("h1", 1);
    for (int step = 0; step < 300; ++step) {
      const std::string key = fmt::format("k{}", random.below(12));
      Side& b = replicas[random.below(replicas.size())];
      switch (random.below(8)) {
      case 0:
        if (twin.erase(key) != 0)
          a.publish(key, nullptr);
        break;
      case 1: {
        std::set<std::uint64_t> some;
        for (std::uint64_t n = random.below(4); n > 0; --n)
          some.insert(1 + random.below(a.table.complete_to("h1") + 1));
        if (!some.empty())
          if (const auto push = a.table.build_push("h1", some, 100))
            b.apply(*push);
        break;
      }
      case 2:
        transfer(a, b, "h1", 60);
        break;
      case 3:
        transfer(replicas[random.below(replicas.size())], b, "h1", 60);
        break;
      case 4:
        a.now += 1h;
        a.table.collect_tombstones(a.now);
        break;
      default:
        twin[key] = fmt::format("v{}", step);
        a.publish(key, value(twin[key]));
      }
    }
    ASSERT_EQ(a.content(), twin);
    for (Side& b : replicas) {
      ASSERT_GE(transfer(a, b, "h1", 60), 0);
      ASSERT_EQ(b.content(), twin);
      ASSERT_EQ(b.table.summary(), a.table.summary());
    }
  }
}

}  // namespace
}  // namespace shoal::gossip
