// SPDX-License-Identifier: Apache-2.0
// The replica: every host's own copy of all objects, from which it answers reads and runs its data
// plane, quorum or not. Two inputs meet here:
//   committed desired values, from the store (on its host) or from gossip (everywhere else), the
//   larger revision of a key winning; actual state, from gossip: the status of an object, written
//   by the one host that the object is about.
// A reader sees them merged: the stored object with its `status` replaced by the reported one,
// provided that the reporter is the object's host (pods: spec.nodeName; nodes: the node itself) and
// the uid is the same.
//
// Threading: the agent's one loop thread. Subscribers are called synchronously, in order, after the
// change is visible; they must not write to the replica from within the call.
#pragma once

#include "agent/store/store.h"

#include <boost/json/object.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::store {

// An object as readers see it. Immutable; a change makes a new one.
struct Object {
  std::string resource;  // "pods", "deployments.apps"
  std::string ns;        // empty for cluster-scoped ones
  std::string name;
  std::string uid;
  Revision revision =
      0;  // mod revision of the stored value; also in body's metadata.resourceVersion
  Revision create_revision = 0;
  boost::json::object body;  // apiVersion, kind, metadata, spec, status, ...
};
using ObjectPtr = std::shared_ptr<const Object>;

std::string object_key(std::string_view resource, std::string_view ns, std::string_view name);

enum class ChangeKind : std::uint8_t { kAdded, kModified, kDeleted };
struct Change {
  ChangeKind kind;
  ObjectPtr object;  // the new one; for kDeleted the last one seen
  ObjectPtr before;  // null for kAdded
};

// Ends the subscription when destroyed; outliving the replica is fine.
class Subscription {
public:
  Subscription() = default;
  explicit Subscription(std::function<void()> end) : end_(std::make_unique<End>(std::move(end))) {}

private:
  struct End {
    explicit End(std::function<void()> f) : run(std::move(f)) {}
    ~End() { run(); }
    End(const End&) = delete;
    End& operator=(const End&) = delete;
    std::function<void()> run;
  };
  std::unique_ptr<End> end_;
};

class Replica {
public:
  Replica();
  ~Replica();
  Replica(const Replica&) = delete;
  Replica& operator=(const Replica&) = delete;

  // ---- readers
  ObjectPtr get(std::string_view resource, std::string_view ns, std::string_view name) const;
  // By key order; every namespace when ns is empty.
  std::vector<ObjectPtr> list(std::string_view resource, std::string_view ns = {}) const;
  // A stored value as it is, objects and "/alloc/..." keys alike.
  std::optional<Event> value(std::string_view key) const;
  void for_each_value(std::string_view prefix,
                      const std::function<void(const Event&)>& visit) const;
  // Everything up to this revision is applied.
  Revision revision() const;
  // The first full state has arrived. Before that nothing may be pruned anywhere.
  bool synced() const;
  // Runs once revision() >= wanted, possibly at once.
  void when_revision(Revision wanted, std::function<void()> run);
  // One resource, or all when empty.
  Subscription subscribe(std::string_view resource, std::function<void(const Change&)> on_change);
  // Runs once, when synced() turns true; at once if it is.
  void when_synced(std::function<void()> run);

  // ---- writers: the store's watch, gossip
  // Idempotent and order-free a key. complete_to: every change up to that revision is now known (0:
  // no news).
  void apply(std::span<const Event> events, Revision complete_to);
  // A full state: keys that it does not name are gone, unless newer than it. Turns synced() on.
  void reset(const Snapshot& snapshot);
  // Actual state of an object from the host it is about; no value: the host no longer reports one.
  void apply_status(std::string_view origin, std::string_view resource, std::string_view ns,
                    std::string_view name, std::optional<boost::json::object> status,
                    std::string_view uid);

private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace shoal::store
