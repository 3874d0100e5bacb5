// SPDX-License-Identifier: Apache-2.0
// How long a suspect has to refute (Lifeguard, section IV-B): long while only one member finds it
// silent, the shortest time once enough others have said so independently.
#pragma once

#include "agent/gossip/core/config.h"

#include <cstddef>

namespace shoal::gossip {

// How many independent confirmations bring the timeout to its shortest, among `live` members.
unsigned confirmations_wanted(const ProtocolConfig& config, std::size_t live);
Duration suspicion_timeout(const ProtocolConfig& config, std::size_t live,
                           std::size_t confirmations);
// How often a piece of news is told by each member.
unsigned retransmits(const ProtocolConfig& config, std::size_t live);

}  // namespace shoal::gossip
