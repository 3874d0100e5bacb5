// SPDX-License-Identifier: Apache-2.0
// Everything through which a DataPlane touches the kernel, and how it is set up. The real ones come
// from open_kernel_ports(); tests hand in fakes.
#pragma once

#include "netplane/base/clock.h"
#include "netplane/base/ip.h"
#include "netplane/base/result.h"
#include "netplane/kernel/bpf/data_maps.h"
#include "netplane/kernel/nft/nft.h"
#include "netplane/kernel/rtnl/pod_net.h"
#include "netplane/kernel/rtnl/rtnl.h"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace shoal::apply {

inline constexpr std::string_view kOverlayLink = "shoal-vxlan";
inline constexpr std::uint32_t kOverlayOverheadBytes = 50;  // VXLAN over IPv4: 20 + 8 + 8 + 14

// Each can be switched off, so that every fallback can be tested on any kernel.
struct Switches {
  bool socket_lb = true;  // translate at connect; off: pods' packets are translated in tc
  bool tcx = true;        // TCX links; off: clsact filters
  bool masquerade = true;
  bool operator==(const Switches&) const = default;
};

struct Config {
  std::string node_name;
  std::string uplink;  // device name; empty: found by `underlay`, then by the default route
  std::optional<IpAddress> underlay;  // this host's address towards the others
  std::vector<IpPrefix> pod_cidrs;    // of this host
  std::uint16_t vxlan_port = 4789;
  std::uint32_t mtu = 0;  // of pods; 0: the uplink's less the overlay's overhead
  std::filesystem::path bpffs = "/sys/fs/bpf/shoal";
  std::filesystem::path cgroup_root = "/sys/fs/cgroup";  // a cgroup2 mount; its subtree is hooked
  Switches switches;
  kernel::MapSizes sizes;
  // How long a retired backend, ring block or index is left alone: far longer than any BPF program
  // runs, also on a host whose hypervisor takes its time.
  Duration grace = std::chrono::seconds(2);
  unsigned announce_repeats = 5;                                // gratuitous ARP after a takeover,
  Duration announce_interval = std::chrono::milliseconds(500);  // the n-th after n times this
  Duration announce_refresh = std::chrono::seconds(60);  // and then so often, for good; 0: never
};

// The attached programs.
class Programs {
public:
  virtual ~Programs() = default;
  // Attaches to the uplink, the overlay device and the cgroup; replaces what an earlier agent left
  // there without a gap.
  virtual Result<> attach_host(const kernel::Uplink& uplink, std::uint32_t overlay_ifindex) = 0;
  virtual Result<> attach_pod(std::uint32_t host_ifindex) = 0;
  // What goes by itself with the device need not be done; what is pinned is unpinned.
  virtual Result<> detach_pod(std::uint32_t host_ifindex) = 0;
  virtual std::vector<std::string> limitations() const = 0;
};

class Announcing {
public:
  virtual ~Announcing() = default;
  virtual Result<> announce(const IpAddress& ip) = 0;
};

struct KernelPorts {
  std::unique_ptr<kernel::Rtnl> rtnl;
  std::unique_ptr<kernel::DataMaps> maps;
  std::unique_ptr<kernel::Nft> nft;
  std::unique_ptr<Programs> programs;
  std::unique_ptr<Announcing> announcing;  // may be null: nothing is announced
  // Opens the Rtnl of a pod's namespace.
  std::function<Result<std::unique_ptr<kernel::Rtnl>>(int netns_fd)> open_pod_rtnl;
};

Result<KernelPorts> open_kernel_ports(const Config& config);

}  // namespace shoal::apply
