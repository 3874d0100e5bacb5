// SPDX-License-Identifier: Apache-2.0
// Scopes: which of a service's endpoints a policy lets clients of one host use. Pure. Internal to
// agent/desired.
#pragma once

#include "netplane/model/model.h"

#include <string_view>
#include <vector>

namespace shoal::desired {

// A backend, and where it is. `node` may name a host that the data plane does not send to by name
// (backend.host is empty then): it counts for policies all the same. The views are into objects and
// the scene, which outlive it.
struct Endpoint {
  model::Backend backend;
  std::string_view node;
  std::string_view zone;
};

enum class Distribution : std::uint8_t {
  kEven,      // wherever they are
  kSameZone,  // those of the host's zone first
  kSameHost,  // those of the host itself first, then its zone's
};
// spec.trafficDistribution. PreferClose is the nearest there is.
Distribution parse_distribution(std::string_view text);

// The host whose clients they are.
struct Place {
  std::string_view host;
  std::string_view zone;
};

std::vector<model::Backend> everywhere(std::vector<Endpoint> endpoints);
// externalTrafficPolicy and internalTrafficPolicy Local: those of the host, and no others.
std::vector<model::Backend> of_host(std::vector<Endpoint> endpoints, const Place& place);
// The nearest scope in which one is ready decides. Ready ones beyond it get no new connections
// (kTerminating) and keep those they have: the scope widens and narrows while they go on.
std::vector<model::Backend> nearest(std::vector<Endpoint> endpoints, const Place& place,
                                    Distribution distribution);

}  // namespace shoal::desired
