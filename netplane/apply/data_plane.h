// SPDX-License-Identifier: Apache-2.0
// DataPlane: the network of this host, as the agent sees it. It makes the kernel what a
// model::Desired says, and goes on being right when the agent dies and comes back.
//
// Owns: the device shoal-vxlan, the attached BPF programs, the service, pod and node maps, the
// routes of the overlay, the table `inet shoal`. All of it stays in the kernel when the object
// goes, and is taken up again by the next open(). Closing a DataPlane changes nothing.
//
// Errors. open() fails when the data plane cannot be made to serve at all. apply() never throws
// away the rest for one object's sake: it reports what failed, object by object, and the next
// apply() goes on from there. Every error says what was being done and to what.
//
// Threading: one thread, the agent's loop, in the host's network namespace. apply() of a small
// change takes a millisecond or so, attach_pod() about one.
#pragma once

#include "netplane/apply/config.h"
#include "netplane/apply/kernel_ports.h"
#include "netplane/apply/plan_runner.h"
#include "netplane/apply/table_census.h"
#include "netplane/apply/views.h"
#include "netplane/base/clock.h"
#include "netplane/base/result.h"
#include "netplane/model/model.h"
#include "netplane/plan/actual.h"
#include "netplane/plan/lb.h"
#include "netplane/plan/nft_policy.h"
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

struct ApplyReport {
  std::size_t operations = 0;  // items written, switched or deleted in the kernel
  std::vector<ObjectError> errors;
  bool ok() const { return errors.empty(); }
};

// A pod to be wired. Its namespace exists; its addresses come from the host's leases.
struct PodAttachment {
  std::string pod;  // "namespace/name"
  std::string uid;
  int netns_fd = -1;
  std::vector<model::PodAddress> addresses;  // at most one of each family, IPv4 first
};

struct AuditReport {
  std::vector<std::string> findings;  // what was not as it should be
  std::vector<ObjectError> errors;    // what could not be mended
};

class DataPlane {
public:
  // Makes or repairs the device, loads and attaches the programs, reads back what the maps hold.
  // `clock` must outlive the object.
  static Result<std::unique_ptr<DataPlane>> open(const Config& config, const Clock& clock);
  // The same with the kernel handed in: for other backends, and for fakes.
  static Result<std::unique_ptr<DataPlane>> open_with(const Config& config, KernelPorts kernel,
                                                      const Clock& clock);
  ~DataPlane();
  DataPlane(const DataPlane&) = delete;
  DataPlane& operator=(const DataPlane&) = delete;

  // `prune_allowed` is false until the caller's view is complete: then nothing is deleted, and no
  // backend leaves a ring because it is missing from `desired` or its host is.
  // `changed`: where in desired.services something differs from what the last call was given, when
  // nothing else does; without it, anything may. A change of backends then costs what it touches,
  // however many services there are.
  ApplyReport apply(const model::Desired& desired, bool prune_allowed,
                    std::optional<std::span<const std::size_t>> changed = {});

  // May be repeated; mends what is missing. The pod answers when it returns. What a failed call
  // made is gone again. Programs and map entry stay until detach_pod, also when no desired state
  // names it.
  Result<model::LocalPod> attach_pod(const PodAttachment& attachment);
  // What is gone already is fine; goes on past errors and returns the first.
  Result<> detach_pod(std::string_view uid, const std::vector<IpAddress>& ips);

  // To be called a few times a second: repeats gratuitous ARP, frees what has had its grace, and
  // counts the flow table bit by bit (about a millisecond).
  void tick();

  // Compares what the kernel holds with what it should, and mends it: somebody may have deleted a
  // route, a device, a map entry or a table. Reads all maps: for every minute or so.
  AuditReport audit();

  // What the maps say of one service, by its model::ServicePort::id() or the parts of one without a
  // side; kNotFound when it is not in the desired state.
  Result<ServiceView> service_view(std::string_view id) const;
  Result<ServiceView> service_view(std::string_view ns, std::string_view name,
                                   std::string_view port_name, L4Proto proto) const;
  std::vector<std::string> service_names() const;  // ids, sorted
  Result<Counters> counters() const;
  Result<std::vector<kernel::DropCount>> drops() const { return kernel_.maps->drops(); }
  std::vector<LruUse> lru_use() const;
  // Reads the whole table when there is a filter: up to 100 ms.
  Result<FlowList> flows(const FlowFilter& filter) const;
  // Reads all maps. For a pod, `client` is filled in: kNotFound when this host has no such pod.
  Result<Trace> trace(TraceQuery query) const;
  Result<std::string> dump() const;  // of the maps, as sorted text

  const kernel::Uplink& uplink() const { return uplink_; }
  std::uint32_t pod_mtu() const { return pod_mtu_; }
  // What this kernel cannot do or the config has switched off, and what that costs; for the log at
  // start and `shoal status`.
  std::vector<std::string> limitations() const;

private:
  DataPlane(const Config& config, KernelPorts kernel, const Clock& clock);

  // data_plane_inspect.cpp
  std::map<IpAddress, std::string> pod_names() const;
  std::map<model::BackendId, TraceBackend> backend_names() const;

  // data_plane_start.cpp
  Result<> start();
  Result<> ensure_links();
  Result<> recover();
  Result<std::set<plan::OverlayRoute>> read_routes();
  Result<> recover_nft();
  Result<> attach_programs();

  // data_plane.cpp
  void set_overlay(const plan::OverlayPlan& plan, ApplyReport& report);
  void delete_overlay(const plan::OverlayPlan& plan, ApplyReport& report);
  void apply_pods(const model::Desired& desired, bool prune, ApplyReport& report);
  void apply_services(const model::Desired& desired, bool prune, ApplyReport& report);
  std::optional<std::vector<plan::KnownService>>
  known_services(const model::Desired& desired, std::span<const std::size_t> changed) const;
  void finish(const ApplyReport& report);
  void apply_nft(const model::Desired& desired, ApplyReport& report);
  kernel::NftRules nft_rules(const plan::NftPolicy& policy) const;
  void apply_announcements(const model::Desired& desired, ApplyReport& report);
  void run(const plan::Plan& plan, ApplyReport& report);
  void announce_due(ApplyReport* report);
  void release_after_grace();
  kernel::Route kernel_route(const plan::OverlayRoute& route) const;

  // data_plane_audit.cpp
  void audit_links(AuditReport& report);
  void audit_overlay(const model::DataPlane& maps, AuditReport& report);
  void audit_pods(const model::DataPlane& maps, AuditReport& report);
  void audit_source_ranges(const model::DataPlane& maps, AuditReport& report);
  void audit_services(const model::DataPlane& maps, AuditReport& report);
  void audit_backends(const model::DataPlane& maps, AuditReport& report);
  void audit_nft(AuditReport& report);

  Config config_;
  KernelPorts kernel_;
  const Clock& clock_;
  kernel::Uplink uplink_;
  kernel::Link overlay_;
  std::uint32_t pod_mtu_ = 0;
  bool programs_attached_ = false;

  plan::Actual actual_;
  plan::Overlay overlay_actual_;
  std::map<IpAddress, model::PodEntry> pods_;      // what shoal_pods holds
  std::map<IpAddress, model::PodEntry> attached_;  // by this process: not pruned
  // What the table holds: nothing when that is not known, and then nothing for "no table".
  std::optional<std::optional<plan::NftPolicy>> nft_;

  std::optional<model::Desired> desired_;  // of the last apply
  bool prune_allowed_ = false;
  bool clean_ = false;  // the last apply met no error
  std::map<std::string, model::ServiceIndex, std::less<>> index_of_;
  std::map<std::string, std::vector<std::string>, std::less<>> errors_of_;  // by object

  // Rounds of operations and when they ended, so that their stamps get their grace.
  plan::Stamp round_ = 0;
  std::deque<std::pair<plan::Stamp, MonoTime>> rounds_;

  struct Announcement {
    MonoTime next;
    unsigned sent = 0;
  };
  TableCensus census_;
  std::unique_ptr<VipAnnouncer> announcer_;
  std::map<IpAddress, Announcement> announcements_;
  std::uint64_t plans_ = 0, operations_ = 0, errors_ = 0, repairs_ = 0, announced_ = 0;
};

}  // namespace shoal::apply
