// SPDX-License-Identifier: Apache-2.0
#include "runtime/image/blobs.h"

#include "netplane/base/fs.h"
#include "netplane/base/strings.h"
#include "runtime/image/reference.h"
#include "runtime/image/sha256.h"

#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

namespace shoal::runtime {

std::filesystem::path BlobDir::file(std::string_view digest) const {
  return dir_ / digest_hex(digest);
}

Result<std::uint64_t> BlobDir::size(std::string_view digest) const {
  struct stat st{};
  if (::stat(file(digest).c_str(), &st) != 0)
    return fail_errno(fmt::format("blob {}", digest));
  return static_cast<std::uint64_t>(st.st_size);
}

Result<Staging> Staging::make(const std::filesystem::path& tmp, const BlobDir& blobs) {
  std::string dir = (tmp / "load-XXXXXX").string();
  if (!::mkdtemp(dir.data()))
    return fail_errno(fmt::format("make a folder in {}", tmp.string()));
  return Staging(dir, blobs);
}

Staging::~Staging() {
  if (dir_.empty())
    return;
  std::error_code ignored;  // what stays is emptied at the next open
  std::filesystem::remove_all(dir_, ignored);
}

std::filesystem::path Staging::staged_file(std::string_view digest) const {
  return dir_ / digest_hex(digest);
}

Result<Blob> Staging::add(const std::function<Result<std::string_view>()>& next,
                          std::string_view expected, std::uint64_t bytes_max) {
  const std::filesystem::path part = dir_ / "part";
  const UniqueFd fd(::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd)
    return fail_errno(fmt::format("create {}", part.string()));
  Sha256 hash;
  Blob blob;
  for (;;) {
    const std::string_view bytes = SHOAL_TRY(next());
    if (bytes.empty())
      break;
    blob.size += bytes.size();
    if (blob.size > bytes_max)
      return fail(Errc::kExhausted, fmt::format("larger than {} bytes", bytes_max));
    hash.update(bytes);
    SHOAL_TRY_WRAP(write_all(fd.get(), bytes),
                   fmt::format("store in {}", dir_.parent_path().string()));
  }
  blob.digest = hash.digest();
  if (!expected.empty() && blob.digest != expected)
    return fail(Errc::kCorrupt,
                fmt::format("its content is {}, not the {} it is named by", blob.digest, expected));
  if (::rename(part.c_str(), staged_file(blob.digest).c_str()) != 0)
    return fail_errno(fmt::format("rename {}", part.string()));
  staged_.insert_or_assign(blob.digest, blob.size);
  has_new_ = true;
  return blob;
}

Result<> Staging::adopt(const std::filesystem::path& file, std::string_view digest,
                        std::uint64_t bytes_max) {
  const UniqueFd fd(::open(file.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd)
    return fail_errno(fmt::format("open {}", file.string()));
  FdSource source(fd.get());
  Sha256 hash;
  std::uint64_t size = 0;
  for (;;) {
    const std::string_view bytes = SHOAL_TRY(source.next());
    if (bytes.empty())
      break;
    size += bytes.size();
    if (size > bytes_max)
      return fail(Errc::kExhausted, fmt::format("larger than {} bytes", bytes_max));
    hash.update(bytes);
  }
  if (const std::string found = hash.digest(); found != digest)
    return fail(Errc::kCorrupt,
                fmt::format("its content is {}, not the {} it is named by", found, digest));
  if (::link(file.c_str(), staged_file(digest).c_str()) != 0)
    return fail_errno(fmt::format("link {}", file.string()));
  staged_.insert_or_assign(std::string(digest), size);
  has_new_ = true;
  return {};
}

bool Staging::take(std::string_view digest) {
  if (staged_.contains(digest))
    return true;
  const auto size = blobs_->size(digest);
  if (!size || ::link(blobs_->file(digest).c_str(), staged_file(digest).c_str()) != 0)
    return false;
  staged_.emplace(digest, *size);
  return true;
}

Result<std::uint64_t> Staging::size(std::string_view digest) const {
  if (const auto it = staged_.find(digest); it != staged_.end())
    return it->second;
  return blobs_->size(digest);
}

Result<UniqueFd> Staging::open(std::string_view digest) const {
  const std::filesystem::path path =
      staged_.contains(digest) ? staged_file(digest) : blobs_->file(digest);
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd)
    return fail_errno(fmt::format("blob {}", digest));
  return fd;
}

Result<std::string> Staging::read(const Descriptor& descriptor, std::size_t bytes_max) const {
  const std::string_view digest = descriptor.digest;
  const std::filesystem::path path =
      staged_.contains(digest) ? staged_file(digest) : blobs_->file(digest);
  std::string text =
      SHOAL_TRY_WRAP(shoal::read_file(path, bytes_max), fmt::format("blob {}", digest));
  if (sha256_digest(text) != digest)
    return fail(
        Errc::kCorrupt,
        fmt::format("blob {} is damaged on disk: remove the image and load it again", digest));
  if (descriptor.size != text.size())
    return fail(Errc::kCorrupt, fmt::format("blob {} has {} bytes, its descriptor says {}", digest,
                                            text.size(), descriptor.size));
  return text;
}

Result<> Staging::commit(std::string_view digest) {
  const auto it = staged_.find(digest);
  if (it == staged_.end())
    return {};
  // Of one that was linked here and is still stored, the rename leaves both names; this one goes
  // with the folder.
  if (::rename(staged_file(digest).c_str(), blobs_->file(digest).c_str()) != 0)
    return fail_errno(fmt::format("rename blob {}", digest));
  staged_.erase(it);
  return {};
}

}  // namespace shoal::runtime
