// SPDX-License-Identifier: Apache-2.0
#include "runtime/image/stream.h"

#include "netplane/base/strings.h"

#include <archive.h>
#include <archive_entry.h>
#include <cerrno>
#include <clocale>
#include <fmt/format.h>
#include <locale.h>
#include <unistd.h>

namespace shoal::runtime {
namespace {

// libarchive's own words, unless our source failed underneath it: then its error is the cause.
Error archive_error(archive* a, std::string_view what, Result<>& source) {
  if (!source)
    return std::move(source).error();
  const char* text = archive_error_string(a);
  return Error(Errc::kCorrupt,
               fmt::format("{}: {}", what, printable(text ? text : "unknown error", 200)));
}

}  // namespace

Result<std::string_view> FdSource::next() {
  for (;;) {
    const ssize_t n = ::read(fd_, buffer_.data(), buffer_.size());
    if (n >= 0)
      return std::string_view(buffer_.data(), static_cast<std::size_t>(n));
    if (errno != EINTR)
      return fail_errno("read");
  }
}

struct Decompressor::Feed {
  ByteSource& from;
  Result<> state{};
};

Decompressor::Decompressor(ByteSource& from)
    : feed_(new Feed{from}), archive_(archive_read_new()), buffer_(256 << 10) {
  SHOAL_ASSERT(archive_);
  archive_read_support_filter_none(archive_);
  archive_read_support_filter_gzip(archive_);
  archive_read_support_filter_zstd(archive_);
  archive_read_support_format_empty(archive_);
  archive_read_support_format_raw(archive_);
}

Decompressor::~Decompressor() {
  archive_read_free(archive_);
  delete feed_;
}

long Decompressor::read_callback(archive*, void* data, const void** out) {
  auto* feed = static_cast<Feed*>(data);
  auto bytes = feed->from.next();
  if (!bytes) {
    feed->state = fail(std::move(bytes).error());
    return ARCHIVE_FATAL;
  }
  *out = bytes->data();
  return static_cast<long>(bytes->size());
}

Result<> Decompressor::begin() {
  begun_ = true;
  archive_entry* entry = nullptr;
  if (archive_read_open(archive_, feed_, nullptr, &Decompressor::read_callback, nullptr) !=
      ARCHIVE_OK)
    return fail(archive_error(archive_, "open", feed_->state));
  const int rc = archive_read_next_header(archive_, &entry);
  ended_ = rc == ARCHIVE_EOF;
  if (rc != ARCHIVE_OK && rc != ARCHIVE_EOF)
    return fail(archive_error(archive_, "decompress", feed_->state));
  return {};
}

Result<std::string_view> Decompressor::next() {
  if (!begun_)
    SHOAL_TRY(begin());
  if (ended_)
    return std::string_view();
  const la_ssize_t n = archive_read_data(archive_, buffer_.data(), buffer_.size());
  if (n < 0)
    return fail(archive_error(archive_, "decompress", feed_->state));
  ended_ = n == 0;
  return std::string_view(buffer_.data(), static_cast<std::size_t>(n));
}

struct TarReader::Feed {
  ByteSource& from;
  Result<> state{};
};

TarReader::TarReader(ByteSource& from) : feed_(new Feed{from}), archive_(archive_read_new()) {
  SHOAL_ASSERT(archive_);
  archive_read_support_filter_none(archive_);
  archive_read_support_format_empty(archive_);
  archive_read_support_format_tar(archive_);
}

TarReader::~TarReader() {
  archive_read_free(archive_);
  delete feed_;
}

long TarReader::read_callback(archive*, void* data, const void** out) {
  auto* feed = static_cast<Feed*>(data);
  auto bytes = feed->from.next();
  if (!bytes) {
    feed->state = fail(std::move(bytes).error());
    return ARCHIVE_FATAL;
  }
  *out = bytes->data();
  return static_cast<long>(bytes->size());
}

Result<archive_entry*> TarReader::next() {
  if (!open_) {
    if (archive_read_open(archive_, feed_, nullptr, &TarReader::read_callback, nullptr) !=
        ARCHIVE_OK)
      return fail(archive_error(archive_, "open tar", feed_->state));
    open_ = true;
  }
  archive_entry* entry = nullptr;
  const int rc = archive_read_next_header(archive_, &entry);
  if (rc == ARCHIVE_EOF)
    return nullptr;
  // A warning is about an attribute that could not be read; the entry itself is whole.
  if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN)
    return fail(archive_error(archive_, "read tar", feed_->state));
  return entry;
}

Result<bool> TarReader::read(Block& block) {
  const void* data = nullptr;
  std::size_t size = 0;
  la_int64_t offset = 0;
  const int rc = archive_read_data_block(archive_, &data, &size, &offset);
  if (rc == ARCHIVE_EOF)
    return false;
  if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN)
    return fail(archive_error(archive_, "read tar", feed_->state));
  if (offset < 0)
    return fail(Errc::kCorrupt, "read tar: a block before the start of its file");
  block.bytes = std::string_view(static_cast<const char*>(data), size);
  block.offset = static_cast<std::uint64_t>(offset);
  return true;
}

Utf8Locale::Utf8Locale() {
  const locale_t made = ::newlocale(LC_CTYPE_MASK, "C.UTF-8", static_cast<locale_t>(nullptr));
  if (!made)
    return;
  made_ = made;
  previous_ = ::uselocale(made);
}

Utf8Locale::~Utf8Locale() {
  if (!made_)
    return;
  ::uselocale(static_cast<locale_t>(previous_));
  ::freelocale(static_cast<locale_t>(made_));
}

}  // namespace shoal::runtime
