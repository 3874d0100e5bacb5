// SPDX-License-Identifier: Apache-2.0
// Everything through which a DataPlane touches the kernel. open_kernel_ports() gives the real ones;
// tests and other backends hand in their own.
#pragma once

#include "netplane/apply/config.h"
#include "netplane/apply/drain.h"
#include "netplane/kernel/bpf/data_maps.h"
#include "netplane/kernel/nft/nft.h"
#include "netplane/kernel/rtnl/link_watch.h"
#include "netplane/kernel/rtnl/rtnl.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace shoal::apply {

// The programs, and where they are attached.
class Programs {
public:
  virtual ~Programs() = default;
  // The uplinks, both sides of the overlay device, and the cgroup; XDP on the first. Replaces what
  // an earlier agent left there without a gap, takes over what its programs have written, and
  // leaves no other uplink; repeating it is cheap and mends.
  virtual Result<> attach_host(const std::vector<kernel::Uplink>& uplinks,
                               const kernel::Link& overlay) = 0;
  virtual Result<> attach_pod(std::uint32_t host_ifindex) = 0;
  virtual Result<> detach_pod(std::uint32_t host_ifindex) = 0;
  virtual Result<> forget_pod(std::uint32_t host_ifindex) = 0;  // of a device that is going or gone
  // Programs of an earlier agent are at work somewhere.
  virtual Result<bool> attached_before() const = 0;
  // Sweeps what earlier agents left; to be called when everything of ours is attached.
  virtual Result<> sweep() = 0;
  // What this kernel lacks, and what could not be taken over from an earlier build, a sentence
  // each.
  virtual std::vector<std::string> limitations() const = 0;
};

// Tells the LAN that an address is here now.
class VipAnnouncer {
public:
  virtual ~VipAnnouncer() = default;
  virtual Result<> announce(const IpAddress& ip) = 0;
  // Questions for the address reach this host's program from now on, or need not any more.
  virtual Result<> listen_for(const IpAddress& ip) = 0;
  virtual void ignore(const IpAddress& ip) = 0;
};

// Each address is told of on one of the uplinks (kernel::uplink_towards).
using OpenAnnouncer =
    std::function<Result<std::unique_ptr<VipAnnouncer>>(const std::vector<kernel::Uplink>&)>;

// What of links, addresses and routes of this host has changed since it was asked last.
using LinksStirred = std::function<kernel::Stir()>;
Result<LinksStirred> watch_links();

struct KernelPorts {
  std::unique_ptr<kernel::Rtnl> rtnl;
  std::unique_ptr<kernel::DataMaps> maps;
  std::unique_ptr<kernel::Nft> nft;
  std::unique_ptr<Programs> programs;
  OpenAnnouncer open_announcer;
  LinksStirred links_stirred;
  // The network of a pod's namespace.
  std::function<Result<std::unique_ptr<kernel::Rtnl>>(int netns_fd)> open_pod_rtnl;
  // What the maps know of open connections, for another thread.
  OpenConnectionMaps open_connection_maps;
  // Takes away what a data plane of nftables left; none is success.
  std::function<Result<>()> remove_nftables;
};

// Through a packet socket on each uplink.
Result<std::unique_ptr<VipAnnouncer>>
open_lan_announcer(const std::vector<kernel::Uplink>& uplinks);

// In the calling thread's network and mount namespace.
Result<KernelPorts> open_kernel_ports(const Config& config);

}  // namespace shoal::apply
