// SPDX-License-Identifier: Apache-2.0
// What the pods of a host are run with: handed to the node agent and its workers. Everything
// outlives them.
#pragma once

#include "agent/api/writer.h"
#include "agent/images/puller.h"
#include "agent/view/view.h"
#include "netplane/apply/data_plane.h"
#include "netplane/ipam/pod_leases.h"
#include "runtime/image/store.h"
#include "runtime/sandbox/sandbox.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/json/object.hpp>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace shoal::node {

struct Context {
  boost::asio::io_context& loop;
  boost::asio::thread_pool& workers;  // for what blocks
  const Clock& clock;
  view::View& view;
  api::Writer& writer;
  apply::DataPlane& data_plane;  // loop thread only
  ipam::PodLeases& leases;       // worker threads
  runtime::ImageStore& images;   // any thread
  images::ImagePuller& puller;   // loop thread only
  runtime::SandboxEnv sandboxes;
  std::string node_name;
  std::function<std::vector<IpAddress>()> host_ips;  // of this host, IPv4 first
  std::uint64_t nofile_hard = 1'048'576;
  std::int64_t memory_bytes = 0;  // of this host
  int oom_score_adj = 0;          // this process' own
  std::int64_t pod_pids_max = 0;  // processes and threads of one pod
  // The status of a pod of this host; nothing: it is no longer here.
  std::function<void(const std::string& ns, const std::string& name, const std::string& uid,
                     std::optional<boost::json::object> status)>
      report;
  // No data plane leads anybody new to a pod that is being stopped; Node::drains_changed tells of
  // new answers.
  std::function<bool(const std::string& uid)> drained;
  std::function<void(std::vector<model::LocalPod>)> local_pods_changed;
  // Every pod that an earlier agent left has been taken up, and what belongs to no pod is gone.
  std::function<void()> settled;
};

}  // namespace shoal::node
