// SPDX-License-Identifier: Apache-2.0
// Joins gossip, the store and the replica of this host:
//   store's host: commits -> replica and gossip's "desired" origin;
//   others:       gossip's "desired" origin -> replica;
//   everywhere:   "status/RESOURCE/NS/NAME" entries of each origin -> replica; own statuses ->
//   both.
// A host that membership declares dead has its Node shown as not ready until it says otherwise.
//
// Threading: the loop thread. Everything handed in must outlive it.
#pragma once

#include "agent/gossip/net/gossip.h"
#include "agent/store/replica.h"
#include "agent/view/members.h"

#include <boost/json/object.hpp>
#include <functional>
#include <map>
#include <optional>
#include <string>

namespace shoal::daemon {

class GossipBridge {
public:
  // Registers gossip's callbacks: make it before gossip.start().
  GossipBridge(gossip::Gossip& gossip, std::string self, store::Replica& replica,
               const Clock& clock);

  // On the store's host: loads the store into the replica and gossip, then follows its commits.
  void follow(store::Store& store, std::function<void(Result<>)> loaded);

  // What this host reports about an object; no value: it no longer does.
  Result<> report(std::string_view resource, std::string_view ns, std::string_view name,
                  std::string_view uid, std::optional<boost::json::object> status);

  const view::Members& members() const { return members_; }
  void on_members_changed(std::function<void()> run) { members_changed_ = std::move(run); }
  // What other hosts tell under kAppliedKey; null: nothing.
  void on_applied(std::function<void(std::string_view host, const std::string* value)> run) {
    applied_ = std::move(run);
  }

private:
  void on_entry(const gossip::EntryChanged& changed);
  void on_desired_complete(std::uint64_t revision);
  void on_member(const gossip::MemberChanged& changed);
  void apply_status_entry(std::string_view origin, std::string_view key, const std::string* value);
  void refresh_node(std::string_view node);

  gossip::Gossip& gossip_;
  const std::string self_;
  store::Replica& replica_;
  const Clock& clock_;
  view::Members members_;
  std::function<void()> members_changed_;
  std::function<void(std::string_view host, const std::string* value)> applied_;
  bool store_host_ = false;
};

}  // namespace shoal::daemon
