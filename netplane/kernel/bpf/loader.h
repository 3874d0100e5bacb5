// SPDX-License-Identifier: Apache-2.0
// Loader: the BPF programs of this host, from their skeletons to the hooks that they run at.
//
// Everything that must outlive the agent is pinned under one folder of a bpffs:
//   <root>/v<n>/<map>     the maps, set by set (map_sets.h): the highest is the current one
//   <root>/next/<map>     a set in the making
//   <root>/links/<name>   the attachments (links.h)
// open() loads this build's programs onto the current set; take_over() and each attach_*() then
// swap the programs of existing attachments in place, or make attachments. Until then the former
// agent's programs go on running, so a restart, however often, has no gap and leaves nothing
// double.
//
// Where this build wants maps of another layout or size, or other maps, open() makes the next set:
// what is alike is pinned in both, what the agent writes is converted entry by entry (layout.h),
// and a rename makes it the current set. What programs write (flows, affinity, counters) is carried
// over by take_over(), which then gives all hooks to the new programs at once (handover.h). Killed
// at any point, what was there goes on serving, and the next agent, of whichever build, goes on
// from there. What cannot be converted is made anew, and losses() says so. Fresh maps are empty:
// fill them before attaching. A limit below what a map holds is refused with kConflict.
//
// Errors carry the verifier's last lines. Network devices are those of the calling thread's
// namespace. One loader a root folder; not thread-safe.
#pragma once

#include "netplane/base/result.h"
#include "netplane/kernel/bpf/data_maps.h"
#include "netplane/kernel/bpf/handover.h"
#include "netplane/kernel/bpf/links.h"
#include "netplane/kernel/bpf/probes.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace shoal::kernel {

struct LoaderOptions {
  std::filesystem::path root = "/sys/fs/bpf/shoal";  // made when absent; its parent is a bpffs
  MapSizes sizes;
  Features allowed;             // switch one off to test its fallback
  std::uint64_t hash_seed = 0;  // the same on every host of a cluster
  // Told before or after each step of a change of sets and programs, for whoever wants to see what
  // an end at that point leaves.
  StepObserver on_step;
};

// One loaded program, for `shoal status` and tests.
struct ProgramInfo {
  std::string name;
  int fd = -1;  // owned by the loader
  std::uint32_t verified_insns = 0;
};

class Loader {
public:
  static Result<std::unique_ptr<Loader>> open(const LoaderOptions& options);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  const Features& features() const;
  std::vector<std::string> limitations() const;
  std::vector<ProgramInfo> programs() const;
  // What of an earlier build's maps could not be taken over, a sentence each.
  const std::vector<std::string>& losses() const;
  std::filesystem::path maps_folder() const;
  Result<std::unique_ptr<DataMaps>> maps() const;  // bpf_maps.h on maps_folder()

  // From former programs, where there are any: carries over what they have written, gives their
  // hooks to this build's programs, and removes the sets of maps that were theirs. Repeating it is
  // cheap.
  Result<> take_over();
  // The socket hooks of a cgroup2 folder and all below it. detach: sockets go back to plain
  // addresses.
  Result<> attach_cgroup(const std::filesystem::path& cgroup);
  Result<> detach_cgroup();
  // Both sides of the host's end of a pod's veth. Going with the device is fine; forget_pod, which
  // waits for nobody, then sweeps the pins.
  Result<> attach_pod(std::uint32_t ifindex);
  Result<> detach_pod(std::uint32_t ifindex);
  Result<> forget_pod(std::uint32_t ifindex);
  // Both sides of a device towards the LAN. Reads the device's MAC address, which ARP replies then
  // carry: call again when it has changed.
  Result<> attach_uplink(std::uint32_t ifindex);
  Result<> detach_uplink(std::uint32_t ifindex);
  Result<std::set<std::uint32_t>> uplinks() const;  // attached, by this agent or an earlier one
  // In front of the uplink's tc program, in the driver: takes what is for pods of other hosts, and
  // sends it from this host's `underlay` address to their vxlan_port itself. Reads the device's MAC
  // address: call again when it has changed. XDP is then on no other device. kConflict: another XDP
  // program is there. kUnsupported: the driver takes none, or features().xdp is false. After an
  // error tc does it all.
  Result<> attach_xdp(std::uint32_t ifindex, const IpAddress& underlay, std::uint16_t vxlan_port);
  Result<> detach_xdp();
  // Both sides of the VXLAN device, which must be in collect-metadata mode; other hosts are reached
  // through it. Reads the device's MTU, which balanced packets are held against: call again when it
  // has changed.
  Result<> attach_overlay(std::uint32_t ifindex);
  Result<> detach_overlay(std::uint32_t ifindex);

  // Interfaces with attachments of ours, this agent's or an earlier one's.
  Result<std::set<std::uint32_t>> attached_interfaces() const;
  // Pins whose device or cgroup is gone; returns their names.
  Result<std::vector<std::string>> remove_defunct();

private:
  class Impl;
  explicit Loader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// What remove_data_plane() would remove, sorted: "links/tcx-7-ingress", "v2/shoal_flows".
Result<std::vector<std::string>> list_data_plane(const std::filesystem::path& root);
// Removes every attachment and map under root, loaded by whichever version. Nothing there is fine.
Result<> remove_data_plane(const std::filesystem::path& root);

}  // namespace shoal::kernel
