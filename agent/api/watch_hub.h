// SPDX-License-Identifier: Apache-2.0
// WatchHub: the recent changes of the replica, and the watchers that follow them. Internal to
// agent/api.
//
// A watch that begins at revision R is sent every change that a reader at R may not have seen.
// Commits are told by their revision; a change of reported status has none of its own, so it is
// sent again when in doubt: at least once, each object's latest state only. What is older than the
// history gets 410 Expired, and the client lists again. Commits are passed on in the order of their
// revisions, once the replica is complete up to them: gossip may bring a later one first, and a
// client that goes on from its revision would never see the earlier ones. A watcher's queue is
// bounded: one that does not keep up is cut off with 410.
#pragma once

#include "agent/api/schema.h"
#include "agent/api/selector.h"
#include "agent/api/server.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>

namespace shoal::api {

// Which objects a list or a watch is about.
struct Filter {
  const Kind* kind = nullptr;
  std::string ns;  // empty: all
  LabelSelector labels;
  std::vector<FieldRequirement> fields;
  bool matches(const store::Object& object) const;
};

struct WatchRequest {
  Filter filter;
  std::optional<store::Revision> from;  // absent or 0: begin with what is there
  bool bookmarks = false;
  std::optional<std::chrono::seconds> timeout_s;
  // How an object is shown: itself, or a Table of one row.
  std::function<std::string(const store::Object&)> show;
};

class WatchHub {
public:
  WatchHub(boost::asio::io_context& loop, store::Replica& replica, const ServerLimits& limits);
  ~WatchHub();
  void start(WatchRequest request, ExchangePtr exchange);
  std::size_t watchers() const;
  void stop();

private:
  struct Entry {
    store::Change change;
    store::Revision complete;  // what the replica was complete to at the time
    std::uint64_t seq;
    bool status_only() const {
      return change.kind == store::ChangeKind::kModified &&
             change.object->revision == change.before->revision;
    }
  };
  class Watcher;

  void on_change(const store::Change& change);
  void flush();
  void record(const store::Change& change);
  void trim();
  std::optional<ApiError> replay(Watcher& watcher, store::Revision from);

  boost::asio::io_context& loop_;
  store::Replica& replica_;
  const ServerLimits& limits_;
  std::multimap<store::Revision, store::Change> ahead_;  // of what the replica is complete to
  std::deque<Entry> history_;
  std::uint64_t next_seq_ = 1;
  store::Revision floor_ = 0;         // a watch from before it has missed commits
  store::Revision status_floor_ = 0;  // one from before it may have missed changes of status
  std::set<std::shared_ptr<Watcher>> watchers_;
  store::Subscription subscription_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace shoal::api
