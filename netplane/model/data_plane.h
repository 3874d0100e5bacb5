// SPDX-License-Identifier: Apache-2.0
// What the eBPF data plane of one host holds, entry by entry, in host types: the planner's
// "actual", the applier's operands, and what kernel::DataMaps reads back. The maps themselves and
// their byte order are in bpf/abi/shoal_abi.h; kernel/bpf converts. Ports and numbers are in host
// byte order.
//
// Two rules tie entries together, and whoever writes them (netplane/plan) keeps them:
//   - an id in a ring names a valid backend, or no slot of it has an owner (refuse); a frontend
//   names a service whose ring ref may be empty (refuse). Former owners may be gone;
//   - a backend id that is given to another address gets a larger epoch. A freed id keeps its epoch
//   in the
//     map (see BackendEntry::valid), so that this holds across restarts of the agent.
#pragma once

#include "netplane/base/ip.h"

#include <compare>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace shoal::model {

using ServiceIndex =
    std::uint32_t;  // into shoal_ring_refs and shoal_service_stats; 0 is a service like any other
using BackendId = std::uint32_t;  // 1 .. backends_max - 1; 0 means none
inline constexpr BackendId kNoBackend = 0;
inline constexpr std::uint32_t kRingBlockSlots = 64;
inline constexpr std::uint32_t kRingSlotsMax = 1'048'576;

struct FrontendKey {
  IpAddress ip;
  std::uint16_t port = 0;
  L4Proto proto = L4Proto::kTcp;
  auto operator<=>(const FrontendKey&) const = default;
};

// Not a service: the clients of that side have no frontend here.
inline constexpr ServiceIndex kNoService = UINT32_MAX;

struct FrontendEntry {
  ServiceIndex inside = kNoService;   // for sockets of this host and for its pods
  ServiceIndex outside = kNoService;  // for packets from the LAN
  std::uint32_t affinity_s = 0;       // a client stays with its backend for so long; 0: it does not
  bool restricted = false;            // outside clients are held against source_ranges[outside]
  bool entries = false;               // connections may have entries that the ring knows nothing of
  auto operator<=>(const FrontendEntry&) const = default;
};

std::string to_string(const FrontendEntry& entry);  // "service=3 outside=4 affinity=60s restricted"

// An address that is some frontend's: other ports of it are refused at once.
struct VipEntry {
  bool announced = false;  // this host answers ARP for it
  auto operator<=>(const VipEntry&) const = default;
};

// A slot of a ring is a backend's id, with this mark when others had it before.
inline constexpr BackendId kSlotMoved = 0x80000000U;
inline constexpr std::uint32_t kSlotFormer = 2;  // owners that are remembered of a slot

// Where a ring lies. slots == 0: there is none, the service refuses.
struct RingRef {
  std::uint32_t first_block = 0;
  std::uint32_t slots = 0;
  bool history = false;  // the slots' former owners lie behind it
  // Of the ring alone, and with its history.
  std::uint32_t ring_blocks() const { return (slots + kRingBlockSlots - 1) / kRingBlockSlots; }
  std::uint32_t blocks() const { return ring_blocks() * (history ? 1 + kSlotFormer : 1); }
  bool empty() const { return slots == 0; }
  auto operator<=>(const RingRef&) const = default;
};

struct Ring {
  RingRef ref;
  std::vector<BackendId> backends;  // ref.slots of them, without marks
  std::vector<BackendId> former;    // kSlotFormer for each slot; empty without a history
  bool refuses() const;             // no slot has an owner
  bool operator==(const Ring&) const = default;
};

// A ring out of the ref.blocks() that it lies in, slots with their marks.
Ring ring_of(const RingRef& ref, std::vector<BackendId> blocks);

struct BackendEntry {
  IpAddress ip;
  std::uint16_t port = 0;
  std::uint16_t generation = 0;  // of the lease on ip
  std::uint32_t epoch = 0;       // of the id
  bool local = false;     // of this host: a pod, or with `stack` a process at its own address
  IpAddress node;         // VXLAN endpoint of its host; unspecified when local or outside
  bool valid = true;      // false: the id is free, only the epoch counts
  bool draining = false;  // no new connections: affinity does not lead here any more
  bool stack = false;     // no pod: a process at its host's own address, or outside
  bool snat = false;      // outside clients reach it masqueraded, not by DSR
  bool answers = false;   // its host, another one, is alive and can be asked whose a flow is
  auto operator<=>(const BackendEntry&) const = default;
};

struct PodEntry {
  std::uint32_t ifindex = 0;  // of the host's end of its veth
  std::uint16_t generation = 0;
  MacAddress pod_mac;
  MacAddress host_mac;
  auto operator<=>(const PodEntry&) const = default;
};

struct NodeEntry {
  IpAddress underlay;   // VXLAN endpoint; unspecified: this host's own pod CIDR
  bool native = false;  // pod to pod goes by the host's routes, and not by the overlay
  auto operator<=>(const NodeEntry&) const = default;
};

// What the programs know of this host itself.
struct HostEntry {
  IpAddress v4, v6;             // where its processes are backends; unspecified: it has none
  bool stack_backends = false;  // there are backends that are no pods: replies leave by the stack
  bool snat = false;            // backends have `snat`, or had not long ago
  bool native = false;          // pods of other hosts send by the LAN
  auto operator<=>(const HostEntry&) const = default;
};

// Everything that user space writes. Rings hold only services with a ring; free backend ids that
// were used before are in `backends` with valid == false.
struct DataPlane {
  std::map<FrontendKey, FrontendEntry> frontends;
  std::map<IpAddress, VipEntry> vips;
  std::map<ServiceIndex, std::set<IpPrefix>> source_ranges;
  std::map<ServiceIndex, Ring> rings;
  std::map<BackendId, BackendEntry> backends;
  std::map<IpAddress, PodEntry> pods;
  std::map<IpPrefix, NodeEntry> nodes;
  HostEntry host;
  bool operator==(const DataPlane&) const = default;
};

}  // namespace shoal::model
