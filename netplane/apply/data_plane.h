// SPDX-License-Identifier: Apache-2.0
// DataPlane: the network of this host, as the agent sees it. It makes the kernel what a
// model::Desired says, and goes on being right when the agent dies and comes back.
//
// One of two, as config.proxy says: BPF programs and maps (bpf_data_plane.h), or nftables and the
// kernel's own forwarding (nft_data_plane.h). What one left in the kernel is taken away by the
// other once that serves.
//
// All of it stays in the kernel when the object goes, and is taken up again by the next
// open_data_plane(). Closing a DataPlane changes nothing.
//
// Errors. open_data_plane() fails when the data plane cannot be made to serve at all. apply() never
// throws away the rest for one object's sake: it reports what failed, object by object, and the
// next apply() goes on from there. Every error says what was being done and to what. What a data
// plane cannot tell is kUnsupported.
//
// Threading: one thread, the agent's loop, in the host's network namespace. apply() of a small
// change takes a millisecond or so, attach_pod() about one.
#pragma once

#include "netplane/apply/config.h"
#include "netplane/apply/drain.h"
#include "netplane/apply/views.h"
#include "netplane/base/clock.h"
#include "netplane/base/result.h"
#include "netplane/kernel/rtnl/rtnl.h"
#include "netplane/model/model.h"

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::apply {

struct ObjectError {
  std::string object;  // "service default/web:http/TCP", "route 10.244.2.0/24", "masquerade policy"
  Error error;
};

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
  DataPlane() = default;
  virtual ~DataPlane() = default;
  DataPlane(const DataPlane&) = delete;
  DataPlane& operator=(const DataPlane&) = delete;

  // `prune_allowed` is false until the caller's view is complete: then nothing is deleted, and no
  // backend leaves a ring because it is missing from `desired` or its host is.
  // `changed`: where in desired.services something differs from what the last call was given, when
  // nothing else does; places beyond the shorter one's end need not be named. Without it, anything
  // may differ. A service that comes, goes or changes then costs what it touches, however many
  // there are.
  virtual ApplyReport apply(const model::Desired& desired, bool prune_allowed,
                            std::optional<std::span<const std::size_t>> changed) = 0;
  ApplyReport apply(const model::Desired& desired, bool prune_allowed) {
    return apply(desired, prune_allowed, std::nullopt);
  }

  // May be repeated; mends what is missing. The pod answers when it returns. What a failed call
  // made is gone again. The pod's wiring stays until detach_pod, also when no desired state names
  // it.
  virtual Result<model::LocalPod> attach_pod(const PodAttachment& attachment) = 0;
  // Of a pod whose processes have ended, and with them, soon, its network namespace and its device.
  // False: that is under way; call again in some milliseconds. The kernel takes many such down at
  // once, while to delete a device, as kNow does, takes it some 20 ms, in which nobody else may
  // change one. What is gone already is fine; goes on past errors and returns the first.
  enum class Detach : std::uint8_t { kWithItsNamespace, kNow };
  virtual Result<bool> detach_pod(std::string_view uid, const std::vector<IpAddress>& ips,
                                  Detach how) = 0;

  // To be called a few times a second: repeats gratuitous ARP, and does a bit of what waits for its
  // time (about a millisecond). True: the uplinks, their addresses or MTUs are not what they were,
  // and audit() is to be called soon.
  virtual bool tick() = 0;

  // Compares what the kernel holds with what it should, and mends it: somebody may have deleted a
  // route, a device, an entry or a table. Reads all of it: for every minute or so.
  virtual AuditReport audit() = 0;

  // Closes the connections that are left of these groups, where the last apply() has them at weight
  // 0. The job is run elsewhere, and may outlive this object.
  virtual DrainJob drain(std::span<const model::DrainGroup> groups) const = 0;

  // What the kernel holds of one service, by its model::ServicePort::id(); kNotFound when it is not
  // in the desired state.
  virtual Result<ServiceView> service_view(std::string_view id) const = 0;
  virtual std::vector<std::string> service_names() const = 0;  // ids, sorted
  virtual Result<Counters> counters() const = 0;
  virtual Result<std::vector<kernel::DropCount>> drops() const = 0;
  virtual std::vector<LruUse> lru_use() const = 0;
  // With a filter the whole table is read, which takes up to 100 ms. So it is done in steps of at
  // most kernel::kWalkEntriesMax entries, with other work of the loop between them, until
  // next_flows() says false.
  virtual Result<FlowReading> begin_flows(const FlowFilter& filter) const = 0;
  virtual Result<bool> next_flows(FlowReading& reading) const = 0;
  // Reads all maps. For a pod, `client` is filled in: kNotFound when this host has no such pod.
  virtual Result<Trace> trace(TraceQuery query) const = 0;
  virtual Result<std::string> dump() const = 0;  // what the kernel holds, as sorted text

  // The devices towards the other hosts and clients, as last looked at; the main one first.
  virtual const std::vector<kernel::Uplink>& uplinks() const = 0;
  const kernel::Uplink& uplink() const { return uplinks().front(); }
  virtual NetworkView network() const = 0;
  // Underlay addresses of hosts whose backends outside clients reach by SNAT, as the kernel has it;
  // to go on from when an agent starts.
  virtual std::vector<IpAddress> reached_by_snat() const { return {}; }
  // What this data plane, this kernel or this config cannot do, and what that costs; for the log at
  // start and `shoal status`.
  virtual std::vector<std::string> limitations() const = 0;
};

// Makes or repairs devices, loads what is to be loaded, reads back what the kernel holds. `clock`
// must outlive the object.
Result<std::unique_ptr<DataPlane>> open_data_plane(const Config& config, const Clock& clock);

}  // namespace shoal::apply
