// SPDX-License-Identifier: Apache-2.0
// What every data plane stands on: the uplinks, the overlay's device with the neighbour that stands
// for all other hosts, and a host that forwards.
#pragma once

#include "netplane/apply/config.h"
#include "netplane/apply/data_plane.h"
#include "netplane/apply/kernel_ports.h"
#include "netplane/base/clock.h"
#include "netplane/kernel/rtnl/pod_net.h"
#include "netplane/kernel/rtnl/rtnl.h"
#include "netplane/plan/routes.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace shoal::apply {

struct HostLinks {
  std::vector<kernel::Uplink> uplinks;  // the main one first; once made never empty
  std::vector<std::string> missing;     // of network.uplinks: what no link is
  std::vector<std::string> unfit;       // asked for, and no Ethernet
  kernel::Link overlay;
  std::uint32_t pod_mtu = 0;
  const kernel::Uplink& uplink() const { return uplinks.front(); }
};

// Finds out that the uplinks are not what they were: looks at them when something has changed, once
// a second at most, and for a twentieth of the time, however many routes there are to be read.
class UplinkWatch {
public:
  // uplinks: they have changed; routes: those to other hosts are to be looked at now.
  kernel::Stir look(const LinksStirred& stirred, kernel::Rtnl& rtnl, const Config& config,
                    const HostLinks& known, const Clock& clock);

private:
  kernel::Stir due_;
  MonoTime next_{};
};

// Whether what is attached to the uplinks, and what the LAN was told on them, has to be looked at
// anew: another device, MAC or subnet.
bool moved(const std::vector<kernel::Uplink>& before, const std::vector<kernel::Uplink>& now);
// What shoal status says of uplinks that were asked for and are not there.
std::vector<std::string> uplink_limitations(const HostLinks& links);
std::string describe(const std::vector<kernel::Uplink>& uplinks);  // "eth0 at MAC, eth1 at MAC"

// Makes what is missing and mends what is not as it should be; repeating it is cheap. kInvalid: the
// MTUs do not fit together.
Result<HostLinks> ensure_host_links(kernel::Rtnl& rtnl, const Config& config);

// What an audit tells of uplinks and MTUs that are not as they were.
void note_uplinks(const HostLinks& before, const HostLinks& now, AuditReport& report);
NetworkView network_view(const Config& config, const HostLinks& links,
                         const std::optional<model::Desired>& desired);

plan::OverlayOptions overlay_options(const Config& config, const HostLinks& links);
kernel::Route kernel_route(const plan::OverlayRoute& route, const HostLinks& links);
// Of those that Shoal makes: to other hosts or to services, on whichever device. A pod's has no
// gateway.
bool is_between_hosts(const kernel::Route& route);

// The pod that `attachment` asked for, as it was wired.
model::LocalPod wired_pod(const PodAttachment& attachment, const kernel::AttachedPod& link);

}  // namespace shoal::apply
