// SPDX-License-Identifier: Apache-2.0
// A kernel in memory for the data plane's scenarios: the network of a host and of pods' namespaces,
// the maps, the table, the programs and what was announced. It outlives any DataPlane on it, as the
// real one does. Only what pod_net and DataPlane use is there; the rest answers kUnsupported.
#pragma once

#include "netplane/apply/kernel_ports.h"
#include "tests/fakes/fake_data_maps.h"

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace shoal::apply {

// The links, addresses, routes and neighbours of one namespace.
struct FakeNetns {
  std::map<std::uint32_t, kernel::Link> links;
  std::set<kernel::LinkAddress> addresses;
  std::set<kernel::Route> routes;
  std::set<kernel::Neighbour> neighbours;
  std::set<kernel::Proxy> proxies;
  std::map<std::string, std::string> sysctls;
  std::map<std::uint32_t, std::pair<int, std::uint32_t>> peers;  // a veth's other end: fd, index
};

struct FakeHost {
  FakeHost();
  kernel::Link& add_link(int netns_fd, kernel::Link link);
  void delete_link(int netns_fd, std::uint32_t index);
  void move_uplink();  // another device, another MAC

  static constexpr int kHostFd = 3;
  std::map<int, FakeNetns> namespaces;
  std::uint32_t next_index = 1;
  FakeDataMaps maps;
  std::optional<kernel::NftRules> table;
  std::string foreign_table_text;  // somebody changed the table: what dump() then shows
  std::set<std::uint32_t> attached_pods;
  unsigned host_attachments = 0;
  bool attached_before = false;
  std::vector<IpAddress> announced;
  std::set<IpAddress> listened_for;
  bool announcing_fails = false;
  kernel::Stir links_stirred;  // for one look
  std::string fail_rtnl;       // the operation that fails: "replace_route", "create_veth", ...
};

// Ports onto that host, as often as wanted.
KernelPorts fake_ports(FakeHost& host);

}  // namespace shoal::apply
