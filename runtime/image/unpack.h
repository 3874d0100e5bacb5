// SPDX-License-Identifier: Apache-2.0
// Unpacks one image layer into an empty folder, in the form overlayfs takes as a lower layer.
//
// - Whiteouts (.wh.NAME) become character devices 0/0; opaque folders (.wh..wh..opq, or a folder
// that is deleted and
//   made anew in one layer) get trusted.overlay.opaque=y. In whatever order the layer holds them.
// - Kept: owner, mode, times, hard links, symlinks (their text as it is: it is only ever followed
// inside a
//   container), FIFOs, the xattrs security.capability and user.*.
// - Left out, and counted: device nodes (a container's devices come from its runtime) and all other
// xattrs
//   (trusted.overlay.* would let a layer speak to overlayfs).
// - Refused: names with "..", hard links to what the layer does not hold, parents that are files or
// dangling links.
//   A parent that is a symlink is followed within the folder only (openat2 RESOLVE_IN_ROOT).
// - An entry that appears twice: the last one stands.
// A layer is unpacked on its own: it does not see the layers below it.
//
// Needs root. Blocking. After an error the folder holds a part: the caller throws it away.
#pragma once

#include "netplane/base/result.h"

#include <cstdint>
#include <string_view>

namespace shoal::runtime {

struct UnpackLimits {
  std::uint64_t bytes_max;  // of the uncompressed tar stream
  std::uint64_t entries_max;
};

struct UnpackStats {
  std::uint64_t entries = 0;
  std::uint64_t bytes = 0;
  std::uint64_t devices_left_out = 0;
  std::uint64_t xattrs_left_out = 0;
};

// blob_fd: a tar, plain or in gzip or zstd, at its start. diff_id: what the uncompressed bytes must
// hash to (kCorrupt otherwise). root_fd: the empty folder.
Result<UnpackStats> unpack_layer(int blob_fd, std::string_view diff_id, int root_fd,
                                 const UnpackLimits& limits);

}  // namespace shoal::runtime
