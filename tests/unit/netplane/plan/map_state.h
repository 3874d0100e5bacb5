// SPDX-License-Identifier: Apache-2.0
// MapState: the maps of a data plane as a dumb interpreter sees them, outside of the planner. It
// carries out a plan's items one at a time and looks, after each, for what must never be: a slot
// that names a backend which is not there, or anything given to a new owner while BPF programs may
// still read it for the old one.
#pragma once

#include "netplane/plan/ops.h"

#include <array>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace shoal::plan {

// A plan as single items, each an operation of its own.
std::vector<Op> split_items(const Plan& plan);

class MapState {
public:
  // Violations of the rules are collected, not asserted, so that a test can say how it got there.
  void apply(const Op& op);
  // Whatever was replaced until now is not read any more.
  void grace();

  // Backends that the frontend's ring names, with their numbers of slots; nothing: refused.
  std::map<BackendId, std::uint32_t> picks(const FrontendKey& key, bool outside = false) const;
  bool allows(ServiceIndex service, const IpPrefix& range) const {
    const auto at = source_ranges_.find(service);
    return at != source_ranges_.end() && at->second.contains(range);
  }
  const BackendEntry* backend(BackendId id) const;
  bool has_frontend(const FrontendKey& key, bool outside = false) const {
    const auto at = frontends_.find(key);
    return at != frontends_.end() &&
           (outside ? at->second.outside : at->second.inside) != model::kNoService;
  }
  model::DataPlane dump() const;
  const std::vector<std::string>& violations() const { return violations_; }

private:
  void item(const OpenServices::Item& i);
  void item(const SetBackends::Item& i);
  void item(const WriteRings::Item& i);
  void item(const SwitchRings::Item& i);
  void item(const AddSourceRanges::Item& i);
  void item(const RemoveSourceRanges::Item& i);
  void item(const SetFrontends::Item& i);
  void item(const SetVips::Item& i);
  void item(const DeleteFrontends::Item& i);
  void item(const DeleteVips::Item& i);
  void item(const RetireBackends::Item&) {}
  void item(const RetireServices::Item&) {}
  void item(const FreeBackends::Item& i);
  void violation(std::string text) { violations_.push_back(std::move(text)); }
  std::vector<BackendId> blocks(const RingRef& ref) const;  // all of them, in a row
  model::Ring ring(const RingRef& ref) const;
  void check_history(const RingRef& before, const RingRef& after);
  std::set<std::uint32_t> live_blocks() const;
  std::set<BackendId> named() const;
  void check_rings();

  std::map<std::uint32_t, std::array<BackendId, model::kRingBlockSlots>> blocks_;
  std::map<ServiceIndex, RingRef> refs_;
  std::map<FrontendKey, FrontendEntry> frontends_;
  std::map<IpAddress, VipEntry> vips_;
  std::map<ServiceIndex, std::set<IpPrefix>> source_ranges_;
  std::map<BackendId, BackendEntry> backends_;
  // Read by programs that began before the last change: not to be reused.
  std::set<std::uint32_t> hot_blocks_;
  std::set<BackendId> hot_backends_;
  std::set<ServiceIndex> hot_services_;
  std::vector<std::string> violations_;
};

}  // namespace shoal::plan
