// SPDX-License-Identifier: Apache-2.0
// What a host keeps of its membership, under <state_dir>: cluster.json (written last, so that its
// presence means the rest is whole) and pki/{ca.crt,node.crt,node.key,gossip.key}, on the store's
// host also pki/ca.key. Keys are mode 0600. A host without cluster.json is not a member yet: `shoal
// init` or `shoal join` makes it one.
#pragma once

#include "netplane/base/ip.h"
#include "netplane/base/port_range.h"
#include "netplane/base/result.h"

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace shoal::daemon {

// Fixed for a cluster's life, decided by `shoal init` from the first host's config.
struct ClusterSettings {
  std::vector<IpPrefix> pod_cidrs;  // one, or one of each family, IPv4 first
  unsigned node_prefix_length = 24;
  unsigned node_prefix_length_v6 = 64;
  std::vector<IpPrefix> service_cidrs;  // of the same families
  std::vector<IpPrefix> lb_pools;       // none: Services of type LoadBalancer stay pending
  PortRange node_port_range = kNodePortsDefault;
  std::uint16_t vxlan_port = 4789;
  bool operator==(const ClusterSettings&) const = default;
};

struct ClusterFiles {
  std::string cluster_id;
  std::string node_name;
  bool store_host = false;
  SocketAddress store_api;           // where the store's host serves the API over TLS
  std::vector<SocketAddress> seeds;  // gossip addresses to find the others by
  ClusterSettings settings;

  std::string ca_cert;
  std::string ca_key;  // empty but on the store's host
  std::string node_cert;
  std::string node_key;
  std::string gossip_key;  // 32 raw bytes

  // Nothing when the host is not a member. kCorrupt names the file and what to do.
  static Result<std::optional<ClusterFiles>> load(const std::filesystem::path& state_dir);
  Result<> save(const std::filesystem::path& state_dir) const;
  // That the parts are of one cluster and of this host: a folder restored half from elsewhere is
  // told from a whole one. The certificate may have expired; see `pki::not_after`.
  Result<> check(const std::filesystem::path& state_dir) const;
};

// ClusterSettings and ClusterFiles' public part travel to joining hosts as JSON text.
std::string settings_to_json(const ClusterSettings& settings);
Result<ClusterSettings> settings_from_json(std::string_view text);

}  // namespace shoal::daemon
