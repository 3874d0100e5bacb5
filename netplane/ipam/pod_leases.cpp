// SPDX-License-Identifier: Apache-2.0
#include "netplane/ipam/pod_leases.h"

#include <algorithm>

namespace shoal::ipam {

Result<PodLeases> PodLeases::open(const std::filesystem::path& state_dir,
                                  const std::vector<IpPrefix>& cidrs, const std::string& boot_id,
                                  const Clock& clock, const PoolOptions& options) {
  std::vector<IpPrefix> sorted = cidrs;
  std::ranges::sort(sorted, {}, &IpPrefix::family);
  std::vector<LeaseStore> stores;
  for (const IpPrefix& cidr : sorted)
    stores.push_back(SHOAL_TRY(LeaseStore::open(state_dir / (cidr.is_v4() ? "leases" : "leases-v6"),
                                                cidr, boot_id, clock, options)));
  return PodLeases(std::move(stores));
}

Result<std::vector<Lease>> PodLeases::allocate(std::string_view owner) {
  std::vector<Lease> leases;
  for (LeaseStore& store : stores_)
    leases.push_back(SHOAL_TRY(store.allocate(owner)));
  return leases;
}

Result<bool> PodLeases::release_owner(std::string_view owner) {
  bool any = false;
  for (LeaseStore& store : stores_)
    any = SHOAL_TRY(store.release_owner(owner)) || any;
  return any;
}

std::vector<Lease> PodLeases::find_owner(std::string_view owner) const {
  std::vector<Lease> leases;
  for (const LeaseStore& store : stores_)
    if (auto lease = store.find_owner(owner))
      leases.push_back(std::move(*lease));
  return leases;
}

std::set<std::string> PodLeases::owners() const {
  std::set<std::string> owners;
  for (const LeaseStore& store : stores_)
    for (Lease& lease : store.leases())
      owners.insert(std::move(lease.owner));
  return owners;
}

}  // namespace shoal::ipam
