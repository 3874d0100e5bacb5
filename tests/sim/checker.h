// SPDX-License-Identifier: Apache-2.0
// Checker: looks at hosts from outside, knowing what was truly published and who truly lives, and
// fails the running test where a host says what cannot be. It keeps a mirror of each host from
// notifications alone, so that the notifications are checked against the tables too.
#pragma once

#include "agent/gossip/core/core.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace shoal::sim {

class Checker {
public:
  struct Sighting {
    MonoTime at;
    gossip::MemberChange change;
    std::string subject;
    std::string observer;
  };
  struct Arrival {
    MonoTime at;
    std::string observer;
  };

  // ---- the truth
  void published(const std::string& origin, const std::string& key, const gossip::Value& value);
  void started(const std::string& name, std::uint64_t start_id);

  // ---- what a host says
  void restarted(const std::string& observer);  // its mirror is empty again
  void observe(const std::string& observer, const gossip::Core& core,
               const gossip::MemberChanged& change, MonoTime now);
  void observe(const std::string& observer, const gossip::EntryChanged& change, MonoTime now);
  // After each event: what must hold of this host at any time.
  void check(const std::string& observer, const gossip::Core& core);
  // Dear: the mirror equals the tables.
  void check_mirror(const std::string& observer, const gossip::Core& core) const;

  // Where the network may change bytes, only crashes are failures.
  void set_trusting(bool trusting) { trusting_ = trusting; }

  const std::vector<Sighting>& sightings() const { return sightings_; }
  // When each host first got this value.
  const std::vector<Arrival>& arrivals(const std::string& origin, const std::string& key,
                                       const std::string& value) const;
  std::size_t count(gossip::MemberChange change, const std::string& subject = {}) const;
  void forget_sightings() { sightings_.clear(); }

private:
  using EntryId = std::pair<std::string, std::string>;
  struct Mirror {
    std::map<std::string, gossip::Member> members;
    std::map<EntryId, gossip::Value> entries;
    std::map<std::string, std::uint64_t> complete;  // by origin, this epoch
  };

  std::map<EntryId, std::map<std::string, std::vector<Arrival>>>
      truth_;  // all values ever published
  std::map<std::string, std::uint64_t> start_ids_;
  std::map<std::string, Mirror> mirrors_;
  std::vector<Sighting> sightings_;
  bool trusting_ = false;
};

}  // namespace shoal::sim
