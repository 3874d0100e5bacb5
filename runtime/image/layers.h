// SPDX-License-Identifier: Apache-2.0
// LayerDir: unpacked layers, each a folder named by the hex of its diff id. A folder with such a
// name is whole and never changes; work in progress is called .tmp-*.
#pragma once

#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"
#include "runtime/image/unpack.h"

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace shoal::runtime {

class LayerDir {
public:
  // Makes the folder where missing and empties what is unfinished in it.
  static Result<LayerDir> open(const std::filesystem::path& dir);

  const std::filesystem::path& dir() const { return dir_; }
  std::filesystem::path path(std::string_view diff_id) const;
  bool holds(std::string_view diff_id) const;

  // A layer being unpacked under a temporary name; deleted unless committed.
  class Pending {
  public:
    Pending(Pending&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), name_(std::move(other.name_)),
          diff_id_(std::move(other.diff_id_)) {}
    Pending& operator=(Pending&&) = delete;
    ~Pending();

  private:
    friend class LayerDir;
    Pending(const LayerDir* owner, std::string name, std::string diff_id)
        : owner_(owner), name_(std::move(name)), diff_id_(std::move(diff_id)) {}
    const LayerDir* owner_;
    std::string name_;
    std::string diff_id_;
  };
  Result<Pending> unpack(int blob_fd, std::string_view diff_id, const UnpackLimits& limits) const;
  // Writes everything of the file system to disk.
  Result<> sync() const;
  Result<> commit(Pending pending) const;

  // All layers but those in keep lose their names, at once; what they are called now is put into
  // `detached`, for erase().
  Result<> detach(const std::set<std::string>& keep, std::vector<std::string>& detached) const;
  // Deletes what was detached; this may take its time. Returns the bytes of disk that came free.
  Result<std::uint64_t> erase(const std::vector<std::string>& detached) const;

private:
  LayerDir(std::filesystem::path dir, UniqueFd fd) : dir_(std::move(dir)), fd_(std::move(fd)) {}
  Result<std::vector<std::string>> names() const;

  std::filesystem::path dir_;
  UniqueFd fd_;
};

}  // namespace shoal::runtime
