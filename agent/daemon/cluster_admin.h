// SPDX-License-Identifier: Apache-2.0
// Who is in the cluster: tokens, admission of hosts, their pod CIDRs. Runs on the store's host,
// which alone has the CA's key. Everything unique is decided by one store transaction: a token is
// used up, a CIDR is taken and the Node object made, all or nothing.
//
// Keys: "/alloc/join-tokens/HASH" = {"expires": unix seconds}, "/alloc/pod-cidrs/ADDRESS" =
// {"owner": node name}. Threading: the loop thread; done never runs before the call returns.
#pragma once

#include "agent/daemon/cluster_files.h"
#include "agent/daemon/join_client.h"
#include "agent/store/replica.h"
#include "netplane/base/random.h"

#include <boost/json/object.hpp>
#include <chrono>
#include <functional>

namespace shoal::daemon {

inline constexpr std::chrono::hours kTokenLifetimeDefault{24};
inline constexpr std::chrono::hours kTokenLifetimeMax{24 * 30};
inline constexpr std::size_t kTokensMax = 256;  // unused ones at a time

// The cluster's identity and the first host's: what `shoal init` writes. Pure but for keys.
Result<ClusterFiles> make_cluster(std::string node_name, const IpAddress& address,
                                  std::uint16_t api_port, const ClusterSettings& settings,
                                  const Clock& clock, Random& random);

// The Node object of a host and the CIDRs that it gets, as one transaction.
store::Txn register_node_txn(const std::string& node_name, const IpAddress& address,
                             const std::vector<IpPrefix>& pod_cidrs, const Clock& clock,
                             Random& random);
// The lowest CIDR of each of the cluster's families that nobody has; kExhausted says how to mend
// it.
Result<std::vector<IpPrefix>> free_pod_cidrs(const ClusterSettings& settings,
                                             const store::Replica& replica);

class ClusterAdmin {
public:
  // post: runs something later on the loop.
  using Post = std::function<void(std::function<void()>)>;
  ClusterAdmin(const ClusterFiles& files, store::Store& store, store::Replica& replica,
               const Clock& clock, Random& random, Post post);

  using TokenDone = std::function<void(Result<std::string>)>;
  void create_token(std::chrono::seconds lifetime, TokenDone done);

  // seeds: gossip addresses that the new host is told. Errors: kPermission (no such token, used,
  // expired), kExists.
  using AdmitDone = std::function<void(Result<ClusterFiles>)>;
  void admit(JoinRequest request, std::vector<SocketAddress> seeds, AdmitDone done);

private:
  void admit_again(std::shared_ptr<JoinRequest> request,
                   std::shared_ptr<std::vector<SocketAddress>> seeds, int tries_left,
                   AdmitDone done);
  void free_cidrs_of(const std::string& node_name);
  Result<ClusterFiles> answer_for(const JoinRequest& request,
                                  const std::vector<SocketAddress>& seeds);

  const ClusterFiles& files_;
  store::Store& store_;
  store::Replica& replica_;
  const Clock& clock_;
  Random& random_;
  Post post_;
  store::Subscription node_changes_;
};

}  // namespace shoal::daemon
