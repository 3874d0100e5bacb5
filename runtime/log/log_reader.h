// SPDX-License-Identifier: Apache-2.0
// LogReader: reads what a shim wrote: CRI log lines "<RFC 3339 nano> stdout|stderr F|P <text>" in
// `<dir>/<attempt>.log`, rotated to .log.1 (the newest rotated one), .log.2, ...
//
// It reads from the oldest entry wanted to the end, over rotations, and goes on from there when
// called again: a follower waits (inotify or a timer) and calls read() anew. A line is given out
// once it is whole; a torn or foreign line is counted and skipped. Partial lines (P) are joined
// with their successors of the same stream. A file that is rotated under the reader is read to its
// end first: it is told by its inode. Not thread-safe. IO is bounded a call.
#pragma once

#include "netplane/base/clock.h"
#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::runtime {

struct LogLine {
  std::string_view time;    // as written: RFC 3339, nine digits, UTC
  std::string_view stream;  // "stdout" or "stderr"
  bool partial = false;
  std::string_view text;  // without the newline
};
// Nothing when it is not a CRI line. `line` has no newline.
std::optional<LogLine> parse_cri_line(std::string_view line);

struct LogQuery {
  std::optional<std::uint64_t> tail_lines;   // the last n lines only; 0: only what follows
  std::optional<WallTime> since;             // entries at or after
  bool timestamps = false;                   // each line begins with its time and a blank
  std::optional<std::uint64_t> limit_bytes;  // then at_limit()
};

inline constexpr std::size_t kLogReadBytes = 256 * 1024;  // of a file, a call
inline constexpr std::size_t kLogRecordBytesMax =
    64 * 1024;  // a line of the file; the shim writes 16 KiB at most
inline constexpr std::uint32_t kLogRotationsMax = 64;

// The attempts that have a log, ascending: the last one is the present, the one before it
// `--previous`.
Result<std::vector<std::uint32_t>> list_log_attempts(const std::filesystem::path& dir);
// Deletes the logs and records of attempts before `oldest_kept`: a container that crashes for ever
// keeps a bounded number of files.
Result<> drop_old_logs(const std::filesystem::path& dir, std::uint32_t oldest_kept);

class LogReader {
public:
  // kNotFound when that attempt has no log.
  static Result<LogReader> open(std::filesystem::path dir, std::uint32_t attempt, LogQuery query);

  // Appends text as `kubectl logs` prints it. How many bytes of the files were taken; 0: the end,
  // for now.
  Result<std::size_t> read(std::string& out);
  bool at_limit() const { return query_.limit_bytes && given_bytes_ >= *query_.limit_bytes; }
  std::uint64_t skipped_lines() const { return skipped_lines_; }

private:
  LogReader(std::filesystem::path dir, std::uint32_t attempt, LogQuery query);
  std::filesystem::path rotation(std::uint32_t n) const;  // 0: the current file
  Result<> seek_start();
  Result<bool> open_next();
  void feed(std::string_view bytes, std::string& out);
  void give(std::string_view record, std::string& out);
  void append(std::string_view text, std::string& out);

  std::filesystem::path dir_;
  std::uint32_t attempt_;
  LogQuery query_;
  std::string since_text_;
  UniqueFd file_;
  std::uint64_t inode_ = 0;
  std::string torn_;        // the beginning of a record whose end is not written yet
  bool overlong_ = false;   // torn_ was too long: skip to the next newline
  bool open_line_[2] = {};  // stdout, stderr: inside a line that began with P
  std::uint64_t given_bytes_ = 0;
  std::uint64_t skipped_lines_ = 0;
};

}  // namespace shoal::runtime
