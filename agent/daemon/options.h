// SPDX-License-Identifier: Apache-2.0
// What the agent is told, in its own types: main makes this from the config file and the flags.
#pragma once

#include "agent/config/config.h"
#include "agent/daemon/cluster_files.h"
#include "agent/images/image_gc.h"
#include "agent/node/pressure.h"
#include "netplane/apply/kernel_ports.h"

#include <filesystem>
#include <optional>
#include <string>

namespace shoal::daemon {

inline constexpr std::string_view kVersion = "0.1.0";

struct Options {
  std::string node_name;
  std::filesystem::path state_dir = "/var/lib/shoal";
  std::filesystem::path run_dir = "/run/shoal";
  std::filesystem::path shim = "/usr/libexec/shoal/shoal-shim";
  std::filesystem::path oci_runtime = "crun";
  std::filesystem::path cgroup_root;  // the cgroup2 mount whose subtree is hooked

  std::string uplink;                         // the main device; empty: found
  std::optional<IpAddress> underlay;          // this host's address; empty: the main uplink's
  std::vector<IpPrefix> node_port_addresses;  // empty: those of the uplinks
  SocketAddress api{IpAddress::v4(0), 6443};
  SocketAddress gossip{IpAddress::v4(0), 7946};
  SocketAddress metrics{IpAddress::v4(0), 9464};
  std::chrono::milliseconds gossip_probe_interval{500};
  std::chrono::milliseconds gossip_probe_timeout{200};

  ClusterSettings cluster;            // what `shoal init` fixes for the cluster
  std::int64_t kept_cpu_milli = 100;  // for the host itself, not for pods
  std::int64_t kept_memory_bytes = 256 << 20;
  std::int64_t pod_pids_max = 16'384;
  node::PressureOptions pressure;
  bool container_metrics = true;  // what each container uses, in /metrics
  Duration pod_replace_after = std::chrono::seconds(30);

  std::vector<config::Registry> registries;
  std::size_t parallel_pulls = 3;
  std::chrono::seconds pull_stall{60};
  images::GcOptions image_gc;

  // network.load_balancer_mode: auto; data_plane.snat is snat
  bool snat_auto = false;

  // bpffs, mtu, table sizes, switches; the cluster's and the host's parts are filled in by the
  // agent.
  apply::Config data_plane;

  std::filesystem::path socket() const { return run_dir / config::kSocketName; }
};

// Why an agent's run ended.
enum class Ended : std::uint8_t {
  kStopped,  // asked to
  kChanged,  // this host became a member: begin anew
};

}  // namespace shoal::daemon
