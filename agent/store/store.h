// SPDX-License-Identifier: Apache-2.0
// The store contract: where desired state lives, behind one interface with several engines (SQLite
// now, etcd later). The model is etcd's: a flat ordered key space, one revision that every
// committed transaction raises by one, compare-and-write transactions that are linearizable, an
// ordered stream of events.
//
// Keys: "/RESOURCE/NAMESPACE/NAME" for objects ("-" for the namespace of cluster-scoped ones), e.g.
// "/pods/default/web-1", "/deployments.apps/default/web", "/nodes/-/h1"; the value is the object's
// JSON without resourceVersion. "/alloc/POOL/ITEM" holds unique things (pod CIDRs, ClusterIPs,
// VIPs, ports): created with "must not exist", so that two allocators cannot both win.
//
// Threading: called and calls back on the agent's one loop thread. No callback runs before the call
// returns. Errors: kUnavailable when no write is possible now (no quorum, store host away);
// kExhausted on a full disk: nothing of the transaction was written then. A transaction whose
// comparison fails is not an error.
#pragma once

#include "netplane/base/result.h"
#include "netplane/base/shared_text.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace shoal::store {

using Revision = std::uint64_t;  // 0: none; the first commit is 1

inline constexpr std::size_t kKeyBytesMax = 1024;
inline constexpr std::size_t kValueBytesMax = 3 << 19;  // a Secret of 1 MiB, in base64
inline constexpr std::size_t kTxnOpsMax = 128;

struct Compare {
  std::string key;
  Revision mod_revision = 0;  // what the key must have; 0: it must not exist
};

struct Op {
  std::string key;
  std::optional<std::string> value;  // absent: delete
};

struct Txn {
  std::vector<Compare> compares;
  std::vector<Op> ops;  // at most one for a key
};

// A committed change of one key; also how a value is carried to replicas. Its copies share the
// value, so that the replica and gossip hold it once.
struct Event {
  std::string key;
  SharedText value;              // absent: deleted
  Revision create_revision = 0;  // of the key's present life
  Revision revision = 0;         // of this change
  bool operator==(const Event&) const = default;
};

struct TxnResult {
  bool committed = false;
  Revision revision = 0;          // of the commit; otherwise the store's present one
  std::vector<Event> events;      // what the commit wrote, in order
  std::vector<std::string> lost;  // keys whose comparison failed
  // Those keys as they are now, so that the loser can decide again at once. A key that does not
  // exist comes as a deletion at `revision`. Fit for Replica::apply.
  std::vector<Event> present;
};

struct Snapshot {
  Revision revision = 0;
  std::vector<Event> values;  // every live key, by key
};

class Store {
public:
  virtual ~Store() = default;
  virtual void txn(Txn txn, std::function<void(Result<TxnResult>)> done) = 0;
  // Everything as of one revision. Events after that revision follow on the watch.
  virtual void snapshot(std::function<void(Result<Snapshot>)> done) = 0;
  // All commits after the call, in order, each commit's events together.
  virtual void watch(std::function<void(Revision, std::span<const Event>)> on_commit) = 0;
};

}  // namespace shoal::store
