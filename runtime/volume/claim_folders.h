// SPDX-License-Identifier: Apache-2.0
// The folders of PersistentVolumeClaims on this host: kept over restarts of pods, agent and host,
// and removed only by remove_claim_folder.
//
//   <dir>/<namespace>/<name>-<uid>/           what pods see
//   <dir>/<namespace>/<name>-<uid>.revision   of the store, when the claim was seen here: a replica
//                                             that is not as far cannot say that the claim is gone
//   <dir>/<namespace>/<name>-<uid>.deleted    its claim was seen being deleted: that no store has
//   it
//                                             is no accident
//
// Pods that use one have a link to it in their own folder, which says so when nothing else is known
// of them. Blocking; any thread.
#pragma once

#include "netplane/base/result.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace shoal::runtime {

struct ClaimFolder {
  std::string ns;
  std::string name;  // cut where it is long: the uid tells claims apart
  std::string uid;
  std::uint64_t revision = 0;
  bool deleted = false;  // it was seen being deleted
  bool operator==(const ClaimFolder&) const = default;
};

std::filesystem::path claim_path(const std::filesystem::path& dir, const ClaimFolder& claim);
// Returns its path. Made on disk before the answer: a host that loses power has it or knows nothing
// of it.
Result<std::filesystem::path> make_claim_folder(const std::filesystem::path& dir,
                                                const ClaimFolder& claim);
// Whether the claim is seen being deleted, or not any more; on disk before the answer.
Result<> mark_claim_folder(const std::filesystem::path& dir, const ClaimFolder& claim,
                           bool deleted);
// Sorted by namespace and name.
Result<std::vector<ClaimFolder>> list_claim_folders(const std::filesystem::path& dir);
// With all that is in it; mounts below it are undone first. May be repeated.
Result<> remove_claim_folder(const std::filesystem::path& dir, const ClaimFolder& claim);

}  // namespace shoal::runtime
