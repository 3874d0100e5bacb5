// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/core/timers.h"

#include "agent/gossip/core/limits.h"
#include "netplane/base/result.h"

#include <utility>

namespace shoal::gossip {

std::uint64_t Timers::arm(Timer timer, Effects& out) {
  // One a purpose, member, relay or origin, each of which is bounded.
  SHOAL_ASSERT(armed_.size() < kTimersMax);
  const std::uint64_t token = ++last_;
  out.push_back(ArmTimer{token, timer.at});
  armed_.emplace(token, std::move(timer));
  return token;
}

void Timers::cancel(std::uint64_t& token) {
  if (token != 0)
    armed_.erase(token);
  token = 0;
}

std::optional<Timer> Timers::take(std::uint64_t token) {
  const auto found = armed_.find(token);
  if (found == armed_.end())
    return std::nullopt;
  Timer timer = std::move(found->second);
  armed_.erase(found);
  return timer;
}

const Timer* Timers::find(std::uint64_t token) const {
  const auto found = armed_.find(token);
  return found == armed_.end() ? nullptr : &found->second;
}

}  // namespace shoal::gossip
