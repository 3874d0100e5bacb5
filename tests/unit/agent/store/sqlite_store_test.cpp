// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/agent/store/store_fixture.h"

#include "netplane/base/fs.h"

#include <fmt/format.h>
#include <sqlite3.h>
#include <sys/stat.h>

namespace shoal::store {
namespace {

TEST(SqliteStoreTest, ACommitRaisesTheRevisionByOne) {
  const TempDir dir;
  Opened s({.path = dir.path() / "state.db"});
  ASSERT_TRUE(s.store) << s.error->message();
  const auto first = s.txn({{{"/a", 0}}, {{"/a", "1"}, {"/b", "x"}}});
  ASSERT_TRUE(first);
  EXPECT_TRUE(first->committed);
  EXPECT_EQ(first->revision, 1U);
  EXPECT_EQ(first->events, (std::vector<Event>{{"/a", "1", 1, 1}, {"/b", "x", 1, 1}}));
  const auto second = s.txn({{{"/a", 1}}, {{"/a", "2"}}});
  EXPECT_EQ(second->events, (std::vector<Event>{{"/a", "2", 1, 2}}))
      << "created at 1, changed at 2";
  const auto third = s.txn({{}, {{"/a", std::nullopt}}});
  EXPECT_EQ(third->events, (std::vector<Event>{{"/a", std::nullopt, 0, 3}}));
  const auto again = s.txn({{{"/a", 0}}, {{"/a", "new"}}});
  EXPECT_EQ(again->events, (std::vector<Event>{{"/a", "new", 4, 4}}));
  EXPECT_EQ(s.snapshot().values, (std::vector<Event>{{"/a", "new", 4, 4}, {"/b", "x", 1, 1}}));
}

TEST(SqliteStoreTest, ALostComparisonWritesNothingAndTellsWhatIsThere) {
  const TempDir dir;
  Opened s({.path = dir.path() / "state.db"});
  s.put("/a", "1");
  const auto lost = s.txn({{{"/a", 0}, {"/none", 7}}, {{"/c", "x"}}});
  ASSERT_TRUE(lost);
  EXPECT_FALSE(lost->committed);
  EXPECT_EQ(lost->revision, 1U);
  EXPECT_EQ(lost->lost, (std::vector<std::string>{"/a", "/none"}));
  EXPECT_EQ(lost->present, (std::vector<Event>{{"/a", "1", 1, 1}, {"/none", std::nullopt, 0, 1}}));
  EXPECT_TRUE(lost->events.empty());
  EXPECT_EQ(s.snapshot().values.size(), 1U);
}

TEST(SqliteStoreTest, QueuedTransactionsKeepTheirOrderAndRevisions) {
  const TempDir dir;
  Opened s({.path = dir.path() / "state.db", .group_commit_max = 7});
  std::vector<Revision> watched;
  std::vector<std::string> order;
  s.store->watch([&](Revision revision, std::span<const Event> events) {
    watched.push_back(revision);
    order.push_back("watch " + events.front().key);
  });
  constexpr int kCount = 50;
  int done = 0;
  for (int i = 0; i < kCount; ++i)
    // Each counts on the one before it.
    s.store->txn({{{fmt::format("/k{}", i - 1), static_cast<Revision>(i)}},
                  {{fmt::format("/k{}", i), std::to_string(i)}}},
                 [&, i](Result<TxnResult> result) {
                   ASSERT_TRUE(result);
                   EXPECT_TRUE(result->committed);
                   EXPECT_EQ(result->revision, static_cast<Revision>(i + 1));
                   EXPECT_EQ(order.back(), fmt::format("watch /k{}", i)) << "watchers come first";
                   ++done;
                 });
  EXPECT_EQ(done, 0) << "no callback before the call returns";
  ASSERT_TRUE(s.loop.run_until([&] { return done == kCount; }));
  ASSERT_EQ(watched.size(), static_cast<std::size_t>(kCount));
  for (int i = 0; i < kCount; ++i)
    EXPECT_EQ(watched[static_cast<std::size_t>(i)], static_cast<Revision>(i + 1));
}

TEST(SqliteStoreTest, StateOutlivesTheProcess) {
  const TempDir dir;
  {
    Opened s({.path = dir.path() / "sub" / "state.db"});
    ASSERT_TRUE(s.store) << s.error->message();
    s.put("/a", "1");
    s.put("/b", "2");
    s.txn({{}, {{"/a", std::nullopt}}});
  }
  Opened s({.path = dir.path() / "sub" / "state.db"});
  ASSERT_TRUE(s.store) << s.error->message();
  const Snapshot snapshot = s.snapshot();
  EXPECT_EQ(snapshot.revision, 3U);
  EXPECT_EQ(snapshot.values, (std::vector<Event>{{"/b", "2", 2, 2}}));
  EXPECT_EQ(s.put("/c", "3")->revision, 4U);
  struct stat info{};
  ::stat((dir.path() / "sub" / "state.db").c_str(), &info);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
}

TEST(SqliteStoreTest, TheLogIsBoundedAndSaysWhatItHasForgotten) {
  const TempDir dir;
  const SqliteOptions options{.path = dir.path() / "state.db", .log_events_max = 20};
  {
    Opened s(options);
    for (int i = 0; i < 100; ++i)
      s.put("/k", std::to_string(i));
    const auto recent = s.since(90);
    ASSERT_TRUE(recent);
    ASSERT_EQ(recent->size(), 10U);
    EXPECT_EQ(recent->front(), (Event{"/k", "90", 1, 91}));
    EXPECT_TRUE(s.since(80)) << "20 are always there";
    const auto old = s.since(10);
    ASSERT_FALSE(old);
    EXPECT_EQ(old.error().code(), Errc::kNotFound);
    EXPECT_THAT(old.error().message(), testing::HasSubstr("compacted"));
  }
  Opened s(options);  // the bound is remembered
  EXPECT_FALSE(s.since(10));
  EXPECT_EQ(s.since(100)->size(), 0U);
  for (int i = 0; i < 100; ++i)
    s.put("/k", "again");
  EXPECT_FALSE(s.since(150));
  EXPECT_TRUE(s.since(185));
}

TEST(SqliteStoreTest, RefusesWhatTheContractDoesNotAllow) {
  const TempDir dir;
  Opened s({.path = dir.path() / "state.db"});
  const auto code = [&](Txn txn) {
    const auto result = s.txn(std::move(txn));
    return result ? Errc::kInternal : result.error().code();
  };
  EXPECT_EQ(code({{}, {{"/a", "1"}, {"/a", "2"}}}), Errc::kInvalid);
  EXPECT_EQ(code({{}, {{"", "1"}}}), Errc::kInvalid);
  EXPECT_EQ(code({{}, {{std::string(kKeyBytesMax + 1, 'k'), "1"}}}), Errc::kInvalid);
  EXPECT_EQ(code({{}, {{"/big", std::string(kValueBytesMax + 1, 'v')}}}), Errc::kInvalid);
  Txn many;
  for (std::size_t i = 0; i <= kTxnOpsMax; ++i)
    many.ops.push_back({fmt::format("/{}", i), "x"});
  EXPECT_EQ(code(std::move(many)), Errc::kInvalid);
  EXPECT_EQ(s.snapshot().revision, 0U);
}

TEST(SqliteStoreTest, AFullQueueIsSaid) {
  const TempDir dir;
  Opened s({.path = dir.path() / "state.db", .queue_max = 4, .group_commit_max = 1});
  int done = 0, refused = 0;
  for (int i = 0; i < 400; ++i)
    s.store->txn({{}, {{fmt::format("/k{}", i), "x"}}}, [&](Result<TxnResult> result) {
      ++done;
      if (!result) {
        EXPECT_EQ(result.error().code(), Errc::kExhausted);
        ++refused;
      }
    });
  ASSERT_TRUE(s.loop.run_until([&] { return done == 400; }));
  EXPECT_GT(refused, 0);
  EXPECT_EQ(s.snapshot().revision, static_cast<Revision>(400 - refused));
}

TEST(SqliteStoreTest, ASecondOwnerIsRefused) {
  const TempDir dir;
  Opened first({.path = dir.path() / "state.db"});
  ASSERT_TRUE(first.store);
  Opened second({.path = dir.path() / "state.db"});
  ASSERT_FALSE(second.store);
  EXPECT_EQ(second.error->code(), Errc::kConflict);
  EXPECT_THAT(second.error->message(), testing::HasSubstr(std::to_string(::getpid())));
  first.store.reset();
  Opened third({.path = dir.path() / "state.db"});
  EXPECT_TRUE(third.store) << third.error->message();
}

TEST(SqliteStoreTest, AForeignOrDamagedFileIsRefusedUnchanged) {
  const TempDir dir;
  const auto path = dir.path() / "state.db";
  ASSERT_TRUE(write_file_atomic(path, std::string(4096, 'x')));
  {
    Opened s({.path = path});
    ASSERT_FALSE(s.store);
    EXPECT_EQ(s.error->code(), Errc::kCorrupt) << s.error->message();
  }
  EXPECT_EQ(*read_file(path, 1 << 20), std::string(4096, 'x'));
  std::filesystem::remove(path);
  {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open(path.c_str(), &db), SQLITE_OK);
    ASSERT_EQ(sqlite3_exec(db, "CREATE TABLE t(x)", nullptr, nullptr, nullptr), SQLITE_OK);
    sqlite3_close(db);
    Opened s({.path = path});
    ASSERT_FALSE(s.store);
    EXPECT_THAT(s.error->message(), testing::HasSubstr("another program"));
  }
}

TEST(SqliteStoreTest, ANewerSchemaIsRefused) {
  const TempDir dir;
  const auto path = dir.path() / "state.db";
  {
    Opened s({.path = path});
  }
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &db), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(db, "PRAGMA user_version = 99", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(db);
  Opened s({.path = path});
  ASSERT_FALSE(s.store);
  EXPECT_EQ(s.error->code(), Errc::kUnsupported);
  EXPECT_THAT(s.error->message(), testing::HasSubstr("99"));
}

TEST(SqliteStoreTest, DamageIsFoundAtOpen) {
  const TempDir dir;
  const auto path = dir.path() / "state.db";
  {
    Opened s({.path = path});
    for (int i = 0; i < 300; ++i)
      s.put(fmt::format("/key-{:04}", i), std::string(500, 'v'));
  }
  std::string bytes = *read_file(path, 64 << 20);
  ASSERT_GT(bytes.size(), 100'000U);
  std::fill(bytes.begin() + 40'000, bytes.begin() + 60'000, '\x5a');
  ASSERT_TRUE(write_file_atomic(path, bytes));
  Opened s({.path = path});
  ASSERT_FALSE(s.store);
  EXPECT_EQ(s.error->code(), Errc::kCorrupt) << s.error->message();
  EXPECT_THAT(s.error->message(), testing::HasSubstr("restore"));
}

TEST(SqliteStoreTest, NoCallbackAfterTheEndAndWhatWasQueuedIsWritten) {
  const TempDir dir;
  const SqliteOptions options{.path = dir.path() / "state.db"};
  int called = 0;
  {
    Opened s(options);
    for (int i = 0; i < 20; ++i)
      s.store->txn({{}, {{fmt::format("/k{}", i), "x"}}}, [&](Result<TxnResult>) { ++called; });
    s.store.reset();
    s.loop.drain();
  }
  EXPECT_EQ(called, 0);
  Opened s(options);
  EXPECT_EQ(s.snapshot().values.size(), 20U);
}

}  // namespace
}  // namespace shoal::store
