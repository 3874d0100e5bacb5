// SPDX-License-Identifier: Apache-2.0
// A SqliteStore in a folder of its own, with calls that wait for their answers.
#pragma once

#include "agent/store/sqlite_store.h"
#include "tests/fakes/asio_loop.h"

#include <filesystem>
#include <gtest/gtest.h>
#include <stdlib.h>

namespace shoal::store {

class TempDir {
public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "shoal-store-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }

private:
  std::filesystem::path path_;
};

class Opened {
public:
  explicit Opened(SqliteOptions options) {
    auto opened = SqliteStore::open(std::move(options), loop.poster());
    if (opened)
      store = std::move(*opened);
    else
      error = opened.error();
  }
  Result<TxnResult> txn(Txn txn) {
    std::optional<Result<TxnResult>> answer;
    store->txn(std::move(txn), [&](Result<TxnResult> r) { answer = std::move(r); });
    EXPECT_TRUE(loop.run_until([&] { return answer.has_value(); }));
    return std::move(*answer);
  }
  Result<TxnResult> put(const std::string& key, const std::string& value) {
    return txn({{}, {{key, value}}});
  }
  Snapshot snapshot() {
    std::optional<Result<Snapshot>> answer;
    store->snapshot([&](Result<Snapshot> r) { answer = std::move(r); });
    EXPECT_TRUE(loop.run_until([&] { return answer.has_value(); }));
    EXPECT_TRUE(answer->has_value());
    return std::move(**answer);
  }
  Result<std::vector<Event>> since(Revision after) {
    std::optional<Result<std::vector<Event>>> answer;
    store->events_since(after, [&](Result<std::vector<Event>> r) { answer = std::move(r); });
    EXPECT_TRUE(loop.run_until([&] { return answer.has_value(); }));
    return std::move(*answer);
  }

  fakes::AsioLoop loop;
  std::unique_ptr<SqliteStore> store;
  std::optional<Error> error;
};

}  // namespace shoal::store
