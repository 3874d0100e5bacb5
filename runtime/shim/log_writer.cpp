// SPDX-License-Identifier: Apache-2.0
#include "runtime/shim/log_writer.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace shoal::runtime::shim {
namespace {

// Records gather here until a batch is full or the input is used up. One for the whole program:
// each write() ends with a flush, so that it is never shared.
char g_batch[kLogBatchBytes];
std::size_t g_batch_bytes = 0;
std::uint32_t g_batch_records = 0;

// Days since 1970-01-01 to a date of the proleptic Gregorian calendar (Hinnant, "chrono-compatible
// low-level date algorithms"). gmtime_r would pull the time zone code into the static program.
void civil(std::int64_t days, int& year, unsigned& month, unsigned& day) {
  days += 719468;
  const std::int64_t era = (days >= 0 ? days : days - 146096) / 146097;
  const auto doe = static_cast<unsigned>(days - era * 146097);
  const unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
  const unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
  const unsigned mp = (5 * doy + 2) / 153;
  day = doy - (153 * mp + 2) / 5 + 1;
  month = mp < 10 ? mp + 3 : mp - 9;
  year = static_cast<int>(static_cast<std::int64_t>(yoe) + era * 400) + (month <= 2 ? 1 : 0);
}

void digits(char* out, unsigned long value, int width) {
  for (int i = width - 1; i >= 0; --i, value /= 10)
    out[i] = static_cast<char>('0' + value % 10);
}

int make_parents(const std::string& dir) {
  for (std::size_t at = 1; at <= dir.size(); ++at)
    if ((at == dir.size() || dir[at] == '/') && ::mkdir(dir.substr(0, at).c_str(), 0755) != 0 &&
        errno != EEXIST)
      return errno;
  return 0;
}

}  // namespace

void format_log_time(std::int64_t wall_ns, char out[30]) {
  std::int64_t seconds = wall_ns / 1'000'000'000;
  std::int64_t nanos = wall_ns % 1'000'000'000;
  if (nanos < 0) {
    nanos += 1'000'000'000;
    --seconds;
  }
  std::int64_t days = seconds / 86400;
  std::int64_t in_day = seconds % 86400;
  if (in_day < 0) {
    in_day += 86400;
    --days;
  }
  int year;
  unsigned month, day;
  civil(days, year, month, day);
  std::memcpy(out, "0000-00-00T00:00:00.000000000Z", 30);
  digits(out, static_cast<unsigned long>(year), 4);
  digits(out + 5, month, 2);
  digits(out + 8, day, 2);
  digits(out + 11, static_cast<unsigned long>(in_day / 3600), 2);
  digits(out + 14, static_cast<unsigned long>(in_day / 60 % 60), 2);
  digits(out + 17, static_cast<unsigned long>(in_day % 60), 2);
  digits(out + 20, static_cast<unsigned long>(nanos), 9);
}

Result<LogWriter> LogWriter::open(std::string dir, std::uint32_t attempt,
                                  std::uint64_t file_bytes_max, std::uint32_t files_max) {
  LogWriter writer;
  writer.dir_ = std::move(dir);
  writer.attempt_ = attempt;
  writer.file_bytes_max_ = std::max(file_bytes_max, kLogFileBytesMin);
  writer.files_max_ = std::max(files_max, 2U);
  if (const int error = make_parents(writer.dir_))
    return fail_errno(error, "make log folder " + writer.dir_);
  const std::string file = writer.path(0);
  writer.file_ =
      UniqueFd(::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640));
  if (!writer.file_)
    return fail_errno("open log " + file);
  struct stat st{};
  if (::fstat(writer.file_.get(), &st) != 0)
    return fail_errno("stat log " + file);
  writer.file_bytes_ = static_cast<std::uint64_t>(st.st_size);
  return writer;
}

std::string LogWriter::path(std::uint32_t rotation) const {
  std::string path = dir_ + "/" + std::to_string(attempt_) + ".log";
  if (rotation > 0)
    path += "." + std::to_string(rotation);
  return path;
}

void LogWriter::write(Stream stream, std::string_view bytes, std::int64_t wall_ns) {
  char time[30];
  format_log_time(wall_ns, time);
  std::string& unfinished = unfinished_[static_cast<int>(stream)];
  while (!bytes.empty()) {
    const std::size_t room = kLogLineBytesMax - unfinished.size();
    const void* newline = std::memchr(bytes.data(), '\n', std::min(bytes.size(), room + 1));
    if (newline != nullptr) {
      const auto length =
          static_cast<std::size_t>(static_cast<const char*>(newline) - bytes.data());
      record(stream, false, unfinished, bytes.substr(0, length), time);
      bytes.remove_prefix(length + 1);
      // The buffer of a long line goes back: an idle shim stays small.
      std::string().swap(unfinished);
    } else if (bytes.size() > room) {
      record(stream, true, unfinished, bytes.substr(0, room), time);
      bytes.remove_prefix(room);
      unfinished.clear();
    } else {
      unfinished.append(bytes);
      bytes = {};
    }
  }
  flush();
}

void LogWriter::finish(Stream stream, std::int64_t wall_ns) {
  std::string& unfinished = unfinished_[static_cast<int>(stream)];
  if (unfinished.empty())
    return;
  char time[30];
  format_log_time(wall_ns, time);
  record(stream, false, unfinished, {}, time);
  std::string().swap(unfinished);
  flush();
}

void LogWriter::record(Stream stream, bool partial, std::string_view head, std::string_view tail,
                       const char* time) {
  if (g_batch_bytes + kLogRecordOverhead + head.size() + tail.size() > kLogBatchBytes)
    flush();
  char* out = g_batch + g_batch_bytes;
  const auto put = [&out](std::string_view text) {
    if (!text.empty())  // memcpy from a null view is undefined
      std::memcpy(out, text.data(), text.size());
    out += text.size();
  };
  put({time, 30});
  put(stream == Stream::kStdout ? " stdout " : " stderr ");
  put(partial ? "P " : "F ");
  put(head);
  put(tail);
  put("\n");
  g_batch_bytes = static_cast<std::size_t>(out - g_batch);
  ++g_batch_records;
}

void LogWriter::flush() {
  const std::size_t bytes = g_batch_bytes;
  const std::uint32_t records = g_batch_records;
  g_batch_bytes = 0;
  g_batch_records = 0;
  if (bytes == 0)
    return;
  if (file_bytes_ > 0 && file_bytes_ + bytes > file_bytes_max_ && !rotate()) {
    errors_ += records;  // appending would break the cap
    return;
  }
  std::size_t done = 0;
  while (done < bytes) {
    const ssize_t n = ::write(file_.get(), g_batch + done, bytes - done);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0) {
      errors_ += records;
      if (done > 0 && ::ftruncate(file_.get(), static_cast<off_t>(file_bytes_)) != 0)
        file_bytes_ += done;
      return;
    }
    done += static_cast<std::size_t>(n);
  }
  file_bytes_ += bytes;
}

bool LogWriter::rotate() {
  for (std::uint32_t n = files_max_ - 1; n > 0; --n)
    if (::rename(path(n - 1).c_str(), path(n).c_str()) != 0 && errno != ENOENT)
      return false;
  UniqueFd next(::open(path(0).c_str(),
                       O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640));
  if (!next) {
    // Without a new file (no inodes, say) the renamed one would grow: start it anew in place.
    if (::ftruncate(file_.get(), 0) != 0)
      return false;
  } else {
    file_ = std::move(next);
  }
  file_bytes_ = 0;
  return true;
}

}  // namespace shoal::runtime::shim
