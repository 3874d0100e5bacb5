// SPDX-License-Identifier: Apache-2.0
// Sends an image of the store to a registry, with the digest that it has here. skopeo speaks with
// the registry; blobs that are there already are not sent. Blocking, for as long as that takes.
#pragma once

#include "runtime/image/pull.h"

namespace shoal::runtime {

// `destination`: a reference by tag. Errors as of pull_image. Returns the image as it is here.
Result<ImageInfo> push_image(ImageStore& store, std::string_view image,
                             std::string_view destination, const PullOptions& options,
                             const std::atomic<bool>* cancelled);

}  // namespace shoal::runtime
