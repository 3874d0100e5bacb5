// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/bpf/bpf_maps.h"

#include "bpf/abi/shoal_abi.h"
#include "netplane/kernel/bpf/array_window.h"
#include "netplane/kernel/bpf/data_maps_check.h"
#include "netplane/kernel/bpf/syscalls.h"

#include <arpa/inet.h>
#include <atomic>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <numeric>
#include <set>
#include <sys/mman.h>

namespace shoal::kernel {
namespace {

static_assert(model::kRingBlockSlots == SHOAL_RING_BLOCK_SLOTS);
static_assert(model::kRingSlotsMax == SHOAL_RING_SLOTS_MAX);
static_assert(model::kSlotMoved == SHOAL_SLOT_MOVED && model::kSlotFormer == SHOAL_SLOT_FORMER);
static_assert(kUdpIdle_s == SHOAL_UDP_IDLE_S);

// From so many entries on, mapping an array costs less than handing it every entry.
constexpr std::size_t kWindowEntriesMin = 128;
constexpr std::size_t kClearedAtOnce = 256;  // counters of all CPUs

constexpr std::string_view kDropNames[] = {
#define SHOAL_DROP(name, text) #name,
#include "bpf/abi/drop_reasons.def"
#undef SHOAL_DROP
};
constexpr std::string_view kDropTexts[] = {
#define SHOAL_DROP(name, text) text,
#include "bpf/abi/drop_reasons.def"
#undef SHOAL_DROP
};

// ---- host types <-> layouts
// -------------------------------------------------------------------------

shoal_addr to_abi(const IpAddress& ip) {
  shoal_addr out;
  std::memcpy(out.b, ip.bytes().data(), sizeof(out.b));
  return out;
}

IpAddress from_abi(const shoal_addr& addr) {
  IpAddress::Bytes bytes;
  std::memcpy(bytes.data(), addr.b, bytes.size());
  return IpAddress::from_bytes(bytes);
}

// A VXLAN endpoint: IPv4, 0 when unspecified.
__be32 node_to_abi(const IpAddress& ip) { return ip.is_v4() ? htonl(ip.v4_host_order()) : 0; }

IpAddress node_from_abi(__be32 node) {
  return node == 0 ? IpAddress() : IpAddress::v4(ntohl(node));
}

shoal_frontend_key to_abi(const model::FrontendKey& key) {
  return {.addr = to_abi(key.ip),
          .port = htons(key.port),
          .proto = static_cast<__u8>(key.proto),
          .pad = 0};
}

model::FrontendKey from_abi(const shoal_frontend_key& key) {
  return {from_abi(key.addr), ntohs(key.port), static_cast<L4Proto>(key.proto)};
}

static_assert(kMasqueradeMark == SHOAL_MARK_MASQUERADE);

shoal_backend to_abi(const model::BackendEntry& e) {
  if (!e.valid)
    return {.epoch = e.epoch};
  return {.addr = to_abi(e.ip),
          .port = htons(e.port),
          .generation = e.generation,
          .epoch = e.epoch,
          .flags = SHOAL_BE_VALID | (e.local ? __u32{SHOAL_BE_LOCAL} : 0U) |
                   (e.draining ? __u32{SHOAL_BE_DRAINING} : 0U) |
                   (e.stack ? __u32{SHOAL_BE_STACK} : 0U) | (e.snat ? __u32{SHOAL_BE_SNAT} : 0U) |
                   (e.answers ? __u32{SHOAL_BE_ANSWERS} : 0U),
          .node = e.local ? 0 : node_to_abi(e.node)};
}

model::BackendEntry from_abi(const shoal_backend& e) {
  if (!(e.flags & SHOAL_BE_VALID))
    return {.epoch = e.epoch, .valid = false};
  return {.ip = from_abi(e.addr),
          .port = ntohs(e.port),
          .generation = e.generation,
          .epoch = e.epoch,
          .local = (e.flags & SHOAL_BE_LOCAL) != 0,
          .node = node_from_abi(e.node),
          .valid = true,
          .draining = (e.flags & SHOAL_BE_DRAINING) != 0,
          .stack = (e.flags & SHOAL_BE_STACK) != 0,
          .snat = (e.flags & SHOAL_BE_SNAT) != 0,
          .answers = (e.flags & SHOAL_BE_ANSWERS) != 0};
}

shoal_frontend to_abi(const model::FrontendEntry& e) {
  return {.inside = e.inside,
          .outside = e.outside,
          .affinity_s = e.affinity_s,
          .flags = (e.restricted ? __u32{SHOAL_FE_RESTRICTED} : 0U) |
                   (e.entries ? __u32{SHOAL_FE_ENTRIES} : 0U)};
}

model::FrontendEntry from_abi(const shoal_frontend& e) {
  return {e.inside, e.outside, e.affinity_s, (e.flags & SHOAL_FE_RESTRICTED) != 0,
          (e.flags & SHOAL_FE_ENTRIES) != 0};
}

shoal_source_key to_abi(model::ServiceIndex service, const IpPrefix& range) {
  return {.prefix_bits = SHOAL_SOURCE_SERVICE_BITS + range.length_mapped(),
          .service = service,
          .addr = to_abi(range.address())};
}

shoal_pod to_abi(const model::PodEntry& e) {
  shoal_pod out{
      .ifindex = e.ifindex, .generation = e.generation, .pad = 0, .mac = {}, .host_mac = {}};
  std::memcpy(out.mac, e.pod_mac.bytes().data(), 6);
  std::memcpy(out.host_mac, e.host_mac.bytes().data(), 6);
  return out;
}

model::PodEntry from_abi(const shoal_pod& e) {
  MacAddress::Bytes pod, host;
  std::memcpy(pod.data(), e.mac, 6);
  std::memcpy(host.data(), e.host_mac, 6);
  return {e.ifindex, e.generation, MacAddress::from_bytes(pod), MacAddress::from_bytes(host)};
}

shoal_node_key to_abi(const IpPrefix& cidr) {
  return {.prefix_bits = cidr.length_mapped(), .addr = to_abi(cidr.address())};
}

// An IPv4 prefix of 0.0.0.0/0 is ::ffff:0:0/96 in mapped form.
IpPrefix prefix_from_abi(const shoal_addr& addr, std::uint32_t bits) {
  const IpAddress ip = from_abi(addr);
  return IpPrefix::containing(ip, ip.is_v4() && bits >= 96 ? bits - 96 : bits);
}

IpPrefix from_abi(const shoal_node_key& key) { return prefix_from_abi(key.addr, key.prefix_bits); }

model::RingRef ref_from_abi(std::uint64_t ref) {
  const auto low = static_cast<std::uint32_t>(ref);
  return {.first_block = static_cast<std::uint32_t>(ref >> 32),
          .slots = low & ~SHOAL_RING_HISTORY,
          .history = (low & SHOAL_RING_HISTORY) != 0};
}

std::uint64_t to_abi(const model::RingRef& ref) {
  return ref.empty()
             ? 0
             : SHOAL_RING_REF(ref.first_block, ref.slots | (ref.history ? SHOAL_RING_HISTORY : 0U));
}

std::uint32_t now_s() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<std::uint32_t>(now.tv_sec);
}

std::uint32_t age_s(std::uint32_t now, std::uint32_t seen_s) {
  return now > seen_s ? now - seen_s : 0;
}

Flow from_abi(const shoal_flow_key& key, const shoal_flow& flow) {
  const bool reverse = key.dir == SHOAL_FLOW_REVERSE;
  return {.reverse = reverse,
          .proto = static_cast<L4Proto>(key.proto),
          .source = {from_abi(key.saddr), ntohs(key.sport)},
          .destination = {from_abi(key.daddr), ntohs(key.dport)},
          .translated = {from_abi(flow.addr), ntohs(flow.port)},
          .service = flow.service,
          .backend = flow.backend,
          .epoch = reverse ? 0 : flow.epoch,
          .generation = flow.generation,
          .closing = (flow.flags & SHOAL_FLOW_CLOSING) != 0,
          .idle_s = age_s(now_s(), flow.seen_s)};
}

template <class T>
T load(const void* bytes) {
  T out;
  std::memcpy(&out, bytes, sizeof(out));
  return out;
}

// ---- the mapped array of ring references --------------------------------------------------------

class MappedRefs {
public:
  MappedRefs() = default;
  MappedRefs(MappedRefs&& other) noexcept
      : refs_(std::exchange(other.refs_, nullptr)), bytes_(other.bytes_) {}
  MappedRefs& operator=(MappedRefs&&) = delete;
  ~MappedRefs() {
    if (refs_ != nullptr)
      munmap(refs_, bytes_);
  }

  static Result<MappedRefs> map(int fd, std::uint32_t entries) {
    MappedRefs out;
    out.bytes_ = entries * sizeof(std::uint64_t);
    void* at = mmap(nullptr, out.bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
      return fail_errno("map shoal_ring_refs");
    out.refs_ = static_cast<std::uint64_t*>(at);
    return out;
  }

  // Release: the ring's blocks, written before by a system call, are seen by whoever sees the
  // reference.
  void store(std::uint32_t index, std::uint64_t ref) {
    std::atomic_ref<std::uint64_t>(refs_[index]).store(ref, std::memory_order_release);
  }
  std::uint64_t load(std::uint32_t index) const {
    return std::atomic_ref<std::uint64_t>(refs_[index]).load(std::memory_order_acquire);
  }

private:
  std::uint64_t* refs_ = nullptr;
  std::size_t bytes_ = 0;
};

// ---- the maps -----------------------------------------------------------------------------------

struct Fds {
  UniqueFd config, frontends, source_ranges, vips, ring_refs, ring_blocks, backends, pods, nodes,
      peers, flows, udp_pick, affinity, service_stats, backend_stats, drops;
};

class BpfMaps final : public DataMaps {
public:
  BpfMaps(Fds fds, MappedRefs refs, const MapSizes& sizes, int cpus)
      : fds_(std::move(fds)), refs_(std::move(refs)), sizes_(sizes), cpus_(cpus) {}

  const MapSizes& sizes() const override { return sizes_; }

  Result<> put_backends(std::span<const BackendWrite> writes) override {
    __u32 first = UINT32_MAX, last = 0;
    for (const BackendWrite& write : writes) {
      SHOAL_TRY(check_backend(sizes_, write));
      first = std::min(first, write.id);
      last = std::max(last, write.id);
    }
    const bool dense = writes.size() >= kWindowEntriesMin && last - first < 2 * writes.size();
    if (auto window = dense ? ArrayWindow::map(fds_.backends.get(), first, last - first + 1,
                                               sizeof(shoal_backend))
                            : std::nullopt) {
      for (const BackendWrite& write : writes) {
        const shoal_backend value = to_abi(write.entry);
        std::memcpy(window->at(write.id), &value, sizeof(value));
      }
      return {};
    }
    std::vector<__u32> keys;
    std::vector<shoal_backend> values;
    for (const BackendWrite& write : writes) {
      keys.push_back(write.id);
      values.push_back(to_abi(write.entry));
    }
    return write_all_of(fds_.backends, keys, values, "shoal_backends", "backends", sizes_.backends);
  }

  Result<> put_ring_blocks(std::uint32_t first_block,
                           std::span<const model::BackendId> slots) override {
    SHOAL_TRY(check_ring_blocks(sizes_, first_block, slots));
    static_assert(sizeof(shoal_ring_block) == sizeof(model::BackendId) * model::kRingBlockSlots);
    const auto blocks = static_cast<__u32>(slots.size() / model::kRingBlockSlots);
    if (auto window = blocks >= kWindowEntriesMin
                          ? ArrayWindow::map(fds_.ring_blocks.get(), first_block, blocks,
                                             sizeof(shoal_ring_block))
                          : std::nullopt) {
      std::memcpy(window->at(first_block), slots.data(), slots.size_bytes());
      return {};
    }
    std::vector<__u32> keys(blocks);
    std::iota(keys.begin(), keys.end(), first_block);
    SHOAL_TRY_WRAP(update_entries(fds_.ring_blocks.get(), keys.data(), sizeof(__u32), slots.data(),
                                  sizeof(shoal_ring_block), blocks),
                   "shoal_ring_blocks");
    return {};
  }

  Result<std::vector<model::BackendId>> ring_blocks(std::uint32_t first_block,
                                                    std::uint32_t count) const override {
    std::vector<model::BackendId> slots(std::size_t{count} * model::kRingBlockSlots);
    SHOAL_TRY(check_ring_blocks(sizes_, first_block, slots));
    if (auto window = count >= kWindowEntriesMin
                          ? ArrayWindow::map(fds_.ring_blocks.get(), first_block, count,
                                             sizeof(shoal_ring_block))
                          : std::nullopt) {
      std::memcpy(slots.data(), window->at(first_block), slots.size() * sizeof(slots[0]));
      return slots;
    }
    for (__u32 i = 0; i < count; i++) {
      const __u32 block = first_block + i;
      if (bpf_map_lookup_elem(fds_.ring_blocks.get(), &block,
                              &slots[std::size_t{i} * model::kRingBlockSlots]) != 0)
        return fail_errno(fmt::format("read ring block {}", block));
    }
    return slots;
  }

  Result<> switch_ring(model::ServiceIndex service, model::RingRef ref) override {
    SHOAL_TRY(check_ring(sizes_, service, ref));
    refs_.store(service, to_abi(ref));
    return {};
  }

  Result<model::RingRef> ring_ref(model::ServiceIndex service) const override {
    SHOAL_TRY(check_service(sizes_, service));
    return ref_from_abi(refs_.load(service));
  }

  Result<> put_frontends(std::span<const FrontendWrite> writes) override {
    std::vector<shoal_frontend_key> keys;
    std::vector<shoal_frontend> values;
    for (const FrontendWrite& write : writes) {
      SHOAL_TRY(check_frontend(sizes_, write));
      keys.push_back(to_abi(write.key));
      values.push_back(to_abi(write.entry));
    }
    return write_all_of(fds_.frontends, keys, values, "shoal_frontends", "frontends",
                        sizes_.frontends);
  }

  Result<> delete_frontends(std::span<const model::FrontendKey> keys) override {
    for (const model::FrontendKey& key : keys)
      SHOAL_TRY(erase(fds_.frontends, to_abi(key), "shoal_frontends"));
    return {};
  }

  Result<> put_source_range(model::ServiceIndex service, const IpPrefix& range) override {
    SHOAL_TRY(check_service(sizes_, service));
    return write_one(fds_.source_ranges, to_abi(service, range), __u32{1}, "shoal_source_ranges",
                     "source_ranges", sizes_.source_ranges);
  }
  Result<> delete_source_range(model::ServiceIndex service, const IpPrefix& range) override {
    return erase(fds_.source_ranges, to_abi(service, range), "shoal_source_ranges");
  }

  Result<> put_vips(std::span<const VipWrite> writes) override {
    std::vector<shoal_addr> keys;
    std::vector<shoal_vip> values;
    for (const VipWrite& write : writes) {
      keys.push_back(to_abi(write.ip));
      values.push_back({.flags = write.entry.announced ? __u32{SHOAL_VIP_ANNOUNCED} : 0U});
    }
    return write_all_of(fds_.vips, keys, values, "shoal_vips", "vips", sizes_.vips);
  }
  Result<> delete_vip(const IpAddress& ip) override {
    return erase(fds_.vips, to_abi(ip), "shoal_vips");
  }

  Result<> put_pod(const IpAddress& ip, const model::PodEntry& entry) override {
    return write_one(fds_.pods, to_abi(ip), to_abi(entry), "shoal_pods", "pods", sizes_.pods);
  }
  Result<> delete_pod(const IpAddress& ip) override {
    return erase(fds_.pods, to_abi(ip), "shoal_pods");
  }

  // The set of members first: a host's packets are let in before anything is sent to it.
  Result<> put_node(const IpPrefix& cidr, const model::NodeEntry& entry) override {
    SHOAL_TRY(check_node(cidr, entry));
    shoal_node value{.node = node_to_abi(entry.underlay),
                     .flags = entry.native ? __u32{SHOAL_NODE_NATIVE} : 0U};
    if (value.node != 0)
      SHOAL_TRY(write_one(fds_.peers, value.node, __u8{1}, "shoal_peers", "nodes", sizes_.nodes));
    SHOAL_TRY(write_one(fds_.nodes, to_abi(cidr), value, "shoal_nodes", "nodes", sizes_.nodes));
    return derive_from_nodes();
  }

  Result<> delete_node(const IpPrefix& cidr) override {
    SHOAL_TRY(erase(fds_.nodes, to_abi(cidr), "shoal_nodes"));
    return derive_from_nodes();
  }

  Result<> put_host(const model::HostEntry& entry) override {
    shoal_config config = SHOAL_TRY(read_config());
    config.self[0] = to_abi(entry.v4);
    config.self[1] = to_abi(entry.v6);
    config.flags = (entry.stack_backends ? __u32{SHOAL_CONFIG_STACK_BACKENDS} : 0U) |
                   (entry.snat ? __u32{SHOAL_CONFIG_SNAT} : 0U) |
                   (entry.native ? __u32{SHOAL_CONFIG_NATIVE} : 0U);
    return write_config(config);
  }

  Result<model::DataPlane> read() const override;
  Result<std::vector<ServiceStats>>
  service_stats(std::span<const model::ServiceIndex> services) const override;
  Result<std::vector<BackendStats>>
  backend_stats(std::span<const model::BackendId> backends) const override;
  Result<> clear_service_stats(std::span<const model::ServiceIndex> services) override;
  Result<> clear_backend_stats(model::BackendId backend) override;
  Result<std::vector<DropCount>> drops() const override;
  Result<bool> next_flows(TableWalk& walk,
                          const std::function<void(const Flow&)>& visit) const override;
  Result<std::optional<Flow>> find_flow(const FlowTuple& packet) const override;
  Result<std::optional<Affinity>> find_affinity(model::ServiceIndex service,
                                                const IpAddress& client) const override;
  Result<bool> tally(LruTable table, TableWalk& walk, Tally& tally) const override;

  // What follows from the nodes: the members' addresses, without those that no CIDR names any more
  // (a crash between a node's two writes can leave one), and this host's own IPv6 CIDR.
  Result<> derive_from_nodes() {
    std::set<__be32> wanted;
    IpAddress pod_net6;
    SHOAL_TRY(for_each_entry(fds_.nodes.get(), sizeof(shoal_node_key), sizeof(shoal_node),
                             [&](const void* key, const void* value) {
                               const auto cidr = from_abi(load<shoal_node_key>(key));
                               const __be32 node = load<shoal_node>(value).node;
                               wanted.insert(node);
                               if (node == 0 && !cidr.is_v4())
                                 pod_net6 = cidr.address();
                               return true;
                             }));
    SHOAL_TRY(set_pod_net6(pod_net6));
    std::vector<__be32> gone;
    SHOAL_TRY(for_each_entry(fds_.peers.get(), sizeof(__be32), sizeof(__u8),
                             [&](const void* key, const void*) {
                               if (!wanted.contains(load<__be32>(key)))
                                 gone.push_back(load<__be32>(key));
                               return true;
                             }));
    for (__be32 peer : gone)
      SHOAL_TRY(erase(fds_.peers, peer, "shoal_peers"));
    return {};
  }

private:
  Result<shoal_config> read_config() const {
    const __u32 zero = 0;
    shoal_config config{};
    if (bpf_map_lookup_elem(fds_.config.get(), &zero, &config) != 0)
      return fail_errno("read shoal_config");
    return config;
  }

  Result<> write_config(const shoal_config& config) {
    const __u32 zero = 0;
    if (bpf_map_update_elem(fds_.config.get(), &zero, &config, BPF_ANY) != 0)
      return fail_errno("write shoal_config");
    return {};
  }

  Result<> set_pod_net6(const IpAddress& first) {
    shoal_config config = SHOAL_TRY(read_config());
    if (from_abi(config.pod_net6) == first)
      return {};
    config.pod_net6 = to_abi(first);
    return write_config(config);
  }

  static Error write_error(Error error, std::string_view map, std::string_view config_key,
                           std::uint64_t entries) {
    if (error.code() == Errc::kExhausted)
      return map_full(map, config_key, entries);
    return std::move(error).wrap(map);
  }

  template <class K, class V>
  static Result<> write_all_of(const UniqueFd& fd, const std::vector<K>& keys,
                               const std::vector<V>& values, std::string_view map,
                               std::string_view config_key, std::uint64_t entries) {
    if (keys.empty())
      return {};
    auto written = update_entries(fd.get(), keys.data(), sizeof(K), values.data(), sizeof(V),
                                  static_cast<std::uint32_t>(keys.size()));
    if (!written)
      return fail(write_error(std::move(written).error(), map, config_key, entries));
    return {};
  }

  template <class K, class V>
  static Result<> write_one(const UniqueFd& fd, const K& key, const V& value, std::string_view map,
                            std::string_view config_key, std::uint64_t entries) {
    auto written = update_entries(fd.get(), &key, sizeof(K), &value, sizeof(V), 1);
    if (!written)
      return fail(write_error(std::move(written).error(), map, config_key, entries));
    return {};
  }

  template <class K>
  static Result<> erase(const UniqueFd& fd, const K& key, std::string_view map) {
    if (bpf_map_delete_elem(fd.get(), &key) != 0 && errno != ENOENT)
      return fail_errno(fmt::format("delete from {}", map));
    return {};
  }

  template <class V, class K>
  static Result<std::optional<V>> find(const UniqueFd& fd, const K& key, std::string_view map) {
    V value{};
    if (bpf_map_lookup_elem(fd.get(), &key, &value) == 0)
      return std::optional(value);
    if (errno == ENOENT)
      return std::optional<V>();
    return fail_errno(fmt::format("look up in {}", map));
  }

  // The values of all CPUs at one index; libbpf's count of possible CPUs is what the kernel writes.
  template <class V>
  Result<std::vector<V>> per_cpu(const UniqueFd& fd, __u32 index) const {
    static_assert(sizeof(V) % 8 == 0);
    std::vector<V> values(static_cast<std::size_t>(cpus_));
    if (bpf_map_lookup_elem(fd.get(), &index, values.data()) != 0)
      return fail_errno(fmt::format("read a counter at {}", index));
    return values;
  }

  template <class V>
  Result<> clear_per_cpu(const UniqueFd& fd, __u32 index) {
    std::vector<V> zero(static_cast<std::size_t>(cpus_));
    if (bpf_map_update_elem(fd.get(), &index, zero.data(), BPF_ANY) != 0)
      return fail_errno(fmt::format("clear a counter at {}", index));
    return {};
  }

  Result<model::Ring> ring(const model::RingRef& ref) const;

  Fds fds_;
  MappedRefs refs_;
  MapSizes sizes_;
  int cpus_;
};

Result<model::Ring> BpfMaps::ring(const model::RingRef& ref) const {
  return model::ring_of(ref, SHOAL_TRY(ring_blocks(ref.first_block, ref.blocks())));
}

Result<model::DataPlane> BpfMaps::read() const {
  model::DataPlane out;
  const shoal_config config = SHOAL_TRY(read_config());
  out.host = {.v4 = from_abi(config.self[0]),
              .v6 = from_abi(config.self[1]),
              .stack_backends = (config.flags & SHOAL_CONFIG_STACK_BACKENDS) != 0,
              .snat = (config.flags & SHOAL_CONFIG_SNAT) != 0,
              .native = (config.flags & SHOAL_CONFIG_NATIVE) != 0};
  SHOAL_TRY_WRAP(for_each_entry(fds_.frontends.get(), sizeof(shoal_frontend_key),
                                sizeof(shoal_frontend),
                                [&](const void* key, const void* value) {
                                  out.frontends[from_abi(load<shoal_frontend_key>(key))] =
                                      from_abi(load<shoal_frontend>(value));
                                  return true;
                                }),
                 "shoal_frontends");
  SHOAL_TRY_WRAP(for_each_entry(fds_.source_ranges.get(), sizeof(shoal_source_key), sizeof(__u32),
                                [&](const void* key, const void*) {
                                  const auto source = load<shoal_source_key>(key);
                                  out.source_ranges[source.service].insert(prefix_from_abi(
                                      source.addr, source.prefix_bits - SHOAL_SOURCE_SERVICE_BITS));
                                  return true;
                                }),
                 "shoal_source_ranges");
  SHOAL_TRY_WRAP(for_each_entry(fds_.vips.get(), sizeof(shoal_addr), sizeof(shoal_vip),
                                [&](const void* key, const void* value) {
                                  auto vip = load<shoal_vip>(value);
                                  out.vips[from_abi(load<shoal_addr>(key))] = {
                                      (vip.flags & SHOAL_VIP_ANNOUNCED) != 0};
                                  return true;
                                }),
                 "shoal_vips");
  SHOAL_TRY_WRAP(for_each_entry(fds_.backends.get(), sizeof(__u32), sizeof(shoal_backend),
                                [&](const void* key, const void* value) {
                                  auto be = load<shoal_backend>(value);
                                  auto id = load<__u32>(key);
                                  if (id != model::kNoBackend && be.epoch != 0)
                                    out.backends[id] = from_abi(be);
                                  return true;
                                }),
                 "shoal_backends");
  SHOAL_TRY_WRAP(for_each_entry(fds_.pods.get(), sizeof(shoal_addr), sizeof(shoal_pod),
                                [&](const void* key, const void* value) {
                                  out.pods[from_abi(load<shoal_addr>(key))] =
                                      from_abi(load<shoal_pod>(value));
                                  return true;
                                }),
                 "shoal_pods");
  SHOAL_TRY_WRAP(for_each_entry(fds_.nodes.get(), sizeof(shoal_node_key), sizeof(shoal_node),
                                [&](const void* key, const void* value) {
                                  auto node = load<shoal_node>(value);
                                  out.nodes[from_abi(load<shoal_node_key>(key))] = {
                                      node_from_abi(node.node),
                                      (node.flags & SHOAL_NODE_NATIVE) != 0};
                                  return true;
                                }),
                 "shoal_nodes");
  for (std::uint32_t service = 0; service < sizes_.services; ++service) {
    const model::RingRef ref = ref_from_abi(refs_.load(service));
    if (ref.empty())
      continue;
    if (!check_ring(sizes_, service, ref))
      return fail(Errc::kCorrupt,
                  fmt::format("shoal_ring_refs[{}] names a ring of {} slots from block "
                              "{}, which cannot be; have the maps made anew",
                              service, ref.slots, ref.first_block));
    out.rings[service] = SHOAL_TRY(ring(ref));
  }
  return out;
}

Result<std::vector<ServiceStats>>
BpfMaps::service_stats(std::span<const model::ServiceIndex> services) const {
  std::vector<ServiceStats> out;
  for (model::ServiceIndex service : services) {
    SHOAL_TRY(check_service(sizes_, service));
    ServiceStats& sum = out.emplace_back();
    for (const shoal_service_stats& s :
         SHOAL_TRY(per_cpu<shoal_service_stats>(fds_.service_stats, service))) {
      sum.connects += s.connects;
      sum.flows += s.flows;
      sum.packets += s.packets;
      sum.bytes += s.bytes;
      sum.refused += s.refused;
      sum.unclaimed += s.unclaimed;
    }
  }
  return out;
}

Result<std::vector<BackendStats>>
BpfMaps::backend_stats(std::span<const model::BackendId> backends) const {
  std::vector<BackendStats> out;
  for (model::BackendId id : backends) {
    SHOAL_TRY(check_backend_id(sizes_, id));
    BackendStats& sum = out.emplace_back();
    for (const shoal_backend_stats& s :
         SHOAL_TRY(per_cpu<shoal_backend_stats>(fds_.backend_stats, id))) {
      sum.connects += s.connects;
      sum.flows += s.flows;
    }
  }
  return out;
}

Result<> BpfMaps::clear_service_stats(std::span<const model::ServiceIndex> services) {
  for (const model::ServiceIndex service : services)
    SHOAL_TRY(check_service(sizes_, service));
  const std::size_t bytes = sizeof(shoal_service_stats) * static_cast<std::size_t>(cpus_);
  const std::vector<std::uint8_t> zero(bytes * std::min(services.size(), kClearedAtOnce));
  for (std::size_t at = 0; at < services.size(); at += kClearedAtOnce) {
    const auto part = services.subspan(at, std::min(kClearedAtOnce, services.size() - at));
    SHOAL_TRY_WRAP(update_entries(fds_.service_stats.get(), part.data(), sizeof(__u32), zero.data(),
                                  bytes, static_cast<std::uint32_t>(part.size())),
                   "shoal_service_stats");
  }
  return {};
}

Result<> BpfMaps::clear_backend_stats(model::BackendId backend) {
  SHOAL_TRY(check_backend_id(sizes_, backend));
  return clear_per_cpu<shoal_backend_stats>(fds_.backend_stats, backend);
}

Result<std::vector<DropCount>> BpfMaps::drops() const {
  std::vector<DropCount> out;
  for (__u32 reason = SHOAL_DROP_NONE + 1; reason < SHOAL_DROP_COUNT; ++reason) {
    DropCount& count = out.emplace_back(DropCount{kDropNames[reason], kDropTexts[reason], 0});
    for (std::uint64_t n : SHOAL_TRY(per_cpu<std::uint64_t>(fds_.drops, reason)))
      count.packets += n;
  }
  return out;
}

Result<bool> BpfMaps::next_flows(TableWalk& walk,
                                 const std::function<void(const Flow&)>& visit) const {
  return SHOAL_TRY_WRAP(
      next_entries(fds_.flows.get(), sizeof(shoal_flow_key), sizeof(shoal_flow), walk.at,
                   [&](const void* key, const void* value) {
                     visit(from_abi(load<shoal_flow_key>(key), load<shoal_flow>(value)));
                     return true;
                   }),
      "shoal_flows");
}

Result<std::optional<Flow>> BpfMaps::find_flow(const FlowTuple& packet) const {
  const shoal_flow_key key{.saddr = to_abi(packet.source.ip),
                           .daddr = to_abi(packet.destination.ip),
                           .sport = htons(packet.source.port),
                           .dport = htons(packet.destination.port),
                           .proto = static_cast<__u8>(packet.proto),
                           .dir = SHOAL_FLOW_FORWARD,
                           .pad = 0};
  const auto flow = SHOAL_TRY(find<shoal_flow>(fds_.flows, key, "shoal_flows"));
  return flow ? std::optional(from_abi(key, *flow)) : std::nullopt;
}

Result<std::optional<Affinity>> BpfMaps::find_affinity(model::ServiceIndex service,
                                                       const IpAddress& client) const {
  const shoal_affinity_key key{
      .client = to_abi(client), .service = service, .kind = SHOAL_AFFINITY_ADDRESS};
  const auto last = SHOAL_TRY(find<shoal_affinity>(fds_.affinity, key, "shoal_affinity"));
  if (!last)
    return std::optional<Affinity>();
  return std::optional(Affinity{last->backend, last->epoch, age_s(now_s(), last->seen_s)});
}

Result<bool> BpfMaps::tally(LruTable table, TableWalk& walk, Tally& tally) const {
  static_assert(kWalkEntriesMax == kBatchEntriesMax);
  const std::uint32_t now = now_s();
  const auto add = [&](std::uint32_t seen_s, bool closing) {
    tally.entries++;
    tally.closing += closing ? 1 : 0;
    tally.active += !closing && age_s(now, seen_s) <= kUdpIdle_s ? 1 : 0;
  };
  if (table == LruTable::kFlows)
    return next_entries(fds_.flows.get(), sizeof(shoal_flow_key), sizeof(shoal_flow), walk.at,
                        [&](const void*, const void* value) {
                          const auto flow = load<shoal_flow>(value);
                          add(flow.seen_s, (flow.flags & SHOAL_FLOW_CLOSING) != 0);
                          return true;
                        });
  return next_entries(fds_.affinity.get(), sizeof(shoal_affinity_key), sizeof(shoal_affinity),
                      walk.at, [&](const void*, const void* value) {
                        add(load<shoal_affinity>(value).seen_s, false);
                        return true;
                      });
}

// Opens one map and holds its layout against the ABI's.
Result<UniqueFd> open_map(const std::filesystem::path& folder, const char* name,
                          std::size_t key_bytes, std::size_t value_bytes, std::uint32_t* entries) {
  UniqueFd fd = SHOAL_TRY(open_pin(folder / name));
  MapInfo info = SHOAL_TRY_WRAP(map_info(fd.get()), name);
  if (info.key_bytes != key_bytes || info.value_bytes != value_bytes)
    return fail(
        Errc::kCorrupt,
        fmt::format("{}/{}: keys of {} and values of {} bytes, not {} and {}: another version's; "
                    "have the maps made anew",
                    folder.string(), name, info.key_bytes, info.value_bytes, key_bytes,
                    value_bytes));
  if (entries != nullptr)
    *entries = info.entries_max;
  return fd;
}

}  // namespace

Result<std::unique_ptr<DataMaps>> open_bpf_maps(const std::filesystem::path& folder) {
  const int cpus = libbpf_num_possible_cpus();
  if (cpus <= 0)
    return fail_errno(-cpus, "count the CPUs");
  MapSizes s;
  Fds f;
  f.config = SHOAL_TRY(open_map(folder, "shoal_config", 4, sizeof(shoal_config), nullptr));
  f.frontends = SHOAL_TRY(open_map(folder, "shoal_frontends", sizeof(shoal_frontend_key),
                                   sizeof(shoal_frontend), &s.frontends));
  f.source_ranges = SHOAL_TRY(
      open_map(folder, "shoal_source_ranges", sizeof(shoal_source_key), 4, &s.source_ranges));
  f.vips =
      SHOAL_TRY(open_map(folder, "shoal_vips", sizeof(shoal_addr), sizeof(shoal_vip), &s.vips));
  f.ring_refs = SHOAL_TRY(open_map(folder, "shoal_ring_refs", 4, 8, &s.services));
  f.ring_blocks =
      SHOAL_TRY(open_map(folder, "shoal_ring_blocks", 4, sizeof(shoal_ring_block), &s.ring_blocks));
  f.backends = SHOAL_TRY(open_map(folder, "shoal_backends", 4, sizeof(shoal_backend), &s.backends));
  f.pods =
      SHOAL_TRY(open_map(folder, "shoal_pods", sizeof(shoal_addr), sizeof(shoal_pod), &s.pods));
  f.nodes = SHOAL_TRY(
      open_map(folder, "shoal_nodes", sizeof(shoal_node_key), sizeof(shoal_node), &s.nodes));
  f.peers = SHOAL_TRY(open_map(folder, "shoal_peers", 4, 1, nullptr));
  f.flows = SHOAL_TRY(
      open_map(folder, "shoal_flows", sizeof(shoal_flow_key), sizeof(shoal_flow), &s.flows));
  f.udp_pick = SHOAL_TRY(open_map(folder, "shoal_udp_pick", sizeof(shoal_udp_key),
                                  sizeof(shoal_udp_pick), &s.udp_flows));
  f.affinity = SHOAL_TRY(open_map(folder, "shoal_affinity", sizeof(shoal_affinity_key),
                                  sizeof(shoal_affinity), &s.affinity));
  f.service_stats =
      SHOAL_TRY(open_map(folder, "shoal_service_stats", 4, sizeof(shoal_service_stats), nullptr));
  f.backend_stats =
      SHOAL_TRY(open_map(folder, "shoal_backend_stats", 4, sizeof(shoal_backend_stats), nullptr));
  f.drops = SHOAL_TRY(open_map(folder, "shoal_drops", 4, 8, nullptr));
  MappedRefs refs = SHOAL_TRY(MappedRefs::map(f.ring_refs.get(), s.services));
  auto maps = std::make_unique<BpfMaps>(std::move(f), std::move(refs), s, cpus);
  SHOAL_TRY(maps->derive_from_nodes());
  return std::unique_ptr<DataMaps>(std::move(maps));
}

}  // namespace shoal::kernel
