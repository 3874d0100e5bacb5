// SPDX-License-Identifier: Apache-2.0
// How the data plane of a host is set up: the part of shoald.yaml that concerns it, as values.
#pragma once

#include "netplane/base/clock.h"
#include "netplane/base/ip.h"
#include "netplane/kernel/bpf/data_maps.h"
#include "netplane/kernel/bpf/probes.h"
#include "netplane/kernel/rtnl/rtnl.h"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::apply {

inline constexpr std::string_view kOverlayLink = "shoal-vxlan";
inline constexpr std::uint32_t kOverlayOverheadBytes = 50;  // VXLAN over IPv4: 14 + 20 + 8 + 8
inline constexpr std::uint32_t kPodMtuMin = 576;            // RFC 791: what every host must take
inline constexpr std::uint32_t kPodMtuMinV6 = 1280;         // RFC 8200: what every link must carry

// How Services and the pods' network are made.
enum class ProxyMode : std::uint8_t {
  kEbpf,
  kNftables,  // for kernels and hosts without BPF
};

struct Config {
  ProxyMode proxy = ProxyMode::kEbpf;
  std::string node_name;
  std::string uplink;  // the main device; empty: found by `underlay`, then by the default route
  std::optional<IpAddress> underlay;  // this host's address towards the others
  std::vector<std::string> uplinks;   // names of all devices towards clients, '*' for any
                                      // characters; none: those of default routes
  bool ipv6 = false;                  // pods have addresses of that, too
  std::uint16_t vxlan_port = 4789;
  bool native_routes = false;  // pods of other hosts are reached by routes, not by the overlay
  std::uint32_t mtu = 0;  // of pods; 0: the main uplink's, without native routes less the overlay's
                          // overhead
  std::filesystem::path bpffs = "/sys/fs/bpf/shoal";
  std::filesystem::path cgroup_root =
      "/sys/fs/cgroup";  // a cgroup2 folder: it and all below is hooked
  kernel::MapSizes sizes;
  std::uint64_t hash_seed = 0;  // the same on every host of the cluster
  // Each can be switched off, so that every fallback can be tested on any kernel.
  kernel::Features allowed;
  bool socket_hooks = true;  // translate at connect; off: packets of pods are translated in tc
  bool masquerade = true;
  bool xdp_on_veth = false;  // use XDP there too: the uplink's other end takes what it sends
  // How outside clients reach pods of other hosts: masqueraded, and the replies come back through
  // this host; false: with their own address, and the pod's host replies (DSR), but for hosts of
  // which model::Node::snat says otherwise.
  bool snat = false;

  // How long a retired backend, ring block or index is left alone: far longer than any BPF program
  // runs, also on a host whose hypervisor takes its time.
  Duration grace = std::chrono::seconds(2);
  // So long after the last host that was reached by SNAT, connections that began so are still told
  // from others.
  Duration snat_linger = std::chrono::hours(1);
  // Gratuitous ARP when a VIP comes here: at once and so many times more, the n-th n intervals
  // after the one before; and then at every refresh, for switches that forget (0: never).
  unsigned announce_repeats = 5;
  Duration announce_interval = std::chrono::milliseconds(300);
  Duration announce_refresh = std::chrono::seconds(60);

  kernel::UplinkWish uplink_wish() const { return {uplink, underlay, uplinks}; }
};

}  // namespace shoal::apply
