// SPDX-License-Identifier: Apache-2.0
// A volume's folder: what it takes of the disk, and whose it is. Programs may change what is below
// while it is looked at, so that nothing here follows a link. Blocking.
#pragma once

#include "netplane/base/result.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <sys/types.h>

namespace shoal::runtime {

// For anybody to write into, whatever the umask is. False: it was there.
Result<bool> make_open_folder(const std::filesystem::path& dir);

struct DiskUsage {
  std::int64_t bytes = 0;  // of blocks, as du counts: each file once, on one file system
  std::int64_t inodes = 0;
  bool operator==(const DiskUsage&) const = default;
};

// Measures a folder in steps, so that nobody has to wait for one of a million files. What comes and
// goes meanwhile may be counted or not.
class DiskWalk {
public:
  static Result<DiskWalk> begin(const std::filesystem::path& dir);
  DiskWalk(DiskWalk&&) noexcept;
  DiskWalk& operator=(DiskWalk&&) noexcept;
  ~DiskWalk();

  // Looks at so many entries more; false: that was all. kExhausted: folders are nested too deep.
  Result<bool> step(std::size_t entries);
  const DiskUsage& found() const;  // so far

private:
  struct Impl;
  explicit DiskWalk(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

enum class OwnershipPolicy : unsigned char { kAlways, kOnRootMismatch };
// All of it is given to a group that may read and write it, and so is what is made in it later: the
// kubelet's fsGroup.
Result<> give_to_group(const std::filesystem::path& dir, gid_t group, OwnershipPolicy policy);

}  // namespace shoal::runtime
