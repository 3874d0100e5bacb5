// SPDX-License-Identifier: Apache-2.0
// BpfDataPlane: the data plane made of BPF programs and maps.
//
// Owns: the device shoal-vxlan, the attached BPF programs, the service, pod and node maps, the
// routes of the overlay, the table `inet shoal`.
#pragma once

#include "netplane/apply/announcements.h"
#include "netplane/apply/apply_log.h"
#include "netplane/apply/data_plane.h"
#include "netplane/apply/host_links.h"
#include "netplane/apply/kernel_ports.h"
#include "netplane/apply/masquerade.h"
#include "netplane/apply/plan_runner.h"
#include "netplane/apply/table_census.h"
#include "netplane/plan/actual.h"
#include "netplane/plan/lb.h"
#include "netplane/plan/routes.h"

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::apply {

class BpfDataPlane final : public DataPlane {
public:
  // Makes or repairs the device, loads and attaches the programs, reads back what the maps hold.
  // `clock` must outlive the object.
  static Result<std::unique_ptr<BpfDataPlane>> open(const Config& config, const Clock& clock);
  // The same with the kernel handed in: for other backends, and for fakes.
  static Result<std::unique_ptr<BpfDataPlane>> open_with(const Config& config, KernelPorts kernel,
                                                         const Clock& clock);
  ~BpfDataPlane() override;

  using DataPlane::apply;
  ApplyReport apply(const model::Desired& desired, bool prune_allowed,
                    std::optional<std::span<const std::size_t>> changed) override;
  Result<model::LocalPod> attach_pod(const PodAttachment& attachment) override;
  Result<bool> detach_pod(std::string_view uid, const std::vector<IpAddress>& ips,
                          Detach how) override;
  // Frees what has had its grace, and counts the flow table bit by bit.
  bool tick() override;
  AuditReport audit() override;
  DrainJob drain(std::span<const model::DrainGroup> groups) const override;

  Result<ServiceView> service_view(std::string_view id) const override;
  // By the parts of an id without a side.
  Result<ServiceView> service_view(std::string_view ns, std::string_view name,
                                   std::string_view port_name, L4Proto proto) const;
  std::vector<std::string> service_names() const override;
  Result<Counters> counters() const override;
  Result<std::vector<kernel::DropCount>> drops() const override { return kernel_.maps->drops(); }
  std::vector<LruUse> lru_use() const override;
  Result<FlowReading> begin_flows(const FlowFilter& filter) const override;
  Result<bool> next_flows(FlowReading& reading) const override;
  Result<Trace> trace(TraceQuery query) const override;
  Result<std::string> dump() const override;

  const std::vector<kernel::Uplink>& uplinks() const override { return links_.uplinks; }
  NetworkView network() const override;
  std::vector<IpAddress> reached_by_snat() const override;
  std::vector<std::string> limitations() const override;

private:
  BpfDataPlane(const Config& config, KernelPorts kernel, const Clock& clock);

  // data_plane_inspect.cpp
  std::map<IpAddress, std::string> pod_names() const;
  std::map<model::BackendId, TraceBackend> backend_names() const;
  std::string service_of(const FlowReading& reading, const FlowView& view) const;

  // data_plane_start.cpp
  Result<> start();
  Result<> ensure_links();
  Result<> recover();
  Result<std::set<plan::OverlayRoute>> read_routes();
  Result<> attach_programs();
  Result<> set_host();
  void look_at_snat();

  // data_plane.cpp
  void set_overlay(const plan::OverlayPlan& plan, ApplyReport& report);
  void delete_overlay(const plan::OverlayPlan& plan, ApplyReport& report);
  void apply_pods(const model::Desired& desired, bool prune, ApplyReport& report);
  void apply_services(const model::Desired& desired, bool prune, ApplyReport& report);
  std::optional<plan::Plan> plan_at(const model::Desired& desired,
                                    std::span<const std::size_t> changed) const;
  void follow(const model::Desired& desired, std::span<const std::size_t> changed,
              const plan::Plan& plan);
  void apply_announcements(const model::Desired& desired, ApplyReport& report);
  void run(const plan::Plan& plan, ApplyReport& report);
  void mend_routes();
  void release_after_grace();
  plan::OverlayPlan overlay_plan(const model::Desired& desired) const;

  // data_plane_audit.cpp
  void audit_links(AuditReport& report);
  void audit_overlay(const model::DataPlane& maps, AuditReport& report);
  void audit_pods(const model::DataPlane& maps, AuditReport& report);
  void audit_source_ranges(const model::DataPlane& maps, AuditReport& report);
  void audit_services(const model::DataPlane& maps, AuditReport& report);
  void audit_backends(const model::DataPlane& maps, AuditReport& report);

  Config config_;
  KernelPorts kernel_;
  const Clock& clock_;
  HostLinks links_;
  bool announcer_is_old_ = false;  // for other uplinks than there are
  bool programs_attached_ = false;
  bool nftables_left_ = true;  // what a data plane of that kind may have left is not yet swept

  plan::Actual actual_;
  plan::Overlay overlay_actual_;
  std::optional<model::HostEntry> host_;            // what shoal_config holds
  bool stack_backends_ = false;                     // some backend is or was no pod
  bool snat_ = false;                               // some host is reached by SNAT, or was
  MonoTime snat_seen_{};                            // that one was, last
  std::map<IpAddress, model::PodEntry> pods_;       // what shoal_pods holds
  std::map<IpAddress, model::PodEntry> attached_;   // by this process: not pruned
  std::map<std::string, std::uint32_t> detaching_;  // devices that are going, and their indices

  std::optional<model::Desired> desired_;  // of the last apply
  bool prune_allowed_ = false;
  std::map<std::string, model::ServiceIndex, std::less<>> index_of_;

  // Rounds of operations and when they ended, so that their stamps get their grace.
  plan::Stamp round_ = 0;
  std::deque<std::pair<plan::Stamp, MonoTime>> rounds_;

  UplinkWatch uplink_watch_;
  TableCensus census_;
  Masquerade masquerade_;
  Announcements announcements_;
  ApplyLog log_;
};

}  // namespace shoal::apply
