// SPDX-License-Identifier: Apache-2.0
// Reading untrusted compressed streams and tar archives through libarchive: RAII, errors as Result,
// only the formats that images use (tar; gzip, zstd or nothing around it). One thread at a time.
#pragma once

#include "netplane/base/result.h"

#include <cstdint>
#include <string_view>
#include <vector>

struct archive;
struct archive_entry;

namespace shoal::runtime {

// A place bytes come from. Empty: the end. The view lives until the next call.
class ByteSource {
public:
  virtual ~ByteSource() = default;
  virtual Result<std::string_view> next() = 0;
};

class FdSource final : public ByteSource {
public:
  explicit FdSource(int fd) : fd_(fd), buffer_(kBufferBytes) {}  // the fd stays the caller's
  Result<std::string_view> next() override;

private:
  static constexpr std::size_t kBufferBytes = 256 << 10;
  int fd_;
  std::vector<char> buffer_;
};

// Whatever `from` holds, without its gzip or zstd.
class Decompressor final : public ByteSource {
public:
  explicit Decompressor(ByteSource& from);
  ~Decompressor() override;
  Result<std::string_view> next() override;

private:
  struct Feed;
  static long read_callback(archive*, void* feed, const void** out);
  Result<> begin();

  Feed* feed_;
  archive* archive_;
  std::vector<char> buffer_;
  bool begun_ = false;
  bool ended_ = false;
};

// The entries of a plain tar (ustar, pax, GNU).
class TarReader {
public:
  explicit TarReader(ByteSource& from);
  ~TarReader();
  TarReader(const TarReader&) = delete;
  TarReader& operator=(const TarReader&) = delete;

  Result<archive_entry*> next();  // nullptr: the end. The entry lives until the next call
  // The present entry's content, block by block; holes are skipped. False: the end.
  struct Block {
    std::string_view bytes;
    std::uint64_t offset = 0;
  };
  Result<bool> read(Block& block);

private:
  struct Feed;
  static long read_callback(archive*, void* feed, const void** out);

  Feed* feed_;
  archive* archive_;
  bool open_ = false;
};

// While it lives, the calling thread converts names as UTF-8: libarchive gives no name at all for a
// non-ASCII pax path under the C locale, which is what a daemon runs with.
class Utf8Locale {
public:
  Utf8Locale();
  ~Utf8Locale();
  Utf8Locale(const Utf8Locale&) = delete;
  Utf8Locale& operator=(const Utf8Locale&) = delete;

private:
  void* made_ = nullptr;
  void* previous_ = nullptr;
};

}  // namespace shoal::runtime
