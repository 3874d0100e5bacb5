// SPDX-License-Identifier: Apache-2.0
#include "agent/store/sqlite_store.h"

#include "agent/store/sqlite_db.h"
#include "netplane/base/fs.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <fcntl.h>
#include <fmt/format.h>
#include <mutex>
#include <pthread.h>
#include <set>
#include <sys/stat.h>
#include <thread>
#include <utility>
#include <variant>

namespace shoal::store {
namespace {

constexpr std::int64_t kApplicationId = 0x53484f4c;  // "SHOL"
constexpr std::int64_t kSchemaVersion = 1;

constexpr const char* kSchema = R"sql(
  CREATE TABLE kv(
    key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL,
    create_revision INTEGER NOT NULL, revision INTEGER NOT NULL);
  CREATE TABLE log(
    id INTEGER PRIMARY KEY, revision INTEGER NOT NULL,
    key TEXT NOT NULL, value TEXT, create_revision INTEGER NOT NULL);
  CREATE INDEX log_by_revision ON log(revision);
  CREATE TABLE meta(name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL);
  INSERT INTO meta VALUES ('revision', 0), ('compacted', 0);
)sql";

// The loop's side of the store. Callbacks posted by the worker hold it and find out here whether
// they may still run.
struct LoopSide {
  std::vector<std::function<void(Revision, std::span<const Event>)>> watchers;
  bool alive = true;
};

struct TxnWork {
  Txn txn;
  std::function<void(Result<TxnResult>)> done;
};
struct SnapshotWork {
  std::function<void(Result<Snapshot>)> done;
};
struct SinceWork {
  Revision after;
  std::function<void(Result<std::vector<Event>>)> done;
};
using Work = std::variant<TxnWork, SnapshotWork, SinceWork>;

Result<> check_txn(const Txn& txn) {
  if (txn.ops.size() > kTxnOpsMax || txn.compares.size() > kTxnOpsMax)
    return fail(Errc::kInvalid,
                fmt::format("transaction of {} comparisons and {} operations: at most {} of each",
                            txn.compares.size(), txn.ops.size(), kTxnOpsMax));
  std::set<std::string_view> keys;
  const auto check_key = [](std::string_view key) -> Result<> {
    if (key.empty() || key.size() > kKeyBytesMax || key.find('\0') != key.npos)
      return fail(Errc::kInvalid,
                  fmt::format("store key of {} bytes: must be 1 to {} bytes of text", key.size(),
                              kKeyBytesMax));
    return {};
  };
  for (const Compare& compare : txn.compares)
    SHOAL_TRY(check_key(compare.key));
  for (const Op& op : txn.ops) {
    SHOAL_TRY(check_key(op.key));
    if (!keys.insert(op.key).second)
      return fail(Errc::kInvalid, fmt::format("transaction writes {} twice", op.key));
    if (op.value && op.value->size() > kValueBytesMax)
      return fail(Errc::kInvalid, fmt::format("{} is {} bytes: a stored object may have {}", op.key,
                                              op.value->size(), kValueBytesMax));
  }
  return {};
}

}  // namespace

// Members above `mutex` are the worker's once it runs; `queue` and `stopping` are shared under the
// mutex; the rest is the loop's.
struct SqliteStore::Impl {
  SqliteOptions options;
  UniqueFd lock;
  Database db;
  Statement get, put, erase, log_append, log_trim, log_revision_at, log_since, all, set_meta;
  Revision revision = 0;
  Revision compacted = 0;
  std::int64_t log_first = 0;  // ids are without gaps
  std::int64_t log_last = 0;

  std::mutex mutex;
  std::condition_variable wake;
  std::deque<Work> queue;
  bool stopping = false;

  Post post;
  std::shared_ptr<LoopSide> loop = std::make_shared<LoopSide>();
  std::thread worker;

  // ---- opening
  Result<> open_file();
  Result<> check_file();
  Result<> prepare_all();
  Result<> load();

  // ---- the worker
  void run();
  void run_txns(std::vector<TxnWork> group);
  Result<std::vector<TxnResult>> commit(std::span<TxnWork> group);
  Result<TxnResult> apply(const Txn& txn);
  Result<std::optional<Event>> lookup(const std::string& key);
  Result<> write(const Op& op, TxnResult& result);
  Result<> compact();
  Result<Snapshot> read_snapshot();
  Result<std::vector<Event>> read_since(Revision after);
  Result<> save_meta(std::string_view name, Revision value);

  // ---- the loop
  void enqueue(Work work);
  template <class T>
  void answer(std::function<void(Result<T>)> done, Result<T> result);
};

Result<> SqliteStore::Impl::open_file() {
  const std::filesystem::path& path = options.path;
  if (path.has_parent_path())
    SHOAL_TRY(make_dirs(path.parent_path(), 0700));
  lock = SHOAL_TRY(lock_file(path.string() + ".lock"));
  // Made here for its mode: what is in it is for root only.
  const UniqueFd made(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!made)
    return fail_errno("create");
  db = SHOAL_TRY(Database::open(path));
  // Exclusive: nobody else reads this file, and the WAL index stays in memory instead of a mapped
  // file, which a full disk would turn into SIGBUS or a failed open.
  SHOAL_TRY(db.pragma("PRAGMA locking_mode = EXCLUSIVE"));
  return {};
}

Result<> SqliteStore::Impl::check_file() {
  const std::string id = SHOAL_TRY(db.pragma("PRAGMA application_id"));
  const std::string version = SHOAL_TRY(db.pragma("PRAGMA user_version"));
  const std::string tables = SHOAL_TRY(db.pragma("SELECT count(*) FROM sqlite_master"));
  const bool fresh = id == "0" && version == "0" && tables == "0";
  if (!fresh && id != std::to_string(kApplicationId))
    return fail(Errc::kCorrupt, "this is an SQLite file of another program; move it away or point "
                                "state_dir elsewhere");
  if (!fresh && version != std::to_string(kSchemaVersion))
    return fail(Errc::kUnsupported,
                fmt::format("schema version {}, this shoald knows {}: run the shoald that wrote it",
                            version, kSchemaVersion));
  const std::string check = SHOAL_TRY(db.pragma("PRAGMA quick_check(1)"));
  if (check != "ok")
    return fail(Errc::kCorrupt,
                fmt::format("quick_check says: {}; restore the file from a backup, or move it away "
                            "(with its -wal file) and start the cluster's state anew",
                            check));
  const std::string mode = SHOAL_TRY(db.pragma("PRAGMA journal_mode = WAL"));
  if (mode != "wal")
    return fail(Errc::kUnsupported,
                fmt::format("this file system does not take SQLite's WAL (journal mode {}); put "
                            "state_dir on a local disk",
                            mode));
  SHOAL_TRY(db.pragma("PRAGMA synchronous = FULL"));
  SHOAL_TRY(db.pragma("PRAGMA journal_size_limit = 8388608"));
  if (!fresh)
    return {};
  SHOAL_TRY(db.exec("BEGIN IMMEDIATE"));
  SHOAL_TRY(db.exec(kSchema));
  SHOAL_TRY(db.exec(fmt::format("PRAGMA application_id = {}", kApplicationId).c_str()));
  SHOAL_TRY(db.exec(fmt::format("PRAGMA user_version = {}", kSchemaVersion).c_str()));
  return db.exec("COMMIT");
}

Result<> SqliteStore::Impl::prepare_all() {
  get = SHOAL_TRY(db.prepare("SELECT value, create_revision, revision FROM kv WHERE key = ?1"));
  put = SHOAL_TRY(db.prepare("INSERT INTO kv(key, value, create_revision, revision) "
                             "VALUES (?1, ?2, ?3, ?4) ON CONFLICT(key) DO UPDATE SET "
                             "value = ?2, create_revision = ?3, revision = ?4"));
  erase = SHOAL_TRY(db.prepare("DELETE FROM kv WHERE key = ?1"));
  log_append = SHOAL_TRY(db.prepare("INSERT INTO log(id, revision, key, value, create_revision) "
                                    "VALUES (?1, ?2, ?3, ?4, ?5)"));
  log_trim = SHOAL_TRY(db.prepare("DELETE FROM log WHERE id <= ?1"));
  log_revision_at = SHOAL_TRY(db.prepare("SELECT revision FROM log WHERE id = ?1"));
  log_since = SHOAL_TRY(db.prepare("SELECT key, value, create_revision, revision FROM log "
                                   "WHERE revision > ?1 ORDER BY id"));
  all = SHOAL_TRY(db.prepare("SELECT key, value, create_revision, revision FROM kv ORDER BY key"));
  set_meta = SHOAL_TRY(db.prepare("UPDATE meta SET value = ?2 WHERE name = ?1"));
  return {};
}

Result<> SqliteStore::Impl::load() {
  Statement row = SHOAL_TRY(db.prepare(
      "SELECT (SELECT value FROM meta WHERE name = 'revision'),"
      " (SELECT value FROM meta WHERE name = 'compacted'),"
      " coalesce((SELECT min(id) FROM log), 1), coalesce((SELECT max(id) FROM log), 0)"));
  if (!SHOAL_TRY(row.step()))
    return fail(Errc::kCorrupt, "the meta table is empty; restore the file from a backup");
  revision = static_cast<Revision>(row.number(0));
  compacted = static_cast<Revision>(row.number(1));
  log_first = row.number(2);
  log_last = row.number(3);
  return {};
}

void SqliteStore::Impl::run() {
  pthread_setname_np(pthread_self(), "shoal-store");
  std::unique_lock held(mutex);
  for (;;) {
    wake.wait(held, [&] { return stopping || !queue.empty(); });
    if (queue.empty())
      return;
    std::vector<TxnWork> group;
    while (!queue.empty() && std::holds_alternative<TxnWork>(queue.front()) &&
           group.size() < options.group_commit_max) {
      group.push_back(std::move(std::get<TxnWork>(queue.front())));
      queue.pop_front();
    }
    std::optional<Work> other;
    if (group.empty()) {
      other = std::move(queue.front());
      queue.pop_front();
    }
    held.unlock();
    if (!group.empty())
      run_txns(std::move(group));
    else if (auto* snapshot = std::get_if<SnapshotWork>(&*other))
      answer<Snapshot>(std::move(snapshot->done), read_snapshot());
    else if (auto* since = std::get_if<SinceWork>(&*other))
      answer<std::vector<Event>>(std::move(since->done), read_since(since->after));
    other.reset();
    held.lock();
  }
}

void SqliteStore::Impl::run_txns(std::vector<TxnWork> group) {
  Result<std::vector<TxnResult>> results = commit(group);
  if (!results && group.size() > 1) {
    // One of them may be what does not fit; the others must not suffer for it.
    for (TxnWork& work : group) {
      std::vector<TxnWork> alone;
      alone.push_back(std::move(work));
      run_txns(std::move(alone));
    }
    return;
  }
  post([side = loop, work = std::move(group), outcome = std::move(results)]() mutable {
    for (std::size_t i = 0; i < work.size() && side->alive; ++i) {
      if (!outcome) {
        work[i].done(fail(outcome.error()));
        continue;
      }
      TxnResult& result = (*outcome)[i];
      // Watchers first: the writer's `done` may count on the replica having the change.
      if (result.committed && !result.events.empty())
        for (std::size_t w = 0; w < side->watchers.size() && side->alive; ++w)
          side->watchers[w](result.revision, result.events);
      if (side->alive)
        work[i].done(std::move(result));
    }
  });
}

Result<std::vector<TxnResult>> SqliteStore::Impl::commit(std::span<TxnWork> group) {
  const Revision revision_before = revision, compacted_before = compacted;
  const std::int64_t first_before = log_first, last_before = log_last;
  const auto run_all = [&]() -> Result<std::vector<TxnResult>> {
    std::vector<TxnResult> results;
    results.reserve(group.size());
    SHOAL_TRY(db.exec("BEGIN IMMEDIATE"));
    for (const TxnWork& work : group)
      results.push_back(SHOAL_TRY(apply(work.txn)));
    if (revision != revision_before) {
      SHOAL_TRY(save_meta("revision", revision));
      SHOAL_TRY(compact());
    }
    SHOAL_TRY(db.exec("COMMIT"));
    return results;
  };
  Result<std::vector<TxnResult>> results = run_all();
  if (results)
    return results;
  db.rollback();
  revision = revision_before;
  compacted = compacted_before;
  log_first = first_before;
  log_last = last_before;
  const bool full = results.error().code() == Errc::kExhausted;
  return fail(std::move(results.error())
                  .wrap(full ? fmt::format("write to the store {}: the disk is full, nothing was "
                                           "written; make room and try again",
                                           options.path.string())
                             : fmt::format("write to the store {}: nothing was written",
                                           options.path.string())));
}

Result<TxnResult> SqliteStore::Impl::apply(const Txn& txn) {
  TxnResult result;
  for (const Compare& compare : txn.compares) {
    std::optional<Event> now = SHOAL_TRY(lookup(compare.key));
    if ((now ? now->revision : 0) == compare.mod_revision)
      continue;
    result.lost.push_back(compare.key);
    result.present.push_back(now ? std::move(*now) : Event{compare.key, std::nullopt, 0, revision});
  }
  result.committed = result.lost.empty();
  if (result.committed && !txn.ops.empty()) {
    ++revision;
    for (const Op& op : txn.ops)
      SHOAL_TRY(write(op, result));
  }
  result.revision = revision;
  return result;
}

Result<std::optional<Event>> SqliteStore::Impl::lookup(const std::string& key) {
  if (!SHOAL_TRY(get.rewind().bind(1, key).step())) {
    get.rewind();
    return std::nullopt;
  }
  Event event{key, get.text(0), static_cast<Revision>(get.number(1)),
              static_cast<Revision>(get.number(2))};
  get.rewind();
  return event;
}

Result<> SqliteStore::Impl::write(const Op& op, TxnResult& result) {
  const std::optional<Event> before = SHOAL_TRY(lookup(op.key));
  if (!op.value && !before)
    return {};  // nothing to delete: the revision counts the transaction, no event tells of it
  const Revision created = !op.value ? 0 : before ? before->create_revision : revision;
  const auto at = static_cast<std::int64_t>(revision);
  if (op.value)
    SHOAL_TRY(put.rewind()
                  .bind(1, op.key)
                  .bind(2, *op.value)
                  .bind(3, static_cast<std::int64_t>(created))
                  .bind(4, at)
                  .run());
  else
    SHOAL_TRY(erase.rewind().bind(1, op.key).run());
  log_append.rewind().bind(1, ++log_last).bind(2, at).bind(3, op.key);
  if (op.value)
    log_append.bind(4, *op.value);
  else
    log_append.bind_null(4);
  SHOAL_TRY(log_append.bind(5, static_cast<std::int64_t>(created)).run());
  result.events.push_back(Event{op.key, op.value, created, revision});
  return {};
}

Result<> SqliteStore::Impl::compact() {
  // In steps of a quarter, so that most commits delete nothing.
  const auto keep = static_cast<std::int64_t>(options.log_events_max);
  if (log_last - log_first + 1 <= keep + keep / 4)
    return {};
  const std::int64_t trim_to = log_last - keep;
  if (SHOAL_TRY(log_revision_at.rewind().bind(1, trim_to).step()))
    compacted = static_cast<Revision>(log_revision_at.number(0));
  log_revision_at.rewind();
  SHOAL_TRY(log_trim.rewind().bind(1, trim_to).run());
  log_first = trim_to + 1;
  return save_meta("compacted", compacted);
}

Result<> SqliteStore::Impl::save_meta(std::string_view name, Revision value) {
  return set_meta.rewind().bind(1, name).bind(2, static_cast<std::int64_t>(value)).run();
}

Result<Snapshot> SqliteStore::Impl::read_snapshot() {
  Snapshot snapshot;
  snapshot.revision = revision;
  all.rewind();
  while (SHOAL_TRY(all.step()))
    snapshot.values.push_back(Event{all.text(0), all.text(1), static_cast<Revision>(all.number(2)),
                                    static_cast<Revision>(all.number(3))});
  all.rewind();
  return snapshot;
}

Result<std::vector<Event>> SqliteStore::Impl::read_since(Revision after) {
  if (after < compacted)
    return fail(Errc::kNotFound,
                fmt::format("changes after revision {} are compacted away (up to {}); take a "
                            "snapshot",
                            after, compacted));
  std::vector<Event> events;
  log_since.rewind().bind(1, static_cast<std::int64_t>(after));
  while (SHOAL_TRY(log_since.step()))
    events.push_back(Event{log_since.text(0), log_since.text_or_null(1),
                           static_cast<Revision>(log_since.number(2)),
                           static_cast<Revision>(log_since.number(3))});
  log_since.rewind();
  return events;
}

void SqliteStore::Impl::enqueue(Work work) {
  {
    const std::lock_guard held(mutex);
    queue.push_back(std::move(work));
  }
  wake.notify_one();
}

template <class T>
void SqliteStore::Impl::answer(std::function<void(Result<T>)> done, Result<T> result) {
  post([side = loop, run = std::move(done), value = std::move(result)]() mutable {
    if (side->alive)
      run(std::move(value));
  });
}

SqliteStore::SqliteStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<SqliteStore>> SqliteStore::open(SqliteOptions options, Post post) {
  SHOAL_ASSERT(options.group_commit_max > 0 && options.queue_max > 0 && options.log_events_max > 0);
  const std::string what = fmt::format("open the store {}", options.path.string());
  auto impl = std::make_unique<Impl>();
  impl->options = std::move(options);
  impl->post = std::move(post);
  SHOAL_TRY_WRAP(impl->open_file(), what);
  SHOAL_TRY_WRAP(impl->check_file(), what);
  SHOAL_TRY_WRAP(impl->prepare_all(), what);
  SHOAL_TRY_WRAP(impl->load(), what);
  impl->worker = std::thread([raw = impl.get()] { raw->run(); });
  return std::unique_ptr<SqliteStore>(new SqliteStore(std::move(impl)));
}

SqliteStore::~SqliteStore() {
  impl_->loop->alive = false;
  {
    const std::lock_guard held(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->wake.notify_one();
  impl_->worker.join();
}

void SqliteStore::txn(Txn txn, std::function<void(Result<TxnResult>)> done) {
  if (Result<> fine = check_txn(txn); !fine)
    return impl_->answer<TxnResult>(std::move(done), fail(std::move(fine.error())));
  std::size_t waiting = 0;
  {
    const std::lock_guard held(impl_->mutex);
    waiting = impl_->queue.size();
  }
  if (waiting >= impl_->options.queue_max)
    return impl_->answer<TxnResult>(
        std::move(done),
        fail(Errc::kExhausted, fmt::format("{} transactions wait for the store's disk already; try "
                                           "again later",
                                           waiting)));
  impl_->enqueue(TxnWork{std::move(txn), std::move(done)});
}

void SqliteStore::snapshot(std::function<void(Result<Snapshot>)> done) {
  impl_->enqueue(SnapshotWork{std::move(done)});
}

void SqliteStore::watch(std::function<void(Revision, std::span<const Event>)> on_commit) {
  impl_->loop->watchers.push_back(std::move(on_commit));
}

void SqliteStore::events_since(Revision after,
                               std::function<void(Result<std::vector<Event>>)> done) {
  impl_->enqueue(SinceWork{after, std::move(done)});
}

}  // namespace shoal::store
