// SPDX-License-Identifier: Apache-2.0
// Takes an image archive or layout folder apart: blobs go to a Staging, checked against their names
// while they stream; the small documents are kept in memory. One pass, in whatever order the
// archive holds them.
#pragma once

#include "netplane/base/result.h"
#include "runtime/image/blobs.h"
#include "runtime/image/store.h"

#include <filesystem>
#include <map>
#include <optional>
#include <string>

namespace shoal::runtime {

struct ArchiveContent {
  std::optional<std::string> layout;           // oci-layout
  std::optional<std::string> index;            // index.json
  std::optional<std::string> docker_manifest;  // manifest.json of `docker save`
  std::map<std::string, Blob> files;           // of a `docker save` archive: path -> staged content
  std::map<std::string, std::string> links;    // and its symlinks: path -> path
};

// A tar, plain or in gzip or zstd.
Result<ArchiveContent> read_archive(int fd, Staging& staging, const StoreLimits& limits);
// A layout folder. Blobs that are no regular files are refused. ours: nobody changes them any more,
// and the load may have them as they are.
Result<ArchiveContent> read_layout_folder(const std::filesystem::path& dir, Staging& staging,
                                          const StoreLimits& limits, bool ours);

}  // namespace shoal::runtime
