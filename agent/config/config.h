// SPDX-License-Identifier: Apache-2.0
// shoald's configuration: /etc/shoal/shoald.yaml, and flags over it. One table (keys.h) holds every
// key with its type, default, bounds and help; the reader, the flags, --help and the shipped
// example all come from it.
//
// A wrong file is refused as a whole, with every problem in it: "FILE:LINE:COLUMN: key: what is
// wrong; what is allowed". Nothing is guessed and nothing unknown is skipped. Pure but for load()
// and hostname.
#pragma once

#include "netplane/base/ip.h"
#include "netplane/base/port_range.h"
#include "netplane/base/result.h"

#include <cstdint>
#include <expected>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::config {

inline constexpr std::string_view kDefaultFile = "/etc/shoal/shoald.yaml";
inline constexpr std::string_view kSocketName = "shoald.sock";  // in run_dir
inline constexpr std::size_t kFileBytesMax = 1 << 20;
inline constexpr std::size_t kProblemsMax = 50;

// How a registry is reached.
struct Mirror {
  std::string location;     // "mirror.lan:5000/hub", without a scheme
  bool plain_http = false;  // its URL began with http://
  bool operator==(const Mirror&) const = default;
};
struct Registry {
  std::string name;             // as image names have it: "docker.io", "registry.lan:5000"
  std::vector<Mirror> mirrors;  // asked first, in this order; the registry itself comes last
  bool insecure = false;        // plain HTTP and unknown certificates are fine
  std::filesystem::path ca;     // PEM, beside the host's own; empty: none
  bool operator==(const Registry&) const = default;
};

struct Config {
  std::string node_name;  // never empty once loaded: the host's name stands in
  std::filesystem::path state_dir;
  std::filesystem::path run_dir;
  std::filesystem::path bpffs_dir;
  std::optional<std::filesystem::path> cgroup_root;  // none: found
  bool proxy_nftables = false;                       // proxy: nftables; otherwise ebpf
  std::string uplink;                                // device named by `underlay`; empty: found
  std::optional<IpAddress> underlay;                 // address named by `underlay`
  std::vector<std::string> uplinks;                  // '*' for any characters; empty: found
  SocketAddress api;
  SocketAddress gossip;
  std::uint32_t gossip_probe_interval_ms = 0;
  std::uint32_t gossip_probe_timeout_ms = 0;
  SocketAddress metrics;
  bool container_metrics = true;
  std::string log_level;
  std::vector<IpPrefix> pod_cidrs;  // one, or one of each family; IPv4 first
  std::uint8_t node_prefix_length = 0;
  std::uint8_t node_prefix_length_v6 = 0;
  std::vector<IpPrefix> service_cidrs;  // of the same families
  std::vector<IpPrefix> lb_pools;
  PortRange node_port_range;
  std::vector<IpPrefix> node_port_addresses;  // empty: those of the uplinks
  std::uint16_t vxlan_port = 0;
  bool native_routes = false;        // network.mode: native; otherwise vxlan
  std::optional<std::uint32_t> mtu;  // none: what the network's mode carries
  std::string oci_runtime;
  std::filesystem::path shim;
  bool snat = false;       // network.load_balancer_mode
  bool snat_auto = false;  // the same: where the network drops foreign sources
  bool socket_lb = true;
  bool tcx = true;
  bool redirect_peer = true;
  bool redirect_neigh = true;
  bool sk_storage = true;
  bool set_retval = true;
  bool coarse_clock = true;
  bool masquerade = true;
  bool xdp = true;
  bool xdp_on_veth = false;
  std::uint32_t services_max = 0;
  std::uint32_t backends_max = 0;
  std::uint32_t flows_max = 0;
  std::uint32_t ring_blocks_max = 0;
  std::uint32_t affinity_max = 0;
  std::uint32_t reserved_cpu_milli = 0;
  std::uint32_t reserved_memory_mib = 0;
  std::uint32_t pod_pids_max = 0;
  bool eviction = true;
  std::uint32_t eviction_memory_mib = 0;
  std::uint32_t eviction_disk_percent = 0;
  std::uint32_t eviction_inodes_percent = 0;
  std::uint32_t eviction_images_percent = 0;
  std::uint32_t eviction_pids = 0;
  std::uint32_t pressure_transition_s = 0;
  std::uint32_t pod_replace_after_s = 0;
  std::vector<Registry> registries;
  std::uint32_t parallel_pulls = 0;
  std::uint32_t pull_stall_s = 0;
  std::uint32_t gc_high_percent = 0;
  std::uint32_t gc_low_percent = 0;
  std::uint32_t gc_min_age_s = 0;
};

struct Problem {
  std::string where;  // "/etc/shoal/shoald.yaml:3:7", "--set", "--api-port"
  std::string key;    // "gossip.port"; empty when about no key
  std::string message;
  std::string str() const;
};
using Problems = std::vector<Problem>;

// A value given on the command line. `where` is how it was given.
struct Override {
  std::string where;
  std::string key;
  std::string value;
};

std::expected<Config, Problems> parse(std::string_view yaml, std::string_view file_name,
                                      std::span<const Override> overrides,
                                      std::string_view hostname);

// Reads the file. A missing one means all defaults when it is the default file, and a problem when
// it was asked for.
std::expected<Config, Problems> load(const std::optional<std::filesystem::path>& file,
                                     std::span<const Override> overrides);

// The shipped example: every key with its help, bounds and default.
std::string example();

struct CommandLine {
  std::optional<std::filesystem::path> file;  // --config
  std::vector<Override> overrides;            // --set KEY=VALUE, and --KEY-PATH VALUE
  bool check_config = false;                  // --check-config: read, report, exit
  bool print_example = false;                 // --print-example-config
  bool version = false;
  bool help = false;
  bool cleanup = false;  // --cleanup: see agent/daemon/cleanup.h; the next two are its own
  bool dry_run = false;  // --dry-run
  bool force = false;    // --force
};
// kInvalid: one line that says what is allowed.
Result<CommandLine>
parse_command_line(std::span<const char* const> arguments);  // without the program's name
std::string usage();

}  // namespace shoal::config
