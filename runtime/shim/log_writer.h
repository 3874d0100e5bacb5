// SPDX-License-Identifier: Apache-2.0
// LogWriter: the output of one container's attempt as CRI log lines in `<dir>/<attempt>.log`:
//   2026-01-02T03:04:05.000000006Z stdout F text
// A line longer than kLogLineBytesMax is cut into P records with an F record at its end. An
// unfinished line is kept until its newline comes or the stream ends.
//
// Rotation happens at write time, so the cap holds whatever the container does: the file never
// grows above file_bytes_max, and files_max files are kept (.log, .log.1 the newest rotated one,
// ...). A write that fails (a full disk) drops the records and counts them; the file is cut back to
// its last whole record. The container never waits for a failing disk. One thread. Part of the
// static shim: no fmt, no iostream.
#pragma once

#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace shoal::runtime::shim {

inline constexpr std::size_t kLogLineBytesMax = 16 * 1024;
inline constexpr std::size_t kLogBatchBytes = 64 * 1024;
inline constexpr std::uint64_t kLogFileBytesMin = 2 * kLogBatchBytes;
inline constexpr std::size_t kLogRecordOverhead = 48;  // time, stream, tag, newline
static_assert(kLogLineBytesMax + kLogRecordOverhead <= kLogBatchBytes);

enum class Stream : std::uint8_t { kStdout = 0, kStderr = 1 };

// "2026-01-02T03:04:05.000000006Z" into out, which holds 30 bytes.
void format_log_time(std::int64_t wall_ns, char out[30]);

class LogWriter {
public:
  // Makes the folder; limits below the minimum (kLogFileBytesMin, 2 files) are raised to it.
  static Result<LogWriter> open(std::string dir, std::uint32_t attempt,
                                std::uint64_t file_bytes_max, std::uint32_t files_max);

  void write(Stream stream, std::string_view bytes, std::int64_t wall_ns);
  // The stream has ended: an unfinished line is written as it is.
  void finish(Stream stream, std::int64_t wall_ns);
  std::uint64_t errors() const { return errors_; }

private:
  LogWriter() = default;
  void record(Stream stream, bool partial, std::string_view head, std::string_view tail,
              const char* time);
  void flush();
  bool rotate();
  std::string path(std::uint32_t rotation) const;

  std::string dir_;
  std::uint32_t attempt_ = 0;
  std::uint64_t file_bytes_max_ = 0;
  std::uint32_t files_max_ = 0;
  UniqueFd file_;
  std::uint64_t file_bytes_ = 0;
  std::uint64_t errors_ = 0;
  std::string unfinished_[2];
};

}  // namespace shoal::runtime::shim
