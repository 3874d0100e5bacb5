// SPDX-License-Identifier: Apache-2.0
// SQLite handles with owners: a database, prepared statements, errors that say what was being done.
// Internal to sqlite_store.cpp. One thread at a time.
#pragma once

#include "netplane/base/result.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

namespace shoal::store {

// A prepared statement, bound and stepped; reset when it goes out of its use.
class Statement {
public:
  Statement() = default;
  explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}

  // Each use: rewind(), bind..., step() until false.
  Statement& rewind();
  Statement& bind(int index, std::string_view text);
  Statement& bind(int index, std::int64_t number);
  Statement& bind_null(int index);
  Result<bool> step();  // true: a row
  Result<> run();       // to its end, then rewound

  std::string text(int column) const;
  std::optional<std::string> text_or_null(int column) const;
  std::int64_t number(int column) const;

private:
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

class Database {
public:
  static Result<Database> open(const std::filesystem::path& path);
  Result<> exec(const char* sql);
  Result<Statement> prepare(std::string_view sql);
  Result<std::string> pragma(const char* sql);  // the first column of the first row, "" without one
  // Rolls back what is open, whatever state an error has left the handle in.
  void rollback();

private:
  struct Close {
    void operator()(sqlite3* db) const;
  };
  std::unique_ptr<sqlite3, Close> db_;
};

}  // namespace shoal::store
