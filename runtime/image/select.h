// SPDX-License-Identifier: Apache-2.0
// Which images an archive holds for this machine, under which names; each checked to be whole:
// manifest, config and every layer there, of the size the manifest says, as many diff ids as
// layers, made for this platform.
#pragma once

#include "netplane/base/result.h"
#include "runtime/image/archive_source.h"
#include "runtime/image/blobs.h"
#include "runtime/image/manifest.h"
#include "runtime/image/store.h"

#include <optional>
#include <string>
#include <vector>

namespace shoal::runtime {

struct SelectedImage {
  std::vector<std::string> names;  // as the archive has them; may be empty
  Descriptor manifest_entry;
  std::string source;  // digest of the index it was picked from, else the manifest's
  Manifest manifest;
  ConfigDocument config;
};

Result<std::vector<SelectedImage>> select_images(const ArchiveContent& content, Staging& staging,
                                                 const StoreOptions& options);

// Reads and checks one image; also for what is stored already.
Result<SelectedImage> read_image(const Descriptor& manifest, const Staging& staging,
                                 const StoreOptions& options);

ImageInfo describe(const SelectedImage& image);

// The full references to store an image under. `name` given by the user replaces the archive's.
Result<std::vector<std::string>> references_for(const std::vector<SelectedImage>& images,
                                                std::size_t which,
                                                const std::optional<std::string>& name);

}  // namespace shoal::runtime
