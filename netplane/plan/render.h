// SPDX-License-Identifier: Apache-2.0
// Plans and states as text, a line an item: for golden files, for `shoal` dumps and for logs. What
// has an order of its own (a plan's operations) keeps it; all else is sorted.
#pragma once

#include "netplane/plan/actual.h"
#include "netplane/plan/lb.h"
#include "netplane/plan/nft_policy.h"
#include "netplane/plan/routes.h"

#include <span>
#include <string>

namespace shoal::plan {

std::string render(const Plan& plan);
std::string render(const OverlayPlan& plan);
std::string render(const Overlay& overlay);
std::string render(const NftPolicy& policy);
std::string render(const Actual& actual);
std::string render(const model::Desired& desired);

// "3*342 5*682": who has how many slots, by id.
std::string render_shares(std::span<const RingMember> members);

}  // namespace shoal::plan
