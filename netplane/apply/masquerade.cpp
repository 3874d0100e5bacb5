// SPDX-License-Identifier: Apache-2.0
#include "netplane/apply/masquerade.h"

namespace shoal::apply {

kernel::NftRules Masquerade::rules(const plan::NftPolicy& policy) const {
  kernel::NftRules rules;
  rules.pods = policy.pods;
  rules.cluster = policy.cluster;
  rules.nodes = policy.nodes;
  rules.tunnel_port = config_.vxlan_port;
  rules.mark = kernel::kMasqueradeMark;
  rules.self_v4 = policy.self_v4;
  rules.self_v6 = policy.self_v6;
  return rules;
}

bool Masquerade::apply(const model::Desired& desired, bool prune,
                       std::vector<ObjectError>& errors) {
  std::optional<plan::NftPolicy> wanted;
  if (config_.masquerade)
    wanted = plan::desired_nft_policy(desired);
  if (wanted && wanted->pods.empty())
    wanted.reset();  // nothing to rewrite
  if ((!wanted && !prune) || (held_ && *held_ == wanted))
    return false;
  if (!held_) {
    const Result<std::string> now = nft_.dump();
    if (now && *now == (wanted ? kernel::render(rules(*wanted)) : std::string())) {
      held_ = wanted;
      return false;
    }
  }
  Result<> done = wanted ? nft_.apply(rules(*wanted)) : nft_.remove();
  if (!done) {
    held_.reset();
    errors.push_back({"masquerade policy", std::move(done).error()});
    return false;
  }
  held_ = wanted;
  return true;
}

bool Masquerade::audit(const model::Desired& desired, bool prune,
                       std::vector<ObjectError>& errors) {
  if (!held_ || !*held_)
    return false;
  const Result<std::string> now = nft_.dump();
  if (now && *now == kernel::render(rules(**held_)))
    return false;
  held_.reset();
  apply(desired, prune, errors);
  return true;
}

}  // namespace shoal::apply
