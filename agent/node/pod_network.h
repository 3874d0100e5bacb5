// SPDX-License-Identifier: Apache-2.0
// PodNetwork: an address for each pod of this host and its way into the pod's namespace. Called on
// the loop thread; `done` runs there too, later, never within the call. The real one leases
// addresses (netplane/ipam, whose journal is written on a worker) and attaches through the data
// plane (netplane/apply, on the loop); it tells the driver of the data plane which pods have a
// network.
#pragma once

#include "agent/node/pod_plan.h"
#include "netplane/apply/data_plane.h"
#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"
#include "netplane/ipam/lease_store.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace shoal::node {

class PodNetwork {
public:
  virtual ~PodNetwork() = default;
  // May be repeated: the same pod keeps its address.
  virtual void attach(const std::string& pod_key, const std::string& uid, UniqueFd netns,
                      std::function<void(Result<PodAddress>)> done) = 0;
  // The address goes back; a pod without one is fine.
  virtual void detach(const std::string& uid, std::function<void(Result<>)> done) = 0;
  // Addresses of pods that are not in `uids` go back. Once, when it is known which pods this host
  // has.
  virtual void keep_only(const std::set<std::string>& uids, std::function<void(Result<>)> done) = 0;
};

// All references must outlive it and the work it posts to `workers`.
std::unique_ptr<PodNetwork>
make_pod_network(boost::asio::io_context& loop, boost::asio::thread_pool& workers,
                 ipam::LeaseStore& leases, apply::DataPlane& data_plane,
                 std::function<void(std::vector<model::LocalPod>)> on_local_pods);

}  // namespace shoal::node
