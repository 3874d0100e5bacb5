// SPDX-License-Identifier: Apache-2.0
#include "netplane/ipam/lease_pool.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::ipam {

LeasePool::LeasePool(IpPrefix cidr, PoolOptions options)
    : cidr_(cidr), options_(std::move(options)) {
  slots_.resize(static_cast<std::size_t>(cidr_.size()));
}

Result<LeasePool> LeasePool::make(const IpPrefix& cidr, PoolOptions options) {
  if (!cidr.is_v4())
    return fail(Errc::kInvalid,
                fmt::format("pod CIDR {}: IPv6 is not supported yet", cidr.to_string()));
  if (cidr.size() < 4 || cidr.size() > kPoolAddressesMax)
    return fail(Errc::kInvalid,
                fmt::format("pod CIDR {} of a host must be from /16 to /30", cidr.to_string()));
  return LeasePool(cidr, std::move(options));
}

std::optional<std::uint64_t> LeasePool::index_of(const IpAddress& ip) const {
  if (!cidr_.contains(ip))
    return std::nullopt;
  const std::uint64_t index = ip.minus(cidr_.address());
  if (index == 0 || index + 1 == slots_.size())
    return std::nullopt;
  if (std::find(options_.reserved.begin(), options_.reserved.end(), ip) != options_.reserved.end())
    return std::nullopt;
  return index;
}

bool LeasePool::in_quarantine(const Slot& slot, WallTime now) const {
  return !slot.leased && slot.generation != 0 && now - slot.released_at < options_.quarantine;
}

Result<Lease> LeasePool::allocate(std::string_view owner, std::string_view boot_id, WallTime now) {
  if (owner.empty() || owner.size() > kOwnerLengthMax)
    return fail(Errc::kInvalid, "lease an address: the owner's name is empty or too long");
  if (auto held = find_owner(owner)) {
    // A pod that outlived the boot in which it got its address is none: the lease is this boot's
    // now.
    slots_[*index_of(held->ip)].boot_id = boot_id;
    held->boot_id = boot_id;
    return *held;
  }
  for (std::uint64_t tried = 0; tried < slots_.size(); tried++) {
    const std::uint64_t index = (cursor_ + 1 + tried) % slots_.size();
    const IpAddress ip = cidr_.address().plus(index);
    Slot& slot = slots_[index];
    if (!index_of(ip) || slot.leased || in_quarantine(slot, now))
      continue;
    slot.generation = slot.generation == UINT16_MAX
                          ? std::uint16_t{1}
                          : static_cast<std::uint16_t>(slot.generation + 1);
    slot.leased = true;
    slot.owner = owner;
    slot.boot_id = boot_id;
    by_owner_[slot.owner] = index;
    cursor_ = index;
    return Lease{ip, slot.generation, slot.owner, slot.boot_id};
  }
  const PoolUsage now_used = usage(now);
  return fail(Errc::kExhausted,
              fmt::format("all {} pod addresses of {} are taken ({} leased, {} given back less "
                          "than {} s ago); delete "
                          "pods on this host or add hosts",
                          now_used.total, cidr_.to_string(), now_used.leased, now_used.quarantined,
                          std::chrono::ceil<std::chrono::seconds>(options_.quarantine).count()));
}

Result<Lease> LeasePool::release(const IpAddress& ip, WallTime now) {
  const auto index = index_of(ip);
  if (!index || !slots_[*index].leased)
    return fail(Errc::kNotFound,
                fmt::format("{} is not leased from {}", ip.to_string(), cidr_.to_string()));
  Slot& slot = slots_[*index];
  Lease lease{ip, slot.generation, slot.owner, slot.boot_id};
  by_owner_.erase(slot.owner);
  slot.leased = false;
  slot.owner.clear();
  slot.boot_id.clear();
  slot.released_at = now;
  return lease;
}

std::optional<Lease> LeasePool::find_owner(std::string_view owner) const {
  const auto it = by_owner_.find(owner);
  if (it == by_owner_.end())
    return std::nullopt;
  return find_ip(cidr_.address().plus(it->second));
}

std::optional<Lease> LeasePool::find_ip(const IpAddress& ip) const {
  const auto index = index_of(ip);
  if (!index || !slots_[*index].leased)
    return std::nullopt;
  const Slot& held = slots_[*index];
  return Lease{ip, held.generation, held.owner, held.boot_id};
}

std::vector<Lease> LeasePool::leases() const {
  std::vector<Lease> out;
  for (std::uint64_t i = 0; i < slots_.size(); i++)
    if (slots_[i].leased)
      out.push_back(
          {cidr_.address().plus(i), slots_[i].generation, slots_[i].owner, slots_[i].boot_id});
  return out;
}

PoolUsage LeasePool::usage(WallTime now) const {
  PoolUsage used;
  for (std::uint64_t i = 0; i < slots_.size(); i++) {
    if (!index_of(cidr_.address().plus(i)))
      continue;
    used.total++;
    if (slots_[i].leased)
      used.leased++;
    else if (in_quarantine(slots_[i], now))
      used.quarantined++;
    else
      used.free++;
  }
  return used;
}

Result<> LeasePool::restore(const IpAddress& ip, Slot slot, WallTime now) {
  const auto index = index_of(ip);
  if (!index)
    return fail(Errc::kInvalid,
                fmt::format("{} cannot be leased from {}", ip.to_string(), cidr_.to_string()));
  if (slot.generation == 0 || (slot.leased && slot.owner.empty()))
    return fail(Errc::kCorrupt,
                fmt::format("the lease of {} has no generation or no owner", ip.to_string()));
  if (const auto held = slot.leased ? find_owner(slot.owner) : std::nullopt; held && held->ip != ip)
    return fail(Errc::kCorrupt, fmt::format("{} leases both {} and {}", slot.owner,
                                            held->ip.to_string(), ip.to_string()));
  Slot& mine = slots_[*index];
  if (mine.leased)
    by_owner_.erase(mine.owner);
  slot.released_at = std::min(slot.released_at, now);
  mine = std::move(slot);
  if (mine.leased)
    by_owner_[mine.owner] = *index;
  return {};
}

Slot LeasePool::slot(const IpAddress& ip) const {
  const auto index = index_of(ip);
  return index ? slots_[*index] : Slot{};
}

std::vector<std::pair<IpAddress, Slot>> LeasePool::used_slots() const {
  std::vector<std::pair<IpAddress, Slot>> out;
  for (std::uint64_t i = 0; i < slots_.size(); i++)
    if (slots_[i].generation != 0)
      out.emplace_back(cidr_.address().plus(i), slots_[i]);
  return out;
}

void LeasePool::set_cursor(const IpAddress& last_given) {
  if (const auto index = index_of(last_given))
    cursor_ = *index;
}

IpAddress LeasePool::cursor() const { return cidr_.address().plus(cursor_); }

}  // namespace shoal::ipam
