// SPDX-License-Identifier: Apache-2.0
// Root filesystems of containers: overlayfs over the image's unpacked layers.
//
//   <dir>/rootfs   the mount that a bundle names as its root
//   <dir>/upper    what the container writes
//   <dir>/work     overlayfs' own
//
// A container's writable layer lives as long as its mount: when the folder is there but not mounted
// (the host was rebooted), upper and work are emptied before the mount, which lets overlayfs run
// with `volatile` (no syncs). Mounts are nodev: a container's devices are in the /dev that the OCI
// runtime mounts. The mounts are made in the calling thread's mount namespace. Blocking (around 0.2
// ms); any thread. Up to kLayersMax layers whatever the length of their paths.
#pragma once

#include "netplane/base/result.h"

#include <cstddef>
#include <filesystem>
#include <span>
#include <vector>

namespace shoal::runtime {

inline constexpr std::size_t kLayersMax = 200;

struct RootfsOptions {
  bool mount_api =
      true;  // fsopen with lowerdir+ (6.8 and newer); off, or missing in the kernel: mount(2)
};

// Mounts, or finds it mounted; returns <dir>/rootfs. `layers`: the base first. dir is made when
// missing.
Result<std::filesystem::path> mount_rootfs(const std::filesystem::path& dir,
                                           std::span<const std::filesystem::path> layers,
                                           const RootfsOptions& options = {});

// Unmounts and deletes rootfs, upper and work; whatever is gone already is fine. A busy mount is
// detached.
Result<> remove_rootfs(const std::filesystem::path& dir);

// <dir>s of all rootfs mounts below `under`, sorted: what a restarted agent finds.
Result<std::vector<std::filesystem::path>> list_rootfs(const std::filesystem::path& under);

// Removes every rootfs below `under` whose dir is not in `keep`; goes on past failures and reports
// the first. Returns the dirs it removed.
Result<std::vector<std::filesystem::path>>
sweep_rootfs(const std::filesystem::path& under, std::span<const std::filesystem::path> keep);

}  // namespace shoal::runtime
