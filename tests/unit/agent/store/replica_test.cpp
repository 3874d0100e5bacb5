// SPDX-License-Identifier: Apache-2.0
#include "agent/store/replica.h"

#include "netplane/base/random.h"

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <gtest/gtest.h>
#include <random>

namespace shoal::store {
namespace {

namespace json = boost::json;

Event pod(std::string_view name, Revision revision, std::string_view uid = "u1",
          std::string_view node = "", std::string_view extra = "") {
  return {
      object_key("pods", "default", name),
      fmt::format(
          R"({{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{}","namespace":"default","uid":"{}","x":"{}"}},"spec":{{"nodeName":"{}"}},"status":{{"phase":"Pending"}}}})",
          name, uid, extra, node),
      revision, revision};
}
Event gone(std::string_view name, Revision revision) {
  return {object_key("pods", "default", name), std::nullopt, 0, revision};
}
json::object running() { return {{"phase", "Running"}}; }

std::string phase(const Replica& replica, std::string_view name) {
  const ObjectPtr object = replica.get("pods", "default", name);
  return object ? json::serialize(object->body.at("status").at("phase")) : "none";
}

// Changes as one line each.
struct Journal {
  explicit Journal(Replica& replica, std::string_view resource = "")
      : subscription(replica.subscribe(resource, [this](const Change& change) {
          const char* kinds[] = {"ADDED", "MODIFIED", "DELETED"};
          lines.push_back(fmt::format("{} {} {}", kinds[static_cast<int>(change.kind)],
                                      change.object->name, change.object->revision));
        })) {}
  std::vector<std::string> lines;
  Subscription subscription;
};
using Lines = std::vector<std::string>;

TEST(ReplicaTest, ObjectKeysNameTheScope) {
  EXPECT_EQ(object_key("pods", "default", "web"), "/pods/default/web");
  EXPECT_EQ(object_key("nodes", "", "h1"), "/nodes/-/h1");
}

TEST(ReplicaTest, ShowsObjectsWithTheirRevision) {
  Replica replica;
  const std::vector<Event> events = {pod("web", 4)};
  replica.apply(events, 0);
  const ObjectPtr object = replica.get("pods", "default", "web");
  ASSERT_TRUE(object);
  EXPECT_EQ(object->revision, 4U);
  EXPECT_EQ(object->uid, "u1");
  EXPECT_EQ(object->body.at("metadata").at("resourceVersion"), "4");
  EXPECT_EQ(replica.get("pods", "other", "web"), nullptr);
}

TEST(ReplicaTest, ListsByKeyAndNamespace) {
  Replica replica;
  std::vector<Event> events = {pod("b", 1), pod("a", 2)};
  Event other = pod("c", 3);
  other.key = object_key("pods", "default-2", "c");
  events.push_back(other);
  events.push_back({"/alloc/cluster-ips/10.96.0.1", "{}", 4, 4});
  replica.apply(events, 4);
  std::vector<std::string> names;
  for (const ObjectPtr& object : replica.list("pods", "default"))
    names.push_back(object->name);
  EXPECT_EQ(names, (Lines{"a", "b"}));
  EXPECT_EQ(replica.list("pods").size(), 3U);
  EXPECT_TRUE(replica.list("pod").empty());
  EXPECT_TRUE(replica.list("alloc").empty());
  std::size_t values = 0;
  replica.for_each_value("/alloc/", [&](const Event&) { ++values; });
  EXPECT_EQ(values, 1U);
  EXPECT_EQ(replica.value("/alloc/cluster-ips/10.96.0.1")->revision, 4U);
}

TEST(ReplicaTest, TheLargerRevisionWinsWhateverTheOrder) {
  Replica replica;
  Journal journal(replica);
  const std::vector<Event> newer = {pod("web", 5)}, older = {pod("web", 3)},
                           dead = {gone("web", 7)};
  replica.apply(newer, 0);
  replica.apply(older, 0);
  EXPECT_EQ(replica.get("pods", "default", "web")->revision, 5U);
  replica.apply(dead, 0);
  const std::vector<Event> late = {pod("web", 6)};
  replica.apply(late, 0);
  EXPECT_EQ(replica.get("pods", "default", "web"), nullptr)
      << "an old value must not bring it back";
  const std::vector<Event> reborn = {pod("web", 8, "u2")};
  replica.apply(reborn, 0);
  EXPECT_EQ(journal.lines, (Lines{"ADDED web 5", "DELETED web 7", "ADDED web 8"}));
}

TEST(ReplicaTest, WhatIsOlderThanTheCompleteStateIsIgnored) {
  Replica replica;
  replica.apply({}, 10);
  const std::vector<Event> late = {pod("web", 9)};
  replica.apply(late, 0);
  EXPECT_EQ(replica.get("pods", "default", "web"), nullptr);
  EXPECT_EQ(replica.revision(), 10U);
}

TEST(ReplicaTest, ANewLifeOfTheNameIsAnEndAndABeginning) {
  Replica replica;
  const std::vector<Event> first = {pod("web", 1, "u1")}, second = {pod("web", 3, "u2")};
  replica.apply(first, 0);
  Journal journal(replica);
  replica.apply(second, 0);
  EXPECT_EQ(journal.lines, (Lines{"DELETED web 3", "ADDED web 3"}));
}

TEST(ReplicaTest, StatusOfTheObjectsOwnHostAndLifeCounts) {
  Replica replica;
  const std::vector<Event> bound = {pod("web", 1, "u1", "h1")};
  replica.apply_status("h1", "pods", "default", "web", running(), "u1");  // before its object
  replica.apply(bound, 1);
  EXPECT_EQ(phase(replica, "web"), "\"Running\"");
  replica.apply_status("h2", "pods", "default", "web", json::object{{"phase", "Failed"}}, "u1");
  EXPECT_EQ(phase(replica, "web"), "\"Running\"") << "another host's word";
  replica.apply_status("h1", "pods", "default", "web", json::object{{"phase", "Failed"}}, "u0");
  EXPECT_EQ(phase(replica, "web"), "\"Pending\"") << "about an earlier life";
  replica.apply_status("h1", "pods", "default", "web", running(), "u1");
  Journal journal(replica);
  replica.apply_status("h1", "pods", "default", "web", running(), "u1");
  EXPECT_TRUE(journal.lines.empty()) << "nothing changed";
  replica.apply_status("h1", "pods", "default", "web", std::nullopt, "");
  EXPECT_EQ(phase(replica, "web"), "\"Pending\"") << "no longer reported";
  EXPECT_EQ(journal.lines, (Lines{"MODIFIED web 1"}));
  // Bound to another host: that host's report counts from then on.
  const std::vector<Event> moved = {pod("web", 2, "u1", "h2")};
  replica.apply(moved, 2);
  EXPECT_EQ(phase(replica, "web"), "\"Failed\"");
}

TEST(ReplicaTest, ResetDropsWhatTheSnapshotDoesNotName) {
  Replica replica;
  const std::vector<Event> before = {pod("a", 1), pod("b", 2), pod("c", 9)};
  replica.apply(before, 0);
  Journal journal(replica);
  bool synced = false;
  replica.when_synced([&] { synced = true; });
  EXPECT_FALSE(replica.synced());
  replica.reset({5, {pod("b", 4)}});
  EXPECT_TRUE(synced);
  EXPECT_EQ(journal.lines, (Lines{"DELETED a 5", "MODIFIED b 4"}))
      << "c is newer than the snapshot";
  EXPECT_EQ(replica.revision(), 5U);
}

TEST(ReplicaTest, RevisionWaitersRunWhenItIsReached) {
  Replica replica;
  std::vector<int> ran;
  replica.when_revision(5, [&] { ran.push_back(5); });
  replica.when_revision(3, [&] { ran.push_back(3); });
  replica.when_revision(0, [&] { ran.push_back(0); });
  replica.apply({}, 4);
  EXPECT_EQ(ran, (std::vector<int>{0, 3}));
  replica.apply({}, 6);
  EXPECT_EQ(ran, (std::vector<int>{0, 3, 5}));
}

TEST(ReplicaTest, SubscriptionsEndWhenDestroyedAlsoFromWithin) {
  auto replica = std::make_unique<Replica>();
  int calls = 0;
  Subscription mine;
  mine = replica->subscribe("pods", [&](const Change&) {
    ++calls;
    mine = {};
  });
  int others = 0;
  Subscription other = replica->subscribe("nodes", [&](const Change&) { ++others; });
  const std::vector<Event> events = {pod("a", 1), pod("b", 2)};
  replica->apply(events, 0);
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(others, 0);
  replica.reset();
  other = {};  // outlives the replica
}

TEST(ReplicaTest, ValuesThatAreNoObjectsAreKeptAsValues) {
  Replica replica;
  const std::vector<Event> events = {{"/pods/default/odd", "not json", 1, 1}};
  replica.apply(events, 0);
  EXPECT_EQ(replica.get("pods", "default", "odd"), nullptr);
  EXPECT_EQ(replica.value("/pods/default/odd")->value, "not json");
}

// The dumb twin: the newest event of each key, nothing else.
TEST(ReplicaTest, AnyOrderGivesTheNewestOfEachKey) {
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  SeededRandom random(seed);
  for (int round = 0; round < 200; ++round) {
    std::vector<Event> history;
    std::map<std::string, Event> twin;
    for (Revision revision = 1; revision <= 40; ++revision) {
      const std::string name = fmt::format("p{}", random.below(6));
      const bool live = twin.contains(name) && twin[name].value;
      Event event = live && random.below(3) == 0 ? gone(name, revision)
                                                 : pod(name, revision, live ? "u" : "v", "", name);
      twin[name] = event;
      history.push_back(std::move(event));
    }
    for (std::size_t i = history.size(); i > 1; --i)
      std::swap(history[i - 1], history[random.below(i)]);
    // Some twice: the transport may repeat.
    for (int i = 0; i < 10; ++i)
      history.push_back(history[random.below(history.size())]);

    Replica replica;
    std::map<std::string, Revision> seen;  // by the stream of changes alone
    const Subscription subscription = replica.subscribe("pods", [&](const Change& change) {
      if (change.kind == ChangeKind::kDeleted)
        EXPECT_EQ(seen.erase(change.object->name), 1U);
      else
        seen[change.object->name] = change.object->revision;
    });
    for (const Event& event : history)
      replica.apply(std::span(&event, 1), 0);
    std::map<std::string, Revision> expected;
    for (const auto& [name, event] : twin)
      if (event.value)
        expected[name] = event.revision;
    EXPECT_EQ(seen, expected);
    for (const auto& [name, revision] : expected)
      EXPECT_EQ(replica.get("pods", "default", name)->revision, revision);
    EXPECT_EQ(replica.list("pods").size(), expected.size());
  }
}

}  // namespace
}  // namespace shoal::store
