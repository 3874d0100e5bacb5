// SPDX-License-Identifier: Apache-2.0
#include "agent/store/sqlite_db.h"

#include <cerrno>
#include <fmt/format.h>
#include <sqlite3.h>

namespace shoal::store {
namespace {

Errc code_of(int extended, int sys_errno) {
  if (sys_errno == ENOSPC || sys_errno == EDQUOT)
    return Errc::kExhausted;
  switch (extended & 0xff) {
  case SQLITE_FULL:
  case SQLITE_NOMEM:
    return Errc::kExhausted;
  case SQLITE_CORRUPT:
  case SQLITE_NOTADB:
    return Errc::kCorrupt;
  case SQLITE_BUSY:
  case SQLITE_LOCKED:
    return Errc::kConflict;
  case SQLITE_PERM:
  case SQLITE_READONLY:
  case SQLITE_AUTH:
    return Errc::kPermission;
  case SQLITE_CANTOPEN:
  case SQLITE_IOERR:
    return Errc::kIo;
  default:
    return Errc::kInternal;
  }
}

Error error_of(sqlite3* db, std::string_view what) {
  const int extended = db ? sqlite3_extended_errcode(db) : SQLITE_NOMEM;
  // The errno of the last failed call stays behind on success: it only means something with an I/O
  // error.
  const int primary = extended & 0xff;
  const int sys_errno =
      db && (primary == SQLITE_IOERR || primary == SQLITE_CANTOPEN) ? sqlite3_system_errno(db) : 0;
  return Error(
      code_of(extended, sys_errno),
      fmt::format("{}: {} (sqlite {})", what, db ? sqlite3_errmsg(db) : "out of memory", extended),
      sys_errno);
}

}  // namespace

void Statement::Finalize::operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
void Database::Close::operator()(sqlite3* db) const { sqlite3_close_v2(db); }

Statement& Statement::rewind() {
  sqlite3_reset(statement_.get());
  return *this;
}

// Binding fails only on a wrong index or a value beyond SQLite's limits, far above ours: a bug.
Statement& Statement::bind(int index, std::string_view text) {
  SHOAL_ASSERT(sqlite3_bind_text64(statement_.get(), index, text.data() ? text.data() : "",
                                   text.size(), SQLITE_TRANSIENT, SQLITE_UTF8) == SQLITE_OK);
  return *this;
}

Statement& Statement::bind(int index, std::int64_t number) {
  SHOAL_ASSERT(sqlite3_bind_int64(statement_.get(), index, number) == SQLITE_OK);
  return *this;
}

Statement& Statement::bind_null(int index) {
  SHOAL_ASSERT(sqlite3_bind_null(statement_.get(), index) == SQLITE_OK);
  return *this;
}

Result<bool> Statement::step() {
  switch (sqlite3_step(statement_.get())) {
  case SQLITE_ROW:
    return true;
  case SQLITE_DONE:
    return false;
  default: {
    Error error = error_of(sqlite3_db_handle(statement_.get()), sqlite3_sql(statement_.get()));
    sqlite3_reset(statement_.get());
    return fail(std::move(error));
  }
  }
}

Result<> Statement::run() {
  while (SHOAL_TRY(step())) {
  }
  rewind();
  return {};
}

std::string Statement::text(int column) const {
  const auto* bytes = reinterpret_cast<const char*>(sqlite3_column_text(statement_.get(), column));
  const int size = sqlite3_column_bytes(statement_.get(), column);
  return bytes ? std::string(bytes, static_cast<std::size_t>(size)) : std::string();
}

std::optional<std::string> Statement::text_or_null(int column) const {
  if (sqlite3_column_type(statement_.get(), column) == SQLITE_NULL)
    return std::nullopt;
  return text(column);
}

std::int64_t Statement::number(int column) const {
  return sqlite3_column_int64(statement_.get(), column);
}

Result<Database> Database::open(const std::filesystem::path& path) {
  sqlite3* raw = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &raw,
                                   SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
                                       SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
                                   nullptr);
  Database database;
  database.db_.reset(raw);
  if (code != SQLITE_OK)
    return fail(error_of(raw, "open"));
  return database;
}

Result<> Database::exec(const char* sql) {
  if (sqlite3_exec(db_.get(), sql, nullptr, nullptr, nullptr) != SQLITE_OK)
    return fail(error_of(db_.get(), sql));
  return {};
}

Result<Statement> Database::prepare(std::string_view sql) {
  sqlite3_stmt* raw = nullptr;
  if (sqlite3_prepare_v3(db_.get(), sql.data(), static_cast<int>(sql.size()),
                         SQLITE_PREPARE_PERSISTENT, &raw, nullptr) != SQLITE_OK)
    return fail(error_of(db_.get(), sql));
  return Statement(raw);
}

Result<std::string> Database::pragma(const char* sql) {
  Statement statement = SHOAL_TRY(prepare(sql));
  if (!SHOAL_TRY(statement.step()))
    return std::string();
  return statement.text(0);
}

void Database::rollback() {
  // Some errors have rolled back already; then there is nothing to do and an error would mean
  // nothing.
  if (!sqlite3_get_autocommit(db_.get()))
    sqlite3_exec(db_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
}

}  // namespace shoal::store
