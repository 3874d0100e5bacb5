// SPDX-License-Identifier: Apache-2.0
// Attachments that outlive the agent. Each has a pin in one folder of bpffs, whose name says what
// it is:
//
//   cgroup-<hook>                  a cgroup link
//   tcx-<ifindex>-ingress|egress   a TCX link
//   xdp-<ifindex>                  an XDP link, in the driver's own mode
//   tc-<ifindex>-ingress|egress    the program of a clsact filter: the filter lives on the device,
//   the pin remembers it
//
// Attaching where our own pin stands swaps the program in place (link update, filter replace): no
// packet sees a gap. A pin whose target is gone (device deleted, index used again, cgroup removed)
// is defunct and replaced. Only what is pinned here is ever touched: other programs on a device are
// somebody else's.
#pragma once

#include "netplane/base/result.h"

#include <cstdint>
#include <filesystem>
#include <linux/bpf.h>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::kernel {

// Newer than the headers that we build with.
inline constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);
inline constexpr auto kTcxEgress = static_cast<bpf_attach_type>(47);

enum class TcSide : std::uint8_t { kIngress, kEgress };
std::string_view to_string(TcSide side);

// An attachment that works, and its program.
struct HookedProgram {
  std::string pin;  // its name in the folder
  std::uint32_t program_id = 0;
};

class Links {
public:
  // `folder` exists, on bpffs. With tcx false, clsact filters are used.
  Links(std::filesystem::path folder, bool tcx) : folder_(std::move(folder)), tcx_(tcx) {}

  Result<> attach_tc(std::uint32_t ifindex, TcSide side, int prog_fd);
  // To a pod's device, by a filter also where there is TCX: when a device goes, the kernel waits
  // for a grace period a TCX hook, some 12 ms, and nobody else may change any device meanwhile. A
  // link of an earlier build stays one.
  Result<> attach_pod_tc(std::uint32_t ifindex, TcSide side, int prog_fd);
  Result<> detach_tc(std::uint32_t ifindex, TcSide side);
  // Of a device that is going or gone, with which its programs go: no more than their pins.
  Result<> forget_tc(std::uint32_t ifindex, TcSide side);
  // kConflict: somebody else's program is there. kUnsupported: the driver has no XDP of its own, or
  // not for this device as it is set up.
  Result<> attach_xdp(std::uint32_t ifindex, int prog_fd);
  // From every device but this one; 0: from all.
  Result<> detach_xdp_but(std::uint32_t ifindex);
  Result<> attach_cgroup(std::string_view hook, bpf_attach_type type, int cgroup_fd,
                         std::uint64_t cgroup_id, int prog_fd);
  Result<> detach_cgroup(std::string_view hook);

  // Every attachment whose target is there.
  Result<std::vector<HookedProgram>> hooked() const;
  // Gives one of them another program in place. One whose target is gone by now is left alone.
  Result<> swap(const std::string& pin, int prog_fd) const;
  // Interfaces that have attachments, by their pins.
  Result<std::set<std::uint32_t>> interfaces() const;
  // Removes pins whose target is gone. Returns their names.
  Result<std::vector<std::string>> remove_defunct();
  // Everything, in whatever way it was attached.
  Result<> remove_all();

private:
  std::filesystem::path tcx_pin(std::uint32_t ifindex, TcSide side) const;
  std::filesystem::path xdp_pin(std::uint32_t ifindex) const;
  std::filesystem::path filter_pin(std::uint32_t ifindex, TcSide side) const;
  Result<bool> swap_link(const std::filesystem::path& pin, std::uint32_t ifindex, int prog_fd);
  Result<> attach_tcx(std::uint32_t ifindex, TcSide side, int prog_fd);
  Result<> attach_filter(std::uint32_t ifindex, TcSide side, int prog_fd) const;
  Result<> detach_filter(std::uint32_t ifindex, TcSide side);
  bool filter_runs(std::uint32_t ifindex, TcSide side, int prog_fd) const;
  Result<bool> is_defunct(const std::string& name) const;

  std::filesystem::path folder_;
  bool tcx_;
};

}  // namespace shoal::kernel
