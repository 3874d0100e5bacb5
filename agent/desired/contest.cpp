// SPDX-License-Identifier: Apache-2.0
#include "agent/desired/contest.h"

#include <fmt/format.h>
#include <tuple>

namespace shoal::desired {

namespace {

using model::FrontendKey;
using model::FrontendKind;

int rank(FrontendKind kind) {
  switch (kind) {
  case FrontendKind::kClusterIp:
    return 0;
  case FrontendKind::kLoadBalancer:
    return 1;
  case FrontendKind::kNodePort:
    return 2;
  case FrontendKind::kExternalIp:
    return 3;
  case FrontendKind::kHostPort:
    return 4;
  }
  return 5;
}

bool is_of_host(FrontendKind kind) {
  return kind == FrontendKind::kNodePort || kind == FrontendKind::kHostPort;
}

FrontendKey key_of(const model::Frontend& frontend) {
  return {frontend.ip, frontend.port, frontend.proto};
}

std::string title(const view::Ref& ref) {
  return fmt::format("{} {}/{}", ref.resource == view::kPods ? "Pod" : "Service", ref.ns, ref.name);
}

struct Claim {
  int rank = 0;
  store::Revision created = 0;
  const view::Ref* owner = nullptr;
  bool operator<(const Claim& other) const {
    return std::tie(rank, created, *owner) < std::tie(other.rank, other.created, *other.owner);
  }
};

template <class Visit>
void each_frontend(const std::vector<OwnedPorts>& owners, std::vector<model::ServicePort>& services,
                   Visit visit) {
  for (const OwnedPorts& owned : owners)
    for (std::size_t i = owned.first; i < owned.first + owned.count; ++i)
      visit(owned, services[i].frontends);
}

}  // namespace

void settle_contests(const std::set<FrontendKey>& contested, const std::vector<OwnedPorts>& owners,
                     std::vector<model::ServicePort>& services, std::set<Finding>& findings) {
  if (contested.empty())
    return;
  std::map<FrontendKey, Claim> winners;
  each_frontend(owners, services, [&](const OwnedPorts& owned, auto& frontends) {
    for (const model::Frontend& frontend : frontends) {
      const FrontendKey key = key_of(frontend);
      if (!contested.contains(key))
        continue;
      const Claim claim{rank(frontend.kind), owned.created, owned.owner};
      const auto [at, first] = winners.try_emplace(key, claim);
      if (!first && claim < at->second)
        at->second = claim;
    }
  });
  each_frontend(owners, services, [&](const OwnedPorts& owned, auto& frontends) {
    std::erase_if(frontends, [&](const model::Frontend& frontend) {
      const auto at = winners.find(key_of(frontend));
      if (at == winners.end() || at->second.owner == owned.owner)
        return false;
      findings.insert({*owned.owner, FindingKind::kPortConflict,
                       fmt::format("{}/{} ({}) is {}'s, and is not served for this one",
                                   SocketAddress{frontend.ip, frontend.port}.to_string(),
                                   to_string(frontend.proto), model::to_string(frontend.kind),
                                   title(*at->second.owner)),
                       is_of_host(frontend.kind)});
      return true;
    });
  });
}

}  // namespace shoal::desired
