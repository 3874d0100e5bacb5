// SPDX-License-Identifier: Apache-2.0
#include "netplane/plan/changes.h"

#include <algorithm>
#include <set>

namespace shoal::plan {
namespace {

FrontendKey frontend_key(const model::Frontend& frontend) {
  return {frontend.ip, frontend.port, frontend.proto};
}

}  // namespace

bool stand_alone(std::span<const ChangedService> changed, const Actual& actual,
                 const Options& options) {
  std::set<ServiceIndex> own{model::kNoService};
  std::set<FrontendKey> keys;     // that they have or had
  std::set<IpAddress> kept, had;  // addresses of theirs alone
  bool any = false;
  for (const ChangedService& each : changed) {
    if (each.before != nullptr && actual.service(each.index) == nullptr)
      return false;
    if (!is_reshaped(each))
      continue;
    any = true;
    if (each.before != nullptr) {
      own.insert(each.index);
      for (const model::Frontend& frontend : each.before->frontends)
        keys.insert(frontend_key(frontend));
      each_vip(*each.before, [&](const IpAddress& ip) { had.insert(ip); });
    }
    if (each.now != nullptr) {
      for (const model::Frontend& frontend : each.now->frontends)
        keys.insert(frontend_key(frontend));
      each_vip(*each.now, [&](const IpAddress& ip) { kept.insert(ip); });
    }
  }
  if (!any)
    return true;
  if (!options.prune)
    return false;
  std::map<IpAddress, std::uint32_t> theirs;  // entries there are, by address
  for (const FrontendKey& key : keys) {
    const auto now = actual.frontends().find(key);
    if (now == actual.frontends().end())
      continue;
    if (!own.contains(now->second.inside) || !own.contains(now->second.outside))
      return false;
    theirs[key.ip]++;
  }
  return std::ranges::all_of(had, [&](const IpAddress& ip) {
    const auto at = theirs.find(ip);
    return kept.contains(ip) || actual.frontends_at(ip) == (at == theirs.end() ? 0 : at->second);
  });
}

}  // namespace shoal::plan
