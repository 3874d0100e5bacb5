// SPDX-License-Identifier: Apache-2.0
// The SQLite engine of the store contract (store.h): one file, one process, one worker thread.
//
// Durability: WAL with synchronous=FULL; a transaction is acknowledged after the commit that holds
// it is on the disk. Queued transactions may share one SQLite commit (group commit), each still a
// revision of its own. The event log keeps the last `log_events_max` changes at least; older ones
// are compacted away. Full disk: kExhausted, nothing of the transaction is written, and the store
// goes on when there is room again. At open: application_id, schema version and PRAGMA quick_check;
// kCorrupt says what to do, and no repair is tried. A second process on the same file is refused
// with kConflict (a lock file beside it names the pid).
//
// Threading: as the contract says; `post` carries work to the loop thread and may be called from
// the worker. The destructor finishes what is queued; no callback runs after it.
#pragma once

#include "agent/store/store.h"

#include <filesystem>
#include <memory>

namespace shoal::store {

struct SqliteOptions {
  std::filesystem::path path;
  std::size_t log_events_max = 10'000;
  std::size_t queue_max = 1024;       // transactions waiting; more are refused with kExhausted
  std::size_t group_commit_max = 64;  // transactions in one SQLite commit
};

class SqliteStore final : public Store {
public:
  using Post = std::function<void(std::function<void()>)>;
  static Result<std::unique_ptr<SqliteStore>> open(SqliteOptions options, Post post);
  ~SqliteStore() override;

  void txn(Txn txn, std::function<void(Result<TxnResult>)> done) override;
  void snapshot(std::function<void(Result<Snapshot>)> done) override;
  void watch(std::function<void(Revision, std::span<const Event>)> on_commit) override;

  // The changes after a revision, in order; kNotFound when some of them are compacted away (take a
  // snapshot then).
  void events_since(Revision after, std::function<void(Result<std::vector<Event>>)> done);

private:
  struct Impl;
  explicit SqliteStore(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace shoal::store
