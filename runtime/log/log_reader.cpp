// SPDX-License-Identifier: Apache-2.0
#include "runtime/log/log_reader.h"

#include "netplane/base/strings.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

namespace shoal::runtime {
namespace {

constexpr std::size_t kTimeBytes = 30;  // 2026-01-02T03:04:05.000000006Z
constexpr std::size_t kSeekBlockBytes = 64 * 1024;

Result<UniqueFd> open_log(const std::filesystem::path& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd)
    return fail_errno(fmt::format("open log {}", path.string()));
  return fd;
}

Result<std::uint64_t> inode_of(int fd) {
  struct stat st{};
  if (::fstat(fd, &st) != 0)
    return fail_errno("stat a log");
  return static_cast<std::uint64_t>(st.st_ino);
}

// The records of a file from its end to its beginning. What follows the last newline is left out:
// it is not written to its end yet.
class BackwardRecords {
public:
  struct Record {
    std::uint64_t end = 0;  // offset behind its newline
    std::string_view text;  // without the newline; lives until the next call
  };
  static Result<BackwardRecords> open(int fd) {
    const off_t size = ::lseek(fd, 0, SEEK_END);
    if (size < 0)
      return fail_errno("seek in a log");
    return BackwardRecords(fd, static_cast<std::uint64_t>(size));
  }
  // Nothing: the beginning of the file was reached.
  Result<std::optional<Record>> previous() {
    for (;;) {
      // The newline before the record that held_ ends with.
      const std::size_t newline =
          held_.size() < 2 ? std::string::npos : held_.rfind('\n', held_.size() - 2);
      const bool overlong = held_.size() > kLogRecordBytesMax;
      if (newline != std::string::npos || at_ == 0 || overlong) {
        if (held_.empty())
          return std::nullopt;
        const std::size_t begin = newline == std::string::npos ? 0 : newline + 1;
        given_.assign(held_, begin);
        held_.resize(begin);
        const std::uint64_t end = at_ + begin + given_.size();
        if (!given_.ends_with('\n'))
          continue;
        given_.pop_back();
        return Record{end, given_};
      }
      const std::size_t size = std::min<std::uint64_t>(at_, kSeekBlockBytes);
      std::string block(size, '\0');
      at_ -= size;
      if (::pread(fd_, block.data(), size, static_cast<off_t>(at_)) != static_cast<ssize_t>(size))
        return fail_errno("read a log");
      held_.insert(0, block);
    }
  }

private:
  BackwardRecords(int fd, std::uint64_t size) : fd_(fd), at_(size), held_("") {}
  int fd_;
  std::uint64_t at_;  // of held_'s beginning
  std::string held_;  // not given yet
  std::string given_;
};

// Where a file must be read from so that `lines` lines follow it to the end; those it holds are
// taken off `lines`. Nothing: its beginning does not suffice, the file before it is needed too.
Result<std::optional<std::uint64_t>> seek_tail(int fd, std::uint64_t& lines) {
  BackwardRecords records = SHOAL_TRY(BackwardRecords::open(fd));
  for (;;) {
    const auto record = SHOAL_TRY(records.previous());
    if (!record)
      return std::nullopt;
    const auto line = parse_cri_line(record->text);
    if (!line || line->partial)
      continue;
    if (lines == 0)
      return record->end;
    --lines;
  }
}

}  // namespace

std::optional<LogLine> parse_cri_line(std::string_view line) {
  // TIME STREAM TAG TEXT; the text may be empty.
  if (line.size() < kTimeBytes + sizeof(" stdout F ") - 1 || line[kTimeBytes - 1] != 'Z' ||
      line[10] != 'T' || line[kTimeBytes] != ' ' || line[4] != '-' || line[19] != '.')
    return std::nullopt;
  LogLine parsed;
  parsed.time = line.substr(0, kTimeBytes);
  for (std::size_t i = 0; i < kTimeBytes - 1; ++i)
    if (i != 4 && i != 7 && i != 10 && i != 13 && i != 16 && i != 19 &&
        (line[i] < '0' || line[i] > '9'))
      return std::nullopt;
  parsed.stream = line.substr(kTimeBytes + 1, 6);
  if ((parsed.stream != "stdout" && parsed.stream != "stderr") || line[kTimeBytes + 7] != ' ')
    return std::nullopt;
  const char tag = line[kTimeBytes + 8];
  if ((tag != 'F' && tag != 'P') || line[kTimeBytes + 9] != ' ')
    return std::nullopt;
  parsed.partial = tag == 'P';
  parsed.text = line.substr(kTimeBytes + 10);
  return parsed;
}

Result<std::vector<std::uint32_t>> list_log_attempts(const std::filesystem::path& dir) {
  std::vector<std::uint32_t> attempts;
  std::error_code error;
  std::filesystem::directory_iterator at(dir, error);
  for (const std::filesystem::directory_iterator end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (!name.ends_with(".log"))
      continue;
    if (const auto attempt =
            parse_uint(std::string_view(name).substr(0, name.size() - 4), UINT32_MAX))
      attempts.push_back(static_cast<std::uint32_t>(*attempt));
  }
  if (error && error != std::errc::no_such_file_or_directory)
    return fail_errno(error.value(), fmt::format("list logs in {}", dir.string()));
  std::ranges::sort(attempts);
  return attempts;
}

Result<> drop_old_logs(const std::filesystem::path& dir, std::uint32_t oldest_kept) {
  for (const std::uint32_t attempt : SHOAL_TRY(list_log_attempts(dir))) {
    if (attempt >= oldest_kept)
      break;
    // What became of the attempt (runtime/sandbox/container_record.h) goes with what it said.
    for (const char* suffix : {"state", "message"})
      if (const auto record = dir / fmt::format("{}.{}", attempt, suffix);
          ::unlink(record.c_str()) != 0 && errno != ENOENT)
        return fail_errno(fmt::format("delete {}", record.string()));
    // The current file goes last: while it is there, the attempt is found again.
    for (std::uint32_t n = kLogRotationsMax; n-- > 0;) {
      const auto file =
          dir / (n == 0 ? fmt::format("{}.log", attempt) : fmt::format("{}.log.{}", attempt, n));
      if (::unlink(file.c_str()) != 0 && errno != ENOENT)
        return fail_errno(fmt::format("delete log {}", file.string()));
    }
  }
  return {};
}

LogReader::LogReader(std::filesystem::path dir, std::uint32_t attempt, LogQuery query)
    : dir_(std::move(dir)), attempt_(attempt), query_(query) {
  if (query_.since)
    since_text_ = rfc3339_nano(*query_.since);
}

std::filesystem::path LogReader::rotation(std::uint32_t n) const {
  return dir_ / (n == 0 ? fmt::format("{}.log", attempt_) : fmt::format("{}.log.{}", attempt_, n));
}

Result<LogReader> LogReader::open(std::filesystem::path dir, std::uint32_t attempt,
                                  LogQuery query) {
  LogReader reader(std::move(dir), attempt, query);
  SHOAL_TRY(reader.seek_start());
  return reader;
}

// Opens the file that holds the oldest entry wanted, at that entry. All rotations are opened first:
// from then on a rotation under way cannot hide one, as an open file keeps its content.
Result<> LogReader::seek_start() {
  std::vector<UniqueFd> files;  // the newest first
  for (std::uint32_t n = 0; n < kLogRotationsMax; ++n) {
    auto fd = open_log(rotation(n));
    if (!fd && fd.error().code() != Errc::kNotFound)
      return fail(std::move(fd).error());
    if (!fd && n > 0)
      break;
    if (fd)
      files.push_back(std::move(*fd));
  }
  if (files.empty())
    return fail(Errc::kNotFound, fmt::format("no log at {}", rotation(0).string()));
  std::size_t oldest = files.size() - 1;
  if (query_.tail_lines) {
    std::uint64_t lines = *query_.tail_lines;
    for (std::size_t i = 0; i < files.size(); ++i) {
      const auto from = SHOAL_TRY(seek_tail(files[i].get(), lines));
      oldest = i;
      if (::lseek(files[i].get(), static_cast<off_t>(from.value_or(0)), SEEK_SET) < 0)
        return fail_errno("seek in a log");
      if (from)
        break;
    }
  }
  file_ = std::move(files[oldest]);
  inode_ = SHOAL_TRY(inode_of(file_.get()));
  return {};
}

// The file that was begun when the present one was rotated: one newer than where the present one is
// now. False: the present one is the newest.
Result<bool> LogReader::open_next() {
  UniqueFd newer;
  for (std::uint32_t n = 0; n < kLogRotationsMax; ++n) {
    auto fd = open_log(rotation(n));
    if (!fd && fd.error().code() == Errc::kNotFound && n == 0)
      return false;  // between rename and open of a rotation: look again later
    if (!fd && fd.error().code() == Errc::kNotFound)
      break;
    if (!fd)
      return fail(std::move(fd).error());
    const std::uint64_t inode = SHOAL_TRY(inode_of(fd->get()));
    if (inode == inode_) {
      if (!newer)
        return false;
      inode_ = SHOAL_TRY(inode_of(newer.get()));
      file_ = std::move(newer);
      return true;
    }
    newer = std::move(*fd);
  }
  // Ours is past the last rotation: what was between is lost, and the oldest there is goes on.
  if (!newer)
    return false;
  inode_ = SHOAL_TRY(inode_of(newer.get()));
  file_ = std::move(newer);
  return true;
}

Result<std::size_t> LogReader::read(std::string& out) {
  std::string buffer(kLogReadBytes, '\0');
  std::size_t taken = 0;
  while (taken == 0 && !at_limit()) {
    ssize_t n;
    do
      n = ::read(file_.get(), buffer.data(), buffer.size());
    while (n < 0 && errno == EINTR);
    if (n < 0)
      return fail_errno(fmt::format("read log {}", rotation(0).string()));
    if (n == 0) {
      // The writer may have appended between this read and a rotation: the end is sure only once it
      // was seen with the next file in place.
      const UniqueFd before(::dup(file_.get()));
      if (!SHOAL_TRY(open_next()))
        return 0;
      n = ::read(before.get(), buffer.data(), buffer.size());
      if (n > 0)
        feed({buffer.data(), static_cast<std::size_t>(n)}, out);
      if (!torn_.empty() || overlong_) {
        ++skipped_lines_;  // a rotated file ends with a whole record; this one was cut by a crash
        torn_.clear();
        overlong_ = false;
      }
      taken += static_cast<std::size_t>(std::max<ssize_t>(n, 0));
      continue;
    }
    feed({buffer.data(), static_cast<std::size_t>(n)}, out);
    taken += static_cast<std::size_t>(n);
  }
  return taken;
}

void LogReader::feed(std::string_view bytes, std::string& out) {
  while (!bytes.empty() && !at_limit()) {
    const std::size_t newline = bytes.find('\n');
    const std::string_view part = bytes.substr(0, newline);
    if (torn_.size() + part.size() > kLogRecordBytesMax)
      overlong_ = true;
    if (newline == std::string_view::npos) {
      if (overlong_)
        torn_.clear();
      else
        torn_.append(part);
      return;
    }
    if (overlong_)
      ++skipped_lines_;
    else if (torn_.empty())
      give(part, out);
    else
      give(torn_ + std::string(part), out);
    overlong_ = false;
    torn_.clear();
    bytes.remove_prefix(newline + 1);
  }
}

void LogReader::give(std::string_view record, std::string& out) {
  const auto line = parse_cri_line(record);
  if (!line) {
    ++skipped_lines_;
    return;
  }
  // Times of one width in UTC compare as text.
  if (!since_text_.empty() && line->time < since_text_)
    return;
  bool& inside = open_line_[line->stream == "stderr" ? 1 : 0];
  if (query_.timestamps && !inside) {
    append(line->time, out);
    append(" ", out);
  }
  append(line->text, out);
  if (!line->partial)
    append("\n", out);
  inside = line->partial;
}

void LogReader::append(std::string_view text, std::string& out) {
  if (query_.limit_bytes)
    text = text.substr(
        0, std::min<std::uint64_t>(text.size(), *query_.limit_bytes -
                                                    std::min(given_bytes_, *query_.limit_bytes)));
  out.append(text);
  given_bytes_ += text.size();
}

}  // namespace shoal::runtime
