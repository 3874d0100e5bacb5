// SPDX-License-Identifier: Apache-2.0
// Keeps the table `inet shoal` at the masquerade policy that a desired state asks for: replaced
// whole when it differs, left alone when it is right already, also over a restart.
#pragma once

#include "netplane/apply/config.h"
#include "netplane/apply/data_plane.h"
#include "netplane/kernel/nft/nft.h"
#include "netplane/plan/nft_policy.h"

#include <optional>
#include <vector>

namespace shoal::apply {

class Masquerade {
public:
  Masquerade(kernel::Nft& nft, const Config& config) : nft_(nft), config_(config) {}

  // True when the kernel's table was changed. Before pruning is allowed none is removed.
  bool apply(const model::Desired& desired, bool prune, std::vector<ObjectError>& errors);
  // True when somebody had changed the table; it is right again then, or an error says why not.
  bool audit(const model::Desired& desired, bool prune, std::vector<ObjectError>& errors);

private:
  kernel::NftRules rules(const plan::NftPolicy& policy) const;

  kernel::Nft& nft_;
  const Config& config_;
  // What the table holds: nothing when that is not known, and then nothing for "no table".
  std::optional<std::optional<plan::NftPolicy>> held_;
};

}  // namespace shoal::apply
