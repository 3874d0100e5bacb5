// SPDX-License-Identifier: Apache-2.0
#include "netplane/kernel/bpf/data_maps.h"

#include "netplane/kernel/bpf/data_maps_check.h"

#include <algorithm>
#include <iterator>

namespace shoal::kernel {
namespace {

std::string frontend_text(const model::FrontendKey& key) {
  return fmt::format("{}/{}", SocketAddress{key.ip, key.port}.to_string(), to_string(key.proto));
}

// "2*32 3*16": how many slots each backend has, by id. The order of a ring is the planner's affair.
std::string shares_text(const model::Ring& ring) {
  std::map<model::BackendId, std::uint32_t> shares;
  for (model::BackendId id : ring.backends)
    ++shares[id];
  std::string out;
  for (auto [id, slots] : shares)
    fmt::format_to(std::back_inserter(out), " {}*{}", id, slots);
  return out;
}

std::string backend_text(model::BackendId id, const model::BackendEntry& e) {
  if (!e.valid)
    return fmt::format("backend {:>6} free epoch={}", id, e.epoch);
  std::string where = e.local ? "local" : "node=" + e.node.to_string();
  if (e.stack)
    where = e.local ? "self" : e.node.is_unspecified() ? "outside" : "host=" + e.node.to_string();
  else if (!e.local && e.node.is_unspecified())
    where = "no-node";
  return fmt::format("backend {:>6} {} gen={} epoch={} {}{}{}{}", id,
                     SocketAddress{e.ip, e.port}.to_string(), e.generation, e.epoch, where,
                     e.snat ? " snat" : "", e.draining ? " draining" : "",
                     e.answers ? " answers" : "");
}

}  // namespace

Result<std::vector<Flow>> DataMaps::flows(std::size_t limit) const {
  std::vector<Flow> out;
  TableWalk walk;
  bool more = limit > 0;
  while (more)
    more = SHOAL_TRY(next_flows(walk, [&](const Flow& flow) { out.push_back(flow); })) &&
           out.size() < limit;
  out.resize(std::min(out.size(), limit));
  return out;
}

std::string dump(const model::DataPlane& d) {
  std::vector<std::string> lines;
  for (const auto& [id, entry] : d.backends)
    lines.push_back(backend_text(id, entry));
  for (const auto& [key, entry] : d.frontends)
    lines.push_back(fmt::format("frontend {} {}", frontend_text(key), model::to_string(entry)));
  for (const auto& [cidr, entry] : d.nodes)
    lines.push_back(
        fmt::format("node {} {}{}", cidr.to_string(),
                    entry.underlay.is_unspecified() ? "self" : "via=" + entry.underlay.to_string(),
                    entry.native ? " native" : ""));
  for (const auto& [ip, e] : d.pods)
    lines.push_back(fmt::format("pod {} ifindex={} gen={} mac={} host_mac={}", ip.to_string(),
                                e.ifindex, e.generation, e.pod_mac.to_string(),
                                e.host_mac.to_string()));
  for (const auto& [service, ring] : d.rings)
    lines.push_back(fmt::format("ring {:>6} slots={} first_block={}{}{}", service, ring.ref.slots,
                                ring.ref.first_block, ring.ref.history ? " history" : "",
                                ring.refuses() ? " refuses" : shares_text(ring)));
  for (const auto& [service, ranges] : d.source_ranges)
    for (const IpPrefix& range : ranges)
      lines.push_back(fmt::format("source-range service={} {}", service, range.to_string()));
  if (d.host != model::HostEntry())
    lines.push_back(fmt::format("host {} {}{}{}{}", d.host.v4.to_string(), d.host.v6.to_string(),
                                d.host.stack_backends ? " stack-backends" : "",
                                d.host.snat ? " snat" : "", d.host.native ? " native" : ""));
  for (const auto& [ip, entry] : d.vips)
    lines.push_back(fmt::format("vip {}{}", ip.to_string(), entry.announced ? " announced" : ""));
  std::sort(lines.begin(), lines.end());
  std::string out;
  for (const std::string& line : lines)
    out.append(line).append("\n");
  return out;
}

std::vector<std::string> violations(const model::DataPlane& d) {
  std::vector<std::string> out;
  for (const auto& [service, ring] : d.rings) {
    if (ring.refuses())
      continue;
    for (model::BackendId id : ring.backends) {
      auto it = d.backends.find(id);
      if (it != d.backends.end() && it->second.valid)
        continue;
      out.push_back(fmt::format("ring {} names backend {}, which is not valid", service, id));
      break;
    }
  }
  for (const auto& [key, entry] : d.frontends)
    if (!d.vips.contains(key.ip) && entry.outside == model::kNoService)
      out.push_back(fmt::format("frontend {} has an address that is no VIP", frontend_text(key)));
  for (const auto& [key, entry] : d.frontends)
    if (entry.restricted && !d.source_ranges.contains(entry.outside))
      out.push_back(fmt::format("frontend {} is held against no source range", frontend_text(key)));
  return out;
}

Result<> check_backend_id(const MapSizes& sizes, model::BackendId id) {
  if (id == model::kNoBackend || id >= sizes.backends)
    return fail(Errc::kInvalid,
                fmt::format("backend id {} is outside 1..{}", id, sizes.backends - 1));
  return {};
}

Result<> check_backend(const MapSizes& sizes, const BackendWrite& write) {
  SHOAL_TRY(check_backend_id(sizes, write.id));
  if (write.entry.valid && write.entry.epoch == 0)
    return fail(Errc::kInvalid, fmt::format("backend {}: epoch 0 means never used", write.id));
  if (!write.entry.node.is_unspecified() && !write.entry.node.is_v4())
    return fail(Errc::kInvalid, fmt::format("backend {}: VXLAN endpoint {} is not IPv4", write.id,
                                            write.entry.node.to_string()));
  return {};
}

Result<> check_ring_blocks(const MapSizes& sizes, std::uint32_t first_block,
                           std::span<const model::BackendId> slots) {
  if (slots.size() % model::kRingBlockSlots != 0)
    return fail(Errc::kInvalid, fmt::format("{} slots are no whole number of ring blocks of {}",
                                            slots.size(), model::kRingBlockSlots));
  const std::size_t blocks = slots.size() / model::kRingBlockSlots;
  if (first_block + blocks > sizes.ring_blocks)
    return fail(Errc::kInvalid, fmt::format("ring blocks {} to {} are outside 0..{}", first_block,
                                            first_block + blocks - 1, sizes.ring_blocks - 1));
  for (std::size_t at = 0; at < slots.size(); at += model::kRingBlockSlots) {
    model::BackendId largest = 0;
    for (std::size_t i = 0; i < model::kRingBlockSlots; i++)
      largest = std::max(largest, slots[at + i] & ~model::kSlotMoved);
    if (largest >= sizes.backends)
      return fail(Errc::kInvalid, fmt::format("ring block {}: backend id {} is outside 1..{}",
                                              first_block + at / model::kRingBlockSlots, largest,
                                              sizes.backends - 1));
  }
  return {};
}

Result<> check_service(const MapSizes& sizes, model::ServiceIndex service) {
  if (service >= sizes.services)
    return fail(Errc::kInvalid,
                fmt::format("service index {} is outside 0..{}", service, sizes.services - 1));
  return {};
}

Result<> check_frontend(const MapSizes& sizes, const FrontendWrite& write) {
  const model::FrontendEntry& entry = write.entry;
  if (entry.inside == model::kNoService && entry.outside == model::kNoService)
    return fail(Errc::kInvalid,
                fmt::format("frontend {} leads to no service", frontend_text(write.key)));
  for (const model::ServiceIndex service : {entry.inside, entry.outside})
    if (service != model::kNoService)
      SHOAL_TRY(check_service(sizes, service));
  return {};
}

Result<> check_ring(const MapSizes& sizes, model::ServiceIndex service, const model::RingRef& ref) {
  SHOAL_TRY(check_service(sizes, service));
  if (ref.slots > model::kRingSlotsMax ||
      std::uint64_t{ref.first_block} + ref.blocks() > sizes.ring_blocks)
    return fail(Errc::kInvalid,
                fmt::format("service {}: a ring of {} slots from block {} is outside {} blocks",
                            service, ref.slots, ref.first_block, sizes.ring_blocks));
  return {};
}

Result<> check_node(const IpPrefix& cidr, const model::NodeEntry& entry) {
  if (entry.underlay.is_unspecified() || entry.underlay.is_v4())
    return {};
  return fail(Errc::kInvalid, fmt::format("pod CIDR {}: VXLAN endpoint {} is not IPv4",
                                          cidr.to_string(), entry.underlay.to_string()));
}

Error map_full(std::string_view map, std::string_view config_key, std::uint64_t entries) {
  return Error(Errc::kExhausted,
               fmt::format("the BPF map {} is full ({} entries); raise data_plane.{} and restart",
                           map, entries, config_key));
}

}  // namespace shoal::kernel
