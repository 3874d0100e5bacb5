// SPDX-License-Identifier: Apache-2.0
// Content-addressed files: the store's blobs, and the unfinished ones of one load beside them.
// A blob is hashed while it is written and has its final name only when its load is committed.
// What the store holds already is linked into the load, so that it cannot go before the load is
// done.
#pragma once

#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"
#include "runtime/image/manifest.h"
#include "runtime/image/stream.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>

namespace shoal::runtime {

struct Blob {
  std::string digest;
  std::uint64_t size = 0;
};

class BlobDir {
public:
  explicit BlobDir(std::filesystem::path dir) : dir_(std::move(dir)) {}  // .../blobs/sha256
  const std::filesystem::path& dir() const { return dir_; }
  std::filesystem::path file(std::string_view digest) const;
  Result<std::uint64_t> size(std::string_view digest) const;  // kNotFound when it is not there

private:
  std::filesystem::path dir_;
};

// The blobs of one load. What was not committed is deleted with it.
class Staging {
public:
  // Makes a folder below `tmp`.
  static Result<Staging> make(const std::filesystem::path& tmp, const BlobDir& blobs);
  Staging(Staging&& other) noexcept
      : dir_(std::exchange(other.dir_, {})), blobs_(other.blobs_),
        staged_(std::move(other.staged_)), has_new_(other.has_new_) {}
  Staging& operator=(Staging&&) = delete;
  ~Staging();

  // Reads `next` to its empty end. `expected`: the digest the bytes must have; empty: any.
  Result<Blob> add(const std::function<Result<std::string_view>()>& next, std::string_view expected,
                   std::uint64_t bytes_max);
  // A file that nobody changes any more: checked, and linked here instead of copied.
  Result<> adopt(const std::filesystem::path& file, std::string_view digest,
                 std::uint64_t bytes_max);
  // Staged, or stored and by this call part of the load.
  bool take(std::string_view digest);
  Result<std::uint64_t> size(std::string_view digest) const;
  Result<UniqueFd> open(std::string_view digest) const;
  // A small document, checked against its descriptor.
  Result<std::string> read(const Descriptor& descriptor, std::size_t bytes_max) const;

  // Gives a staged blob its final name. One that is stored already is fine.
  Result<> commit(std::string_view digest);
  bool has_new() const { return has_new_; }  // bytes that may not be on disk yet

private:
  Staging(std::filesystem::path dir, const BlobDir& blobs) : dir_(std::move(dir)), blobs_(&blobs) {}
  std::filesystem::path staged_file(std::string_view digest) const;

  std::filesystem::path dir_;  // empty after a move
  const BlobDir* blobs_;
  std::map<std::string, std::uint64_t, std::less<>> staged_;  // digest -> size
  bool has_new_ = false;
};

}  // namespace shoal::runtime
