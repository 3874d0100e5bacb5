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
// Threading: one thread, the agent's loop. apply() of a small change takes a fraction of a
// millisecond, attach_pod() about one.
#pragma once

#include "netplane/apply/kernel_ports.h"
#include "netplane/base/clock.h"
#include "netplane/base/result.h"
#include "netplane/model/model.h"
#include "netplane/plan/actual.h"
#include "netplane/plan/lb.h"
#include "netplane/plan/nft_policy.h"
#include "netplane/plan/routes.h"

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::apply {

// One object that could not be applied as asked.
struct ObjectError {
  std::string object;  // "service default/web:http/TCP", "route 10.244.2.0/24", "masquerade policy"
  Error error;
};

struct ApplyReport {
  std::size_t operations = 0;  // items written, switched or deleted in the kernel
  std::vector<ObjectError> errors;
  bool ok() const { return errors.empty(); }
};

// A pod to be wired. Its namespace exists; its address comes from the host's leases.
struct PodAttachment {
  std::string pod;  // "namespace/name"
  std::string uid;
  int netns_fd = -1;
  IpAddress ip;
  std::uint16_t generation = 0;
};

struct ShareView {
  std::string group;
  std::uint32_t weight = 0;  // asked
  double asked = 0;          // weight / sum of weights
  std::uint32_t slots = 0;   // in the ring now
  double effective = 0;      // slots / slots of the ring
  std::uint32_t ready = 0;   // backends
};

struct BackendView {
  model::Backend backend;
  model::BackendId id = model::kNoBackend;  // 0: not in the data plane (see ServiceView::errors)
  std::uint32_t epoch = 0;
  bool local = false;
  std::uint32_t slots = 0;
  double effective = 0;
  std::uint64_t connects = 0;  // picks by the socket hooks
  std::uint64_t flows = 0;     // new flows in tc
};

// What the data plane itself does for one service port.
struct ServiceView {
  std::string name;
  model::ServiceIndex index = 0;
  std::vector<model::Frontend> frontends;
  std::uint32_t slots = 0;  // 0: refuses
  std::vector<ShareView> shares;
  std::vector<BackendView> backends;
  kernel::ServiceStats stats;
  std::vector<std::string> errors;  // of the last apply
};

struct ServiceCounters {
  std::string name;
  kernel::ServiceStats stats;
};

struct Counters {
  std::vector<ServiceCounters> services;
  std::vector<kernel::DropCount> drops;
  std::uint64_t plans_applied = 0;
  std::uint64_t operations = 0;
  std::uint64_t errors = 0;
  std::uint64_t repairs = 0;        // found by audit()
  std::uint64_t announcements = 0;  // gratuitous ARP sent
  // Entries in use and sizes of the maps that can run full.
  std::uint32_t backends = 0, backends_max = 0;
  std::uint32_t ring_blocks = 0, ring_blocks_max = 0;
  std::uint32_t services_used = 0, services_max = 0;
};

struct AuditReport {
  std::vector<std::string> findings;  // what differed from the kept copy; repaired unless in errors
  std::vector<ObjectError> errors;
};

class DataPlane {
public:
  // Makes or repairs the device, loads and attaches the programs, reads back what the maps hold.
  // `clock` must outlive the object.
  static Result<std::unique_ptr<DataPlane>> open(const Config& config, const Clock& clock);
  // The same with the kernel handed in: for other backends and for fakes.
  static Result<std::unique_ptr<DataPlane>> open_with(const Config& config, KernelPorts kernel,
                                                      const Clock& clock);
  ~DataPlane();

  // `prune_allowed` is false until the caller's view is complete: then nothing is deleted and no
  // backend leaves a ring because it is merely missing from `desired`.
  ApplyReport apply(const model::Desired& desired, bool prune_allowed);

  // May be repeated; mends what is missing. The pod answers when it returns. What a failed call
  // made is gone again.
  Result<model::LocalPod> attach_pod(const PodAttachment& attachment);
  Result<> detach_pod(std::string_view uid, const IpAddress& ip);

  // To be called a few times a second: repeats gratuitous ARP, and frees what has had its grace.
  // Cheap when there is nothing to do.
  void tick();

  // Compares what the kernel holds with the kept copy and with the last desired state, and mends
  // it: somebody may have deleted a route, a device, a map entry or a filter.
  AuditReport audit();

  Result<ServiceView> service_view(std::string_view ns, std::string_view name,
                                   std::string_view port_name, L4Proto proto) const;
  std::vector<std::string> service_names() const;  // "ns/name:port/PROTO", sorted
  Result<Counters> counters() const;
  Result<std::vector<kernel::Flow>> flows(std::size_t limit) const;
  Result<std::string> dump() const;  // of the maps, as sorted text

  const kernel::Uplink& uplink() const { return uplink_; }
  std::uint32_t pod_mtu() const { return pod_mtu_; }
  // What this kernel cannot do, and what it costs; for the log at start and `shoal status`.
  const std::vector<std::string>& limitations() const { return limitations_; }

private:
  DataPlane(const Config& config, KernelPorts kernel, const Clock& clock);
  Result<> start();
  Result<> ensure_device();
  Result<> recover();
  Result<std::set<plan::OverlayRoute>> read_routes();
  void apply_overlay(const model::Desired& desired, bool prune, ApplyReport& report);
  void apply_pods(const model::Desired& desired, bool prune, ApplyReport& report);
  void apply_services(const model::Desired& desired, bool prune, ApplyReport& report);
  void apply_nft(const model::Desired& desired, ApplyReport& report);
  void note_announcements();
  void audit_services(AuditReport& report);
  void audit_overlay(AuditReport& report);
  void audit_pods(AuditReport& report);
  void audit_nft(AuditReport& report);

  Config config_;
  KernelPorts kernel_;
  const Clock& clock_;
  kernel::Uplink uplink_;
  kernel::Link overlay_;
  std::uint32_t pod_mtu_ = 0;
  std::vector<std::string> limitations_;

  plan::Actual actual_;
  plan::Overlay overlay_actual_;
  std::map<IpAddress, model::PodEntry> pods_;      // what shoal_pods holds
  std::map<IpAddress, model::PodEntry> attached_;  // by attach_pod of this process: never pruned
  std::optional<plan::NftPolicy> nft_;             // that the kernel holds; nothing: not known

  std::optional<model::Desired> desired_;  // of the last apply
  bool prune_allowed_ = false;
  std::map<std::string, model::ServiceIndex, std::less<>> index_of_;
  std::map<std::string, std::vector<std::string>, std::less<>> service_errors_;

  // Rounds and the times at which they ended, so that a stamp can be given its grace.
  plan::Stamp round_ = 0;
  std::vector<std::pair<plan::Stamp, MonoTime>> grace_;
  struct Announcement {
    MonoTime next;
    unsigned left = 0;
  };
  std::map<IpAddress, Announcement> announcements_;
  std::uint64_t plans_applied_ = 0, operations_ = 0, errors_ = 0, repairs_ = 0, announced_ = 0;
};

}  // namespace shoal::apply
