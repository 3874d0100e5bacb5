// SPDX-License-Identifier: Apache-2.0
// What one service asks of the data plane: its backends as map entries, and each one's share of the
// ring. The part of the service plan that knows nothing about what is there already.
#pragma once

#include "netplane/model/model.h"
#include "netplane/plan/actual.h"
#include "netplane/plan/maglev.h"

#include <string_view>
#include <unordered_map>
#include <vector>

namespace shoal::plan {

// Hosts by name.
class NodeIndex {
public:
  struct Node {
    bool local = false;
    bool usable = false;  // alive, and reachable through the overlay
    bool answers = false;
    IpAddress underlay;
    std::optional<IpAddress> lan_v6;
    bool snat = false;
    bool has(const IpAddress& ip) const { return ip == underlay || ip == lan_v6; }  // its own
  };
  // Views into `desired`, which must outlive this.
  explicit NodeIndex(const model::Desired& desired);
  const Node* find(std::string_view name) const;

private:
  std::unordered_map<std::string_view, Node> nodes_;
};

inline constexpr std::uint32_t kNoGroup = UINT32_MAX;

// The service's weight groups by name, each once: of doubles the larger weight stands.
std::vector<model::WeightGroup> sorted_groups(const model::ServicePort& service);

struct WantedBackend {
  BackendKey key;
  BackendEntry entry;              // without epoch
  std::uint64_t name = 0;          // ring_name
  std::uint32_t group = kNoGroup;  // into sorted_groups; 0 where there are none
  bool host_known = true;          // false: nothing is known of where it is now
  bool host_usable = true;
  bool serving = false;  // stopping, and better than nothing
  bool has_weight = false;
  bool ready = false;     // on a usable host, in a listed group, which may have weight 0
  bool eligible = false;  // ready, and its group has weight
  BackendId id = model::kNoBackend;
  std::uint32_t quota = 0;  // slots, by assign_quotas
};

// The service's backends by key, each once; those of another family are left out. `out` is
// overwritten.
void wanted_backends(const model::ServicePort& service, const NodeIndex& nodes,
                     std::vector<WantedBackend>& out);

// Gives the eligible backends with an id their quotas; returns the ring's size, 0 for none.
std::uint64_t assign_quotas(const model::ServicePort& service,
                            std::vector<WantedBackend>& backends);

// Digest of all that a ring is built from; never 0.
std::uint64_t inputs_digest(const std::vector<WantedBackend>& backends, std::uint64_t slots);

}  // namespace shoal::plan
