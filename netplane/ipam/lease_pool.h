// SPDX-License-Identifier: Apache-2.0
// LeasePool: which address of this host's pod CIDR belongs to which pod. Pure: no IO, no clock.
//
// Addresses are handed out round robin, so that one that was given back is reused as late as
// possible, and never before its quarantine is over: packets for the pod that had it may still be
// under way. Each reuse of an address raises its 16-bit generation (1..65535, then 1 again); 0 is
// never given. The first and last address of the CIDR and the addresses the caller reserves are
// left out. One lease an owner: asking again gives the same lease, now of the boot it is asked in.
// Of an IPv6 CIDR the first kPoolAddressesV6 addresses are the pool: only the low 32 bits of a
// pod's address travel in a DSR frame, and its host completes them.
#pragma once

#include "netplane/base/clock.h"
#include "netplane/base/ip.h"
#include "netplane/base/result.h"

#include <chrono>
#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::ipam {

inline constexpr std::uint64_t kPoolAddressesMax = 65'536;  // a /16
inline constexpr std::uint64_t kPoolAddressesV6 = 4096;     // far more than a host has pods
inline constexpr std::size_t kOwnerLengthMax = 253;
inline constexpr std::chrono::seconds kQuarantineDefault{30};

struct Lease {
  IpAddress ip;
  std::uint16_t generation = 0;
  std::string owner;    // the pod's uid
  std::string boot_id;  // of the boot in which it was given: a lease of an earlier boot has no pod
  auto operator<=>(const Lease&) const = default;
};

// What must be remembered of one address; the journal holds these.
struct Slot {
  std::uint16_t generation = 0;  // of the present or the last lease; 0: never leased
  bool leased = false;
  std::string owner;
  std::string boot_id;
  WallTime released_at{};  // meaningful when generation is not 0 and it is not leased
  auto operator<=>(const Slot&) const = default;
};

struct PoolOptions {
  std::chrono::milliseconds quarantine = kQuarantineDefault;
  std::vector<IpAddress> reserved;  // e.g. the host's own address in the pod CIDR
};

struct PoolUsage {
  std::uint64_t total = 0;  // that can be leased at all
  std::uint64_t leased = 0;
  std::uint64_t quarantined = 0;
  std::uint64_t free = 0;
  auto operator<=>(const PoolUsage&) const = default;
};

class LeasePool {
public:
  // kInvalid when the CIDR is too small or too large.
  static Result<LeasePool> make(const IpPrefix& cidr, PoolOptions options = {});

  // The next lease, or the one the owner has. kExhausted says how many are leased and quarantined,
  // and what to do.
  Result<Lease> allocate(std::string_view owner, std::string_view boot_id, WallTime now);
  Result<Lease> release(const IpAddress& ip, WallTime now);  // kNotFound when it is not leased
  std::optional<Lease> find_owner(std::string_view owner) const;
  std::optional<Lease> find_ip(const IpAddress& ip) const;
  std::vector<Lease> leases() const;  // by address
  PoolUsage usage(WallTime now) const;
  const IpPrefix& cidr() const { return cidr_; }
  bool holds(const IpAddress& ip) const { return index_of(ip).has_value(); }
  std::uint64_t size() const { return slots_.size(); }  // addresses, those left out among them

  // For the journal: the state of one address, taken over as it is. A release that lies in the
  // future (the clock was set back) counts as made `now`, so that a quarantine never lasts longer
  // than it should.
  Result<> restore(const IpAddress& ip, Slot slot, WallTime now);
  Slot slot(const IpAddress& ip) const;
  std::vector<std::pair<IpAddress, Slot>> used_slots() const;  // generation not 0, by address
  void set_cursor(const IpAddress& last_given);
  IpAddress cursor() const;

private:
  LeasePool(IpPrefix cidr, PoolOptions options);
  std::optional<std::uint64_t> index_of(const IpAddress& ip) const;  // nothing: not of the pool
  std::optional<std::uint64_t> leased_index_of(const IpAddress& ip) const;
  bool in_quarantine(const Slot& slot, WallTime now) const;

  IpPrefix cidr_;
  PoolOptions options_;
  std::vector<Slot> slots_;  // by offset from the CIDR's first address
  std::vector<bool> excluded_;
  std::map<std::string, std::uint64_t, std::less<>> by_owner_;
  std::uint64_t cursor_ = 0;  // offset of the address given last
};

}  // namespace shoal::ipam
