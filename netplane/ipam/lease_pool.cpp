// SPDX-License-Identifier: Apache-2.0
#include "netplane/ipam/lease_pool.h"

#include <fmt/format.h>

namespace shoal::ipam {
namespace {

constexpr unsigned kPrefixLengthMax = 30;  // two addresses besides the first and the last
constexpr unsigned kPrefixLengthMaxV6 = 126;

std::uint16_t next_generation(std::uint16_t generation) {
  return generation == UINT16_MAX ? std::uint16_t{1} : static_cast<std::uint16_t>(generation + 1);
}

}  // namespace

LeasePool::LeasePool(IpPrefix cidr, PoolOptions options)
    : cidr_(cidr), options_(std::move(options)),
      slots_(std::min(cidr.size(), cidr.is_v4() ? kPoolAddressesMax : kPoolAddressesV6)),
      excluded_(slots_.size(), false) {
  excluded_.front() = true;
  excluded_.back() = true;
  for (const IpAddress& ip : options_.reserved)
    if (const auto index = index_of(ip))
      excluded_[*index] = true;
}

Result<LeasePool> LeasePool::make(const IpPrefix& cidr, PoolOptions options) {
  if (!cidr.is_v4() && cidr.length() > kPrefixLengthMaxV6)
    return fail(Errc::kInvalid, fmt::format("pod CIDR {} of a host: its length must be at most /{}",
                                            cidr.to_string(), kPrefixLengthMaxV6));
  if (cidr.is_v4() && (cidr.length() > kPrefixLengthMax || cidr.size() > kPoolAddressesMax))
    return fail(Errc::kInvalid,
                fmt::format("pod CIDR {} of a host: its length must lie between /16 "
                            "and /{}",
                            cidr.to_string(), kPrefixLengthMax));
  return LeasePool(cidr, std::move(options));
}

std::optional<std::uint64_t> LeasePool::index_of(const IpAddress& ip) const {
  if (!cidr_.contains(ip))
    return std::nullopt;
  const std::uint64_t index = ip.minus(cidr_.address());
  return index < slots_.size() ? std::optional(index) : std::nullopt;
}

std::optional<std::uint64_t> LeasePool::leased_index_of(const IpAddress& ip) const {
  const auto index = index_of(ip);
  return index && slots_[*index].leased ? index : std::nullopt;
}

bool LeasePool::in_quarantine(const Slot& slot, WallTime now) const {
  return !slot.leased && slot.generation != 0 && now - slot.released_at < options_.quarantine;
}

PoolUsage LeasePool::usage(WallTime now) const {
  PoolUsage usage;
  for (std::uint64_t i = 0; i < slots_.size(); ++i) {
    if (excluded_[i] && !slots_[i].leased)
      continue;
    ++usage.total;
    if (slots_[i].leased)
      ++usage.leased;
    else if (in_quarantine(slots_[i], now))
      ++usage.quarantined;
    else
      ++usage.free;
  }
  return usage;
}

Result<Lease> LeasePool::allocate(std::string_view owner, std::string_view boot_id, WallTime now) {
  if (owner.empty() || owner.size() > kOwnerLengthMax ||
      owner.find_first_of(" \n\t") != std::string_view::npos)
    return fail(Errc::kInvalid, fmt::format("lease owner '{}': 1 to {} characters, no blanks",
                                            owner, kOwnerLengthMax));
  if (const auto held = by_owner_.find(owner); held != by_owner_.end()) {
    slots_[held->second].boot_id = boot_id;  // it has come over a reboot: the pod is the same
    return *find_owner(owner);
  }
  for (std::uint64_t step = 1; step <= slots_.size(); ++step) {
    const std::uint64_t index = (cursor_ + step) % slots_.size();
    Slot& slot = slots_[index];
    if (excluded_[index] || slot.leased || in_quarantine(slot, now))
      continue;
    slot = Slot{.generation = next_generation(slot.generation),
                .leased = true,
                .owner = std::string(owner),
                .boot_id = std::string(boot_id),
                .released_at = {}};
    by_owner_.emplace(slot.owner, index);
    cursor_ = index;
    return Lease{cidr_.address().plus(index), slot.generation, slot.owner, slot.boot_id};
  }
  const PoolUsage used = usage(now);
  return fail(
      Errc::kExhausted,
      fmt::format("no free address in pod CIDR {}: {} of {} are leased and {} were given back less "
                  "than {} s ago; delete pods on this host, let others run elsewhere, or give the "
                  "cluster larger pod CIDRs",
                  cidr_.to_string(), used.leased, used.total, used.quarantined,
                  std::chrono::ceil<std::chrono::seconds>(options_.quarantine).count()));
}

Result<Lease> LeasePool::release(const IpAddress& ip, WallTime now) {
  const auto index = leased_index_of(ip);
  if (!index)
    return fail(Errc::kNotFound,
                fmt::format("{} is not leased from {}", ip.to_string(), cidr_.to_string()));
  Slot& slot = slots_[*index];
  const Lease lease{ip, slot.generation, slot.owner, slot.boot_id};
  by_owner_.erase(slot.owner);
  slot = Slot{.generation = lease.generation,
              .leased = false,
              .owner = {},
              .boot_id = {},
              .released_at = now};
  return lease;
}

std::optional<Lease> LeasePool::find_owner(std::string_view owner) const {
  const auto found = by_owner_.find(owner);
  if (found == by_owner_.end())
    return std::nullopt;
  const Slot& slot = slots_[found->second];
  return Lease{cidr_.address().plus(found->second), slot.generation, slot.owner, slot.boot_id};
}

std::optional<Lease> LeasePool::find_ip(const IpAddress& ip) const {
  const auto index = leased_index_of(ip);
  if (!index)
    return std::nullopt;
  const Slot& slot = slots_[*index];
  return Lease{ip, slot.generation, slot.owner, slot.boot_id};
}

std::vector<Lease> LeasePool::leases() const {
  std::vector<Lease> result;
  for (std::uint64_t i = 0; i < slots_.size(); ++i)
    if (slots_[i].leased)
      result.push_back(
          {cidr_.address().plus(i), slots_[i].generation, slots_[i].owner, slots_[i].boot_id});
  return result;
}

Result<> LeasePool::restore(const IpAddress& ip, Slot slot, WallTime now) {
  // An address that was reserved since is taken, too: who has it keeps it until it is given back.
  const auto place = index_of(ip);
  if (!place)
    return fail(Errc::kCorrupt,
                fmt::format("{} does not lie in {}", ip.to_string(), cidr_.to_string()));
  const std::uint64_t index = *place;
  if (slot.leased) {
    const auto other = by_owner_.find(slot.owner);
    if (other != by_owner_.end() && other->second != index)
      return fail(Errc::kCorrupt,
                  fmt::format("{} has two leases, {} and {}", slot.owner,
                              cidr_.address().plus(other->second).to_string(), ip.to_string()));
  }
  if (slots_[index].leased)
    by_owner_.erase(slots_[index].owner);
  if (slot.leased)
    by_owner_.emplace(slot.owner, index);
  slot.released_at = std::min(slot.released_at, now);
  slots_[index] = std::move(slot);
  return {};
}

Slot LeasePool::slot(const IpAddress& ip) const {
  const auto index = index_of(ip);
  return index ? slots_[*index] : Slot{};
}

std::vector<std::pair<IpAddress, Slot>> LeasePool::used_slots() const {
  std::vector<std::pair<IpAddress, Slot>> result;
  for (std::uint64_t i = 0; i < slots_.size(); ++i)
    if (slots_[i].generation != 0)
      result.emplace_back(cidr_.address().plus(i), slots_[i]);
  return result;
}

void LeasePool::set_cursor(const IpAddress& last_given) {
  const auto index = index_of(last_given);
  SHOAL_ASSERT(index.has_value());
  cursor_ = *index;
}

IpAddress LeasePool::cursor() const { return cidr_.address().plus(cursor_); }

}  // namespace shoal::ipam
