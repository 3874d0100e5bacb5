// SPDX-License-Identifier: Apache-2.0
// Which connections are those of a weight group: by the frontend that the client asked for and the
// backend that it was given, as the data plane knows them of an open connection. The same pod may
// serve other Services, and clients at its own address: their connections are not the group's.
#pragma once

#include "netplane/model/data_plane.h"
#include "netplane/model/model.h"

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

namespace shoal::plan {

class DrainTargets {
public:
  DrainTargets() = default;
  // Where `desired` does not say that a group is at weight 0, nothing is the group's.
  DrainTargets(const model::Desired& desired, std::span<const model::DrainGroup> groups);

  std::size_t groups() const { return groups_; }
  bool empty() const { return backends_.empty(); }
  // Whose the connection is, as a place in `groups`.
  std::optional<std::size_t> group_of(L4Proto proto, const SocketAddress& frontend,
                                      const SocketAddress& backend) const;
  // It may be some group's: to be asked where the frontend takes a look-up.
  bool has_backend(L4Proto proto, const SocketAddress& backend) const {
    return backends_.contains({proto, backend});
  }
  bool is_pod_here(const IpAddress& ip) const { return pods_.contains(ip); }

private:
  using Service = std::size_t;  // the first of its groups
  struct Owner {
    Service service = 0;
    std::size_t group = 0;
  };
  void add(const model::ServicePort& service, std::span<const model::DrainGroup> groups,
           Service owner);

  std::size_t groups_ = 0;
  std::map<std::pair<L4Proto, SocketAddress>, std::vector<Owner>> backends_;
  std::map<model::FrontendKey, Service> frontends_;
  // Node ports: other hosts' addresses, whose clients they led to a pod here, are not among
  // `desired`'s.
  std::map<std::pair<L4Proto, std::uint16_t>, Service> node_ports_;
  std::set<model::FrontendKey> others_;  // frontends of other services with the same port numbers
  std::set<IpAddress> pods_;
};

}  // namespace shoal::plan
