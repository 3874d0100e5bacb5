// SPDX-License-Identifier: Apache-2.0
// Service plans for nftables: from what should be and what the kernel holds to one transaction. The
// same services, groups and shares as the rings of BPF (lb.h), in another form
// (model/nft_services.h).
//
// A service's pools are its weight groups with a backend that gets new connections. A pool's places
// are kept where they can be: a backend that goes is replaced by the last one.
//
// Before pruning is allowed nothing is deleted, and a service that would lose a backend which the
// input does not name, or whose host it does not know to be there, stays as it is.
#pragma once

#include "netplane/model/model.h"
#include "netplane/model/nft_services.h"
#include "netplane/plan/ops.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace shoal::plan {

struct NftPlan {
  model::NftChange change;
  std::vector<Issue> issues;
  // The pools of every service that was planned, by chain.
  std::vector<std::pair<std::string, std::vector<std::uint64_t>>> learned;
};

// What the table holds, followed change by change.
struct NftActual {
  model::NftHeld held;
  std::map<std::string, std::vector<std::uint64_t>> pools;  // by chain, of those planned here

  void note(const model::NftChange& change);
  // What a plan found without having to change it; after its change has been noted.
  void learn(NftPlan& plan);
};

struct NftOptions {
  bool prune = true;
  std::set<IpAddress> attached;  // addresses of pods here that `desired` may not name yet
};

NftPlan plan_nft_services(const model::Desired& desired, const model::NftSetup& setup,
                          const NftActual& actual, const NftOptions& options);

// The same for a change of groups and backends alone, in the services at `changed`: it costs what
// it touches.
NftPlan plan_nft_backends(const model::Desired& desired, std::span<const std::size_t> changed,
                          const NftActual& actual, const NftOptions& options);

// The chain and pools of one service, its pools' places in the order of their addresses.
model::NftService nft_service(const model::Desired& desired, const model::ServicePort& service);

// A change taken apart, so that one that the kernel refuses costs its own service and nothing else:
// first what is nobody's alone, then each service with its elements.
struct NftPart {
  std::string object;  // "service ns/name/port/TCP", "service table"
  model::NftChange change;
};
std::vector<NftPart> split_by_service(const model::NftChange& change, const NftActual& actual);

}  // namespace shoal::plan
