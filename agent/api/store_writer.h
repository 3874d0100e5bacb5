// SPDX-License-Identifier: Apache-2.0
// The Writer of a host, see writer.h. It decides on what the replica holds, commits with
// comparisons against what it saw, and when a comparison is lost takes the store's present values
// into the replica and decides again, at most kLostRacesMax times.
//
// What is unique of a Service is held by keys that are written and deleted in its own transactions:
// its ClusterIP by "/alloc/cluster-ips/IP", a LoadBalancer's address by
// "/alloc/load-balancer-ips/IP", node ports by "/alloc/node-ports/TCP-30080"; the value is
// {"owner": KEY, "uid": UID}.
#pragma once

#include "agent/api/writer.h"
#include "netplane/base/clock.h"
#include "netplane/base/ip.h"
#include "netplane/base/port_range.h"
#include "netplane/base/random.h"

#include <functional>
#include <memory>
#include <vector>

namespace shoal::api {

inline constexpr int kLostRacesMax = 8;
inline constexpr std::string_view kClusterIpPool = "cluster-ips";
inline constexpr std::string_view kLoadBalancerIpPool = "load-balancer-ips";
inline constexpr std::string_view kNodePortPool = "node-ports";

struct WriterOptions {
  std::vector<IpPrefix> service_cidrs;  // at most one a family
  // May be empty: then type LoadBalancer is refused, with the config key.
  std::vector<IpPrefix> load_balancer_pools;
  PortRange node_ports = kNodePortsDefault;
  // Everything but the commit: answers what would be written. `commit` is not called.
  bool dry_run = false;
};

// Commits a transaction: the host's own store, or a TxnForwarder to the host that has it.
using TxnDone = std::function<void(Result<store::TxnResult>)>;
using Commit = std::function<void(store::Txn, TxnDone)>;
// Runs something later on the loop thread.
using Post = std::function<void(std::function<void()>)>;

std::unique_ptr<Writer> make_writer(store::Replica& replica, Commit commit, Post post,
                                    const Clock& clock, Random& random, WriterOptions options);

// The first objects of a new cluster, Namespaces `default` and `kube-system`: what `shoal init`
// commits. Made with "must not exist", so that running it again changes nothing.
store::Txn bootstrap_txn(const Clock& clock, Random& random);

}  // namespace shoal::api
