// SPDX-License-Identifier: Apache-2.0
#include "runtime/image/archive_source.h"

#include "netplane/base/fs.h"
#include "netplane/base/strings.h"
#include "runtime/image/reference.h"
#include "runtime/image/stream.h"
#include "runtime/image/tree.h"

#include <archive.h>
#include <archive_entry.h>
#include <cerrno>
#include <fcntl.h>
#include <fmt/format.h>
#include <system_error>
#include <unistd.h>

namespace shoal::runtime {
namespace {

constexpr std::string_view kBlobFolder = "blobs/sha256/";
constexpr std::uint64_t kPaddingBytesMax = 64 << 20;

std::string joined(const std::vector<std::string>& parts) {
  return fmt::format("{}", fmt::join(parts, "/"));
}

// "sha256:..." for a path below blobs/sha256, else "".
std::string digest_of_path(const std::string& path) {
  if (!path.starts_with(kBlobFolder))
    return {};
  std::string digest = "sha256:" + path.substr(kBlobFolder.size());
  return is_sha256_digest(digest) ? digest : std::string();
}

class ArchiveReading {
public:
  ArchiveReading(ByteSource& plain, Staging& staging, const StoreLimits& limits)
      : tar_(plain), staging_(staging), limits_(limits) {}

  Result<ArchiveContent> run() {
    std::uint64_t entries = 0;
    while (archive_entry* entry = SHOAL_TRY(tar_.next())) {
      if (++entries > limits_.archive_entries_max)
        return fail(Errc::kExhausted, fmt::format("the archive has more than {} entries",
                                                  limits_.archive_entries_max));
      const char* name = archive_entry_pathname(entry);
      if (!name)
        return fail(Errc::kInvalid, "an entry's name cannot be read");
      const std::string path = joined(SHOAL_TRY(entry_components(name)));
      auto taken = take(entry, path);
      if (!taken)
        return fail(
            std::move(taken).error().wrap(fmt::format("entry \"{}\"", printable(path, 200))));
    }
    return std::move(content_);
  }

private:
  Result<> take(archive_entry* entry, const std::string& path) {
    if (const char* target = archive_entry_symlink(entry))
      return take_link(path, target);
    if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry))
      return {};
    if (path == "oci-layout")
      return take_document(content_.layout);
    if (path == "index.json")
      return take_document(content_.index);
    if (path == "manifest.json")
      return take_document(content_.docker_manifest);
    const std::string digest = digest_of_path(path);
    // Docker's own archives name a config and layers by any path.
    const bool docker_file = digest.empty() && (path.ends_with(".json") || path.ends_with(".tar"));
    if (digest.empty() && !docker_file)
      return {};
    if (!digest.empty() && staging_.take(digest)) {
      content_.files.emplace(path, Blob{digest, SHOAL_TRY(staging_.size(digest))});
      return {};
    }
    const Blob blob =
        SHOAL_TRY(staging_.add([this] { return bytes(); }, digest, limits_.blob_bytes_max));
    content_.files.insert_or_assign(path, blob);
    return {};
  }

  // Old `docker save` archives hold a repeated layer as a symlink: "../<id>/layer.tar".
  Result<> take_link(const std::string& path, std::string_view target) {
    if (!path.ends_with(".tar"))
      return {};
    const auto slash = path.rfind('/');
    std::string from = slash == std::string::npos ? "" : path.substr(0, slash);
    while (target.starts_with("../") && !from.empty()) {
      target.remove_prefix(3);
      const auto up = from.rfind('/');
      from = up == std::string::npos ? "" : from.substr(0, up);
    }
    const std::string resolved =
        from.empty() ? std::string(target) : fmt::format("{}/{}", from, target);
    content_.links.insert_or_assign(path, joined(SHOAL_TRY(entry_components(resolved))));
    return {};
  }

  Result<> take_document(std::optional<std::string>& into) {
    std::string text;
    for (;;) {
      const std::string_view chunk = SHOAL_TRY(bytes());
      if (chunk.empty())
        break;
      if (text.size() + chunk.size() > limits_.json_bytes_max)
        return fail(Errc::kExhausted, fmt::format("larger than {} bytes", limits_.json_bytes_max));
      text += chunk;
    }
    into = std::move(text);
    return {};
  }

  // The present entry's next bytes; empty at its end.
  Result<std::string_view> bytes() {
    TarReader::Block block;
    do {
      if (!SHOAL_TRY(tar_.read(block))) {
        expected_offset_ = 0;
        return std::string_view();
      }
      if (block.offset != expected_offset_)
        return fail(Errc::kUnsupported, "a sparse file in an image archive");
    } while (block.bytes.empty());
    expected_offset_ += block.bytes.size();
    total_ += block.bytes.size();
    if (total_ > limits_.archive_bytes_max)
      return fail(Errc::kExhausted,
                  fmt::format("the archive holds more than {} bytes", limits_.archive_bytes_max));
    return block.bytes;
  }

  TarReader tar_;
  Staging& staging_;
  const StoreLimits& limits_;
  ArchiveContent content_;
  std::uint64_t expected_offset_ = 0;
  std::uint64_t total_ = 0;
};

Result<std::optional<std::string>> read_optional(const std::filesystem::path& path,
                                                 std::size_t bytes_max) {
  auto text = read_file(path, bytes_max);
  if (text)
    return std::optional(std::move(*text));
  if (text.error().code() == Errc::kNotFound)
    return std::optional<std::string>();
  return fail(std::move(text).error());
}

}  // namespace

Result<ArchiveContent> read_archive(int fd, Staging& staging, const StoreLimits& limits) {
  const Utf8Locale locale;
  FdSource file(fd);
  Decompressor plain(file);
  ArchiveContent content;
  {
    ArchiveReading reading(plain, staging, limits);
    content = SHOAL_TRY(reading.run());
  }
  // A tar is padded behind its end marker: a sender on a pipe must get rid of that too.
  for (std::uint64_t rest = 0; rest < kPaddingBytesMax;) {
    const std::string_view padding = SHOAL_TRY(plain.next());
    if (padding.empty())
      break;
    rest += padding.size();
  }
  return content;
}

Result<ArchiveContent> read_layout_folder(const std::filesystem::path& dir, Staging& staging,
                                          const StoreLimits& limits, bool ours) {
  ArchiveContent content;
  content.layout = SHOAL_TRY(read_optional(dir / "oci-layout", limits.json_bytes_max));
  content.index = SHOAL_TRY(read_optional(dir / "index.json", limits.json_bytes_max));
  std::error_code ec;
  std::uint64_t entries = 0;
  for (auto it = std::filesystem::directory_iterator(dir / kBlobFolder, ec);
       !ec && it != std::filesystem::directory_iterator(); it.increment(ec)) {
    const std::string digest =
        digest_of_path(std::string(kBlobFolder) + it->path().filename().string());
    if (++entries > limits.archive_entries_max)
      return fail(Errc::kExhausted,
                  fmt::format("the layout has more than {} blobs", limits.archive_entries_max));
    if (digest.empty() || staging.take(digest))
      continue;
    if (ours) {
      SHOAL_TRY_WRAP(staging.adopt(it->path(), digest, limits.blob_bytes_max), it->path().string());
      continue;
    }
    const UniqueFd fd(::open(it->path().c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!fd)
      return fail_errno(fmt::format("open {}", it->path().string()));
    FdSource file(fd.get());
    SHOAL_TRY_WRAP(staging.add([&file] { return file.next(); }, digest, limits.blob_bytes_max),
                   it->path().string());
  }
  if (ec)
    return fail_errno(ec.value(), fmt::format("read {}", (dir / kBlobFolder).string()));
  return content;
}

}  // namespace shoal::runtime
