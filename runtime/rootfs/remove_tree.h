// SPDX-License-Identifier: Apache-2.0
// Removing what a container may have written.
#pragma once

#include "netplane/base/result.h"

#include <filesystem>

namespace shoal::runtime {

// Removes `path`, a folder with all that is in it, or a file; what is gone already is fine. No link
// is followed and no mount entered: a tree that holds a mount is left from there on up, with
// kUnavailable. Needs three files and a name of memory a level, however deep the tree is. Nobody
// else may be changing it. Blocking; any thread.
Result<> remove_tree(const std::filesystem::path& path);

}  // namespace shoal::runtime
