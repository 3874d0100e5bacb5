// SPDX-License-Identifier: Apache-2.0
// The start id: a number that is larger at every start of this host, so that what the cluster says
// of an earlier life is never held against the present one. Kept in a small file under the state
// folder; the wall clock is its floor, so that a host whose state folder was lost still starts
// above its past.
#pragma once

#include "netplane/base/clock.h"
#include "netplane/base/result.h"

#include <cstdint>
#include <filesystem>

namespace shoal::gossip {

// Larger than the stored one. To be saved before it is used; where that fails (a full disk), the
// next one is still above it unless the clock goes back, which the cluster corrects.
Result<std::uint64_t> next_start_id(const std::filesystem::path& file, const Clock& clock);
// Atomically. Also for Gossip::on_start_id_raised.
Result<> save_start_id(const std::filesystem::path& file, std::uint64_t start_id);

}  // namespace shoal::gossip
