// SPDX-License-Identifier: Apache-2.0
#include "netplane/model/model.h"

#include "netplane/model/data_plane.h"

#include <algorithm>
#include <fmt/format.h>
#include <tuple>
#include <utility>

namespace shoal::model {

std::string_view to_string(FrontendKind kind) {
  switch (kind) {
  case FrontendKind::kClusterIp:
    return "ClusterIP";
  case FrontendKind::kNodePort:
    return "NodePort";
  case FrontendKind::kLoadBalancer:
    return "LoadBalancer";
  case FrontendKind::kExternalIp:
    return "ExternalIP";
  case FrontendKind::kHostPort:
    return "HostPort";
  }
  return "?";
}

std::string_view to_string(Clients clients) {
  switch (clients) {
  case Clients::kAll:
    return "all";
  case Clients::kInside:
    return "inside";
  case Clients::kOutside:
    return "outside";
  case Clients::kInsideExternal:
    return "inside-external";
  }
  return "?";
}

bool Ring::refuses() const {
  return std::ranges::all_of(backends, [](BackendId id) { return id == kNoBackend; });
}

Ring ring_of(const RingRef& ref, std::vector<BackendId> blocks) {
  Ring ring{.ref = ref, .backends = std::move(blocks), .former = {}};
  if (ref.history) {
    const auto end =
        ring.backends.begin() + static_cast<std::ptrdiff_t>(ref.ring_blocks()) * kRingBlockSlots;
    ring.former.assign(end, end + static_cast<std::ptrdiff_t>(ref.slots) * kSlotFormer);
  }
  ring.backends.resize(ref.slots);
  for (BackendId& id : ring.backends)
    id &= ~kSlotMoved;
  return ring;
}

// The common cases read shortest: one service for both sides, or for clients inside only.
std::string to_string(const FrontendEntry& entry) {
  const auto index = [](ServiceIndex service) {
    return service == kNoService ? std::string("none") : fmt::format("{}", service);
  };
  std::string out = "service=" + index(entry.inside);
  if (entry.outside == entry.inside)
    out += " north-south";
  else if (entry.outside != kNoService)
    out += " outside=" + index(entry.outside);
  if (entry.affinity_s > 0)
    out += fmt::format(" affinity={}s", entry.affinity_s);
  if (entry.restricted)
    out += " restricted";
  if (entry.entries)
    out += " entries";
  return out;
}

std::string ServicePort::id() const {
  std::string_view side;
  if (clients == Clients::kOutside)
    side = "@outside";
  else if (clients == Clients::kInsideExternal)
    side = "@external";
  return fmt::format("{}/{}:{}/{}{}{}", ns, name, port_name, to_string(proto),
                     family == IpFamily::kV6 ? "@v6" : "", side);
}

bool same_but_backends(const ServicePort& a, const ServicePort& b) {
  const auto rest = [](const ServicePort& port) {
    return std::tie(port.ns, port.name, port.port_name, port.proto, port.family, port.frontends,
                    port.clients, port.affinity_s, port.source_ranges);
  };
  return rest(a) == rest(b);
}

}  // namespace shoal::model
