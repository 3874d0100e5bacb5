// SPDX-License-Identifier: Apache-2.0
// DataMaps: the data plane's maps, as the applier and the inspection commands see them.
//
// The real implementation (bpf_maps.h) works on the pinned BPF maps of bpf/abi/shoal_abi.h; the
// fake (tests/fakes/fake_data_maps.h) on std::map, with faults injected by operation number.
// Everything here is in host types; byte order and layouts are turned inside. Reads come from the
// kernel, there is no cache.
//
// Writes are upserts and deletes of what is already absent succeed, so that a failed plan can be
// applied again from its start. A batch is written in order; after an error some prefix of it is in
// place. Order between calls is the caller's: publish backends, then ring blocks, then switch_ring,
// then frontends; remove in reverse.
//
// Errors: kInvalid (an id or ring outside the map sizes, an address of the wrong family),
// kExhausted (a map is full; the message names the config key that sizes it), kIo. Not thread-safe:
// the agent's loop thread owns it.
#pragma once

#include "netplane/base/result.h"
#include "netplane/kernel/bpf/flow_hash.h"
#include "netplane/model/data_plane.h"

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace shoal::kernel {

// Entries of each map. The entries of a pinned map of another size are taken over (loader.h).
struct MapSizes {
  std::uint32_t services = 65'536;
  std::uint32_t frontends = 131'072;
  std::uint32_t vips = 65'536;
  std::uint32_t backends = 131'072;
  std::uint32_t ring_blocks = 262'144;
  std::uint32_t pods = 4'096;
  std::uint32_t nodes = 4'096;
  std::uint32_t flows = 262'144;
  std::uint32_t udp_flows = 65'536;
  std::uint32_t affinity = 65'536;  // clients that stay with a backend, over all services
  std::uint32_t source_ranges = 65'536;
  bool operator==(const MapSizes&) const = default;
};

struct BackendWrite {
  model::BackendId id = model::kNoBackend;
  model::BackendEntry entry;
};

struct FrontendWrite {
  model::FrontendKey key;
  model::FrontendEntry entry;
};

struct VipWrite {
  IpAddress ip;
  model::VipEntry entry;
};

// Sums over the CPUs, since the map was made or the index was cleared.
struct ServiceStats {
  std::uint64_t connects = 0;  // picks by the socket hooks
  std::uint64_t flows = 0;     // new flows in tc; of TCP, SYNs
  std::uint64_t packets = 0;   // client to backend, in tc
  std::uint64_t bytes = 0;
  std::uint64_t refused = 0;  // no backend
  // Open TCP connections whose slot has had other owners, and which none of them knows.
  std::uint64_t unclaimed = 0;
  bool operator==(const ServiceStats&) const = default;
};

struct BackendStats {
  std::uint64_t connects = 0;
  std::uint64_t flows = 0;
  bool operator==(const BackendStats&) const = default;
};

struct DropCount {
  std::string_view name;  // "NO_BACKEND": the metric label
  std::string_view text;  // for people
  std::uint64_t packets = 0;
};

// One entry of the flow table (bpf/abi/shoal_abi.h says what the two directions mean).
struct Flow {
  bool reverse = false;
  L4Proto proto = L4Proto::kTcp;
  SocketAddress source;
  SocketAddress destination;
  SocketAddress translated;  // forward: the backend; reverse: the VIP
  model::ServiceIndex service = 0;
  model::BackendId backend = 0;
  std::uint32_t epoch = 0;
  std::uint16_t generation = 0;
  bool closing = false;
  std::uint32_t idle_s = 0;
  bool operator==(const Flow&) const = default;
};

// A UDP flow that was idle for longer is over: SHOAL_UDP_IDLE_S.
inline constexpr std::uint32_t kUdpIdle_s = 180;

// Bits of packets that netfilter shall masquerade: SHOAL_MARK_MASQUERADE.
inline constexpr std::uint32_t kMasqueradeMark = 0x00800000;

// What session affinity remembers of one client.
struct Affinity {
  model::BackendId backend = model::kNoBackend;
  std::uint32_t epoch = 0;
  std::uint32_t idle_s = 0;  // since the client's last new connection
  bool operator==(const Affinity&) const = default;
};

// The tables that the programs themselves fill. The kernel does not count their entries, and makes
// room by forgetting those that were not used for longest; it does so without a word, and entries
// of what has ended stay until then. So a table being full says little; see Tally::active.
enum class LruTable : std::uint8_t { kFlows, kAffinity };

// A walk over one of them in steps of at most kWalkEntriesMax entries, about a millisecond each.
// Entries that come or go meanwhile may be missed or not.
inline constexpr std::size_t kWalkEntriesMax = 4096;
struct TableWalk {
  std::vector<std::uint8_t> at;  // the kernel's cursor; empty: at the beginning
};
struct Tally {
  std::uint32_t entries = 0;
  std::uint32_t active = 0;   // seen within kUdpIdle_s, and not closing
  std::uint32_t closing = 0;  // flows that have seen a FIN or RST
};

class DataMaps {
public:
  virtual ~DataMaps() = default;

  virtual const MapSizes& sizes() const = 0;

  virtual Result<> put_backends(std::span<const BackendWrite> writes) = 0;
  // Whole blocks of model::kRingBlockSlots, that lie one behind the other from `first_block` on.
  // Slots with their marks, former owners where a ring has a history (model::RingRef).
  virtual Result<> put_ring_blocks(std::uint32_t first_block,
                                   std::span<const model::BackendId> slots) = 0;
  // What lies in them, as it was put.
  virtual Result<std::vector<model::BackendId>> ring_blocks(std::uint32_t first_block,
                                                            std::uint32_t count) const = 0;
  // One aligned 8-byte store: every hook sees the old ring or the new one, never a mixture. An
  // empty ref makes the service refuse. The old ring's blocks may still be read for a moment: reuse
  // them after a grace only.
  virtual Result<> switch_ring(model::ServiceIndex service, model::RingRef ref) = 0;
  virtual Result<model::RingRef> ring_ref(model::ServiceIndex service) const = 0;

  virtual Result<> put_frontends(std::span<const FrontendWrite> writes) = 0;
  virtual Result<> delete_frontends(std::span<const model::FrontendKey> keys) = 0;
  // Outside clients that a restricted frontend of the service takes.
  virtual Result<> put_source_range(model::ServiceIndex service, const IpPrefix& range) = 0;
  virtual Result<> delete_source_range(model::ServiceIndex service, const IpPrefix& range) = 0;
  virtual Result<> put_vips(std::span<const VipWrite> writes) = 0;
  virtual Result<> delete_vip(const IpAddress& ip) = 0;
  virtual Result<> put_pod(const IpAddress& ip, const model::PodEntry& entry) = 0;
  virtual Result<> delete_pod(const IpAddress& ip) = 0;
  // This host's own IPv6 CIDR also completes the addresses of balanced frames from other hosts, of
  // which only the low 32 bits travel: its pods' addresses share the CIDR's upper 96.
  virtual Result<> put_node(const IpPrefix& cidr, const model::NodeEntry& entry) = 0;
  virtual Result<> delete_node(const IpPrefix& cidr) = 0;

  virtual Result<> put_host(const model::HostEntry& entry) = 0;

  // All of it, for recovery at start, audits and dumps.
  virtual Result<model::DataPlane> read() const = 0;

  virtual Result<std::vector<ServiceStats>>
  service_stats(std::span<const model::ServiceIndex> services) const = 0;
  virtual Result<std::vector<BackendStats>>
  backend_stats(std::span<const model::BackendId> backends) const = 0;
  // Before an index is given to another service or backend.
  virtual Result<> clear_service_stats(std::span<const model::ServiceIndex> services) = 0;
  virtual Result<> clear_backend_stats(model::BackendId backend) = 0;
  virtual Result<std::vector<DropCount>>
  drops() const = 0;  // every reason but NONE, in the .def's order
  // The next step over the flow table, in its order; false when that was the last one.
  virtual Result<bool> next_flows(TableWalk& walk,
                                  const std::function<void(const Flow&)>& visit) const = 0;
  Result<std::vector<Flow>> flows(std::size_t limit) const;  // the first ones
  // The flow of a packet of a client to a frontend, if there is one.
  virtual Result<std::optional<Flow>> find_flow(const FlowTuple& packet) const = 0;
  // What is remembered of a client that is known by its address, not by its network namespace.
  virtual Result<std::optional<Affinity>> find_affinity(model::ServiceIndex service,
                                                        const IpAddress& client) const = 0;
  // The next step: adds to `tally`; false when that was the last one.
  virtual Result<bool> tally(LruTable table, TableWalk& walk, Tally& tally) const = 0;
};

// One line an entry, sorted: the form of golden files and of `shoal` dumps. For example
//   backend 3 10.244.1.5:8080 gen=1 epoch=1 node=198.18.0.12
//   frontend 10.96.0.10:80/TCP service=1
//   ring 1 slots=64 first_block=0 2*32 3*32
std::string dump(const model::DataPlane& data_plane);

// What no prefix of any plan may leave behind: a ring that names a backend which is not valid, a
// ClusterIP frontend whose address is no VIP. Empty when all is well; for audits and tests.
std::vector<std::string> violations(const model::DataPlane& data_plane);

}  // namespace shoal::kernel
