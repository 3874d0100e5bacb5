// SPDX-License-Identifier: Apache-2.0
// PodLeases: the addresses of this host's pods, one lease of each family that the host has a CIDR
// of. Each family has a journal of its own ("leases", "leases-v6"): a pod that was given one and
// not the other keeps the one, and is given the other when it asks again.
//
// Threading and blocking: as LeaseStore.
#pragma once

#include "netplane/ipam/lease_store.h"

#include <set>

namespace shoal::ipam {

class PodLeases {
public:
  // cidrs: at most one of each family; at least one.
  static Result<PodLeases> open(const std::filesystem::path& state_dir,
                                const std::vector<IpPrefix>& cidrs, const std::string& boot_id,
                                const Clock& clock, const PoolOptions& options = {});

  // One of each family, IPv4 first; those that the owner has are given again.
  Result<std::vector<Lease>> allocate(std::string_view owner);
  Result<bool> release_owner(std::string_view owner);  // false: it had none
  std::vector<Lease> find_owner(std::string_view owner) const;
  std::set<std::string> owners() const;

private:
  explicit PodLeases(std::vector<LeaseStore> stores) : stores_(std::move(stores)) {}
  std::vector<LeaseStore> stores_;  // IPv4 first
};

}  // namespace shoal::ipam
