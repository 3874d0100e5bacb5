// SPDX-License-Identifier: Apache-2.0
#include "agent/desired/scope.h"

#include <algorithm>

namespace shoal::desired {

namespace {

using model::Backend;
using model::BackendState;

template <class InScope>
std::vector<Backend> pick(std::vector<Endpoint>&& endpoints, InScope in_scope) {
  std::vector<Backend> out;
  out.reserve(endpoints.size());
  for (Endpoint& endpoint : endpoints)
    if (in_scope(endpoint))
      out.push_back(std::move(endpoint.backend));
  if (!std::is_sorted(out.begin(), out.end()))
    std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

template <class InScope>
bool any_ready(const std::vector<Endpoint>& endpoints, InScope in_scope) {
  return std::any_of(endpoints.begin(), endpoints.end(), [&](const Endpoint& endpoint) {
    return endpoint.backend.state == BackendState::kReady && in_scope(endpoint);
  });
}

// Those beyond the scope stay known: an endpoint's connections do not end because another one is
// nearer.
template <class InScope>
std::vector<Backend> narrow(std::vector<Endpoint>&& endpoints, InScope in_scope) {
  for (Endpoint& endpoint : endpoints)
    if (!in_scope(endpoint))
      endpoint.backend.state = BackendState::kTerminating;
  return everywhere(std::move(endpoints));
}

}  // namespace

Distribution parse_distribution(std::string_view text) {
  if (text == "PreferClose" || text == "PreferSameNode")
    return Distribution::kSameHost;
  return text == "PreferSameZone" ? Distribution::kSameZone : Distribution::kEven;
}

std::vector<Backend> everywhere(std::vector<Endpoint> endpoints) {
  return pick(std::move(endpoints), [](const Endpoint&) { return true; });
}

std::vector<Backend> of_host(std::vector<Endpoint> endpoints, const Place& place) {
  return pick(std::move(endpoints),
              [&](const Endpoint& endpoint) { return endpoint.node == place.host; });
}

std::vector<Backend> nearest(std::vector<Endpoint> endpoints, const Place& place,
                             Distribution distribution) {
  const auto on_host = [&](const Endpoint& endpoint) { return endpoint.node == place.host; };
  const auto in_zone = [&](const Endpoint& endpoint) {
    return on_host(endpoint) || (!place.zone.empty() && endpoint.zone == place.zone);
  };
  if (distribution == Distribution::kSameHost && any_ready(endpoints, on_host))
    return narrow(std::move(endpoints), on_host);
  if (distribution != Distribution::kEven && any_ready(endpoints, in_zone))
    return narrow(std::move(endpoints), in_zone);
  return everywhere(std::move(endpoints));
}

}  // namespace shoal::desired
