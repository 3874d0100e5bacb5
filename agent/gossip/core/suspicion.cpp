// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/core/suspicion.h"

#include <algorithm>
#include <cmath>

namespace shoal::gossip {

unsigned confirmations_wanted(const ProtocolConfig& config, std::size_t live) {
  // The suspect and the first accuser cannot confirm.
  const std::size_t others = live > 2 ? live - 2 : 0;
  return static_cast<unsigned>(std::min<std::size_t>(config.suspicion_mult - 2, others));
}

Duration suspicion_timeout(const ProtocolConfig& config, std::size_t live,
                           std::size_t confirmations) {
  const double scale =
      std::max(1.0, std::log10(static_cast<double>(std::max<std::size_t>(live, 1))));
  const double shortest =
      config.suspicion_mult * scale * static_cast<double>(Duration(config.probe_interval).count());
  const unsigned wanted = confirmations_wanted(config, live);
  if (wanted == 0 || confirmations >= wanted)
    return Duration(static_cast<Duration::rep>(shortest));
  const double longest = shortest * config.suspicion_max_mult;
  const double share = std::log(static_cast<double>(confirmations) + 1) / std::log(wanted + 1.0);
  return Duration(static_cast<Duration::rep>(longest - (longest - shortest) * share));
}

unsigned retransmits(const ProtocolConfig& config, std::size_t live) {
  const double digits = std::ceil(std::log10(static_cast<double>(live) + 1));
  return config.retransmit_mult * static_cast<unsigned>(std::max(1.0, digits));
}

}  // namespace shoal::gossip
