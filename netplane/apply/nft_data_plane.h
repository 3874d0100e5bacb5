// SPDX-License-Identifier: Apache-2.0
// NftDataPlane: the data plane of a host without BPF. The kernel forwards; nftables balances
// (kernel/nft/nft_service_table.h); routes say which host a pod CIDR is on, with the tunnel's head.
//
// Owns: the device shoal-vxlan, the routes of the overlay and those of service addresses, the
// tables `inet shoal`, `inet shoal-services` and `netdev shoal-overlay`, proxy entries for
// announced VIPs on the uplink.
//
// Service addresses are routed to the overlay's device without a far end: so a process can connect
// to one although no route of the host leads there, the kernel answers ARP for VIPs out of the
// LAN's prefix, and what is not balanced is refused in the forward chain and goes nowhere.
//
// On the wire it speaks with hosts of either kind, pod to pod. What hosts with BPF send for
// balanced connections whose backend is here (DSR) it does not understand: see limitations().
#pragma once

#include "netplane/apply/announcements.h"
#include "netplane/apply/apply_log.h"
#include "netplane/apply/data_plane.h"
#include "netplane/apply/host_links.h"
#include "netplane/apply/masquerade.h"
#include "netplane/apply/nft_ports.h"
#include "netplane/plan/nft_services.h"

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::apply {

class NftDataPlane final : public DataPlane {
public:
  static Result<std::unique_ptr<NftDataPlane>> open(const Config& config, const Clock& clock);
  // The same with the kernel handed in.
  static Result<std::unique_ptr<NftDataPlane>> open_with(const Config& config, NftPorts kernel,
                                                         const Clock& clock);

  using DataPlane::apply;
  ApplyReport apply(const model::Desired& desired, bool prune_allowed,
                    std::optional<std::span<const std::size_t>> changed) override;
  Result<model::LocalPod> attach_pod(const PodAttachment& attachment) override;
  Result<bool> detach_pod(std::string_view uid, const std::vector<IpAddress>& ips,
                          Detach how) override;
  // Also forgets UDP flows to backends that are gone.
  bool tick() override;
  AuditReport audit() override;
  DrainJob drain(std::span<const model::DrainGroup> groups) const override;

  Result<ServiceView> service_view(std::string_view id) const override;
  std::vector<std::string> service_names() const override;
  Result<Counters> counters() const override;
  Result<std::vector<kernel::DropCount>> drops() const override;
  std::vector<LruUse> lru_use() const override { return {}; }
  Result<FlowReading> begin_flows(const FlowFilter& filter) const override;
  Result<bool> next_flows(FlowReading& reading) const override;
  Result<Trace> trace(TraceQuery query) const override;
  Result<std::string> dump() const override;
  const std::vector<kernel::Uplink>& uplinks() const override { return links_.uplinks; }
  NetworkView network() const override;
  std::vector<std::string> limitations() const override;

private:
  using Routes = std::map<IpPrefix, kernel::Route>;

  NftDataPlane(const Config& config, NftPorts kernel, const Clock& clock);
  Result<> start();
  Result<bool> ensure_links();  // true when something had to be mended
  Result<> use_uplinks(std::vector<ObjectError>& errors);
  Result<Routes> read_routes() const;

  // nft_data_plane.cpp
  model::NftSetup setup() const;
  plan::NftOptions options() const;
  bool only_backends(const model::Desired& desired, std::span<const std::size_t> changed) const;
  void apply_services(const plan::NftPlan& plan, ApplyReport& report);
  Routes wanted_routes(const model::Desired& desired, ApplyReport& report) const;
  void apply_routes(const model::Desired& desired, ApplyReport& report);
  void mend_routes();
  void apply_proxies(const model::Desired& desired, ApplyReport& report);
  void note_udp_changes(const model::Desired& next);
  Result<const kernel::NftCounts*> counts() const;
  void forget_stale_udp(std::vector<ObjectError>& errors);

  Config config_;
  NftPorts kernel_;
  const Clock& clock_;
  HostLinks links_;
  Masquerade masquerade_;
  Announcements announcements_;

  plan::NftActual actual_;
  Routes routes_;                          // what the kernel holds of ours on the overlay's device
  std::set<kernel::Proxy> proxies_;        // and of proxy entries
  std::set<IpAddress> attached_;           // pods wired by this process
  std::optional<model::Desired> desired_;  // of the last apply
  bool prune_allowed_ = false;
  bool uplinks_used_ = false;  // they are prepared, and announced on
  bool bpf_removed_ = false;   // nothing of the other kind is left
  UplinkWatch uplink_watch_;
  MonoTime next_udp_look_{};
  bool udp_stale_ = true;  // some UDP service has lost a backend since the last look
  std::set<model::FrontendKey> udp_gone_;  // frontends of UDP that are nobody's any more
  ApplyLog log_;

  // What was counted a moment ago: views of many services would each read the whole table.
  mutable std::optional<std::pair<kernel::NftCounts, MonoTime>> counts_;
};

}  // namespace shoal::apply
