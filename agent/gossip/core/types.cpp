// SPDX-License-Identifier: Apache-2.0
#include "agent/gossip/core/types.h"

#include "agent/gossip/core/effects.h"

namespace shoal::gossip {

std::string_view to_string(MemberState state) {
  switch (state) {
  case MemberState::kAlive:
    return "alive";
  case MemberState::kSuspect:
    return "suspect";
  case MemberState::kDead:
    return "dead";
  case MemberState::kLeft:
    return "left";
  case MemberState::kForgotten:
    return "forgotten";
  }
  return "?";
}

std::string_view to_string(MemberChange change) {
  switch (change) {
  case MemberChange::kJoined:
    return "joined";
  case MemberChange::kSuspected:
    return "suspected";
  case MemberChange::kRefuted:
    return "refuted";
  case MemberChange::kDied:
    return "died";
  case MemberChange::kLeft:
    return "left";
  case MemberChange::kForgotten:
    return "forgotten";
  case MemberChange::kUpdated:
    return "updated";
  }
  return "?";
}

}  // namespace shoal::gossip
