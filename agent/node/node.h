// SPDX-License-Identifier: Apache-2.0
// Node: all pods of this host. For each pod of the replica with spec.nodeName == node_name there is
// a PodWorker; pods that only the host knows (deleted while the agent was away) are removed once
// the replica has synced, never before.
//
// Takes up what a kill -9 of an agent left: shims are reconnected to, nothing is restarted.
// `settled` runs once when every pod that an earlier agent left has its network again or is known
// to be gone. Threading: the loop thread; blocking work goes to `workers`, which must outlive the
// Node (join it first).
#pragma once

#include "agent/node/pod_network.h"
#include "agent/node/pod_runtime.h"
#include "agent/node/pod_worker.h"
#include "agent/store/replica.h"
#include "netplane/base/clock.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

namespace shoal::node {

inline constexpr std::chrono::seconds kOrphanRetry{5};
inline constexpr std::chrono::seconds kRemoveRetry{2};

struct NodeOptions {
  std::string node_name;
  std::string host_ip;
  std::chrono::milliseconds drain = kDrainDefault;
};

struct NodeCallbacks {
  // The status of a pod of this host, whenever it changes: to gossip and to this host's replica.
  std::function<void(const std::string& ns, const std::string& name, const std::string& uid,
                     const boost::json::object& status)>
      report_status;
  // The host is done with a pod whose deletion was asked for: remove it with grace 0 if its uid is
  // still this. done says whether that worked (not found counts as worked); it is tried again
  // otherwise.
  std::function<void(const std::string& ns, const std::string& name, const std::string& uid,
                     std::function<void(bool)> done)>
      remove_object;
  std::function<void(const store::Object& pod, std::string_view type, std::string_view reason,
                     std::string_view message)>
      event;
  std::function<void()> settled;
};

class Node {
public:
  Node(boost::asio::io_context& loop, boost::asio::thread_pool& workers, store::Replica& replica,
       PodRuntime& runtime, PodNetwork& network, const Clock& clock, NodeOptions options,
       NodeCallbacks callbacks);
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  void start();
  // Pods that have a worker: for status and tests.
  std::size_t pods() const { return workers_by_uid_.size(); }

private:
  void on_change(const store::Change& change);
  void consider(const store::ObjectPtr& pod);
  void on_leftovers(const Result<std::vector<std::string>>& uids);
  void on_synced();
  void remove_orphans();
  void remove_orphan(const std::string& uid);
  void worker_gone(const PodSpec& spec);
  void remove_object(const PodSpec& spec);
  void taken_up(const std::string& uid);
  void check_settled();
  void later(Duration delay, std::function<void()> run);

  boost::asio::io_context& loop_;
  boost::asio::thread_pool& pool_;
  store::Replica& replica_;
  PodRuntime& runtime_;
  PodNetwork& network_;
  NodeOptions options_;
  NodeCallbacks callbacks_;
  WorkerContext context_;
  store::Subscription changes_;
  std::map<std::string, std::shared_ptr<PodWorker>> workers_by_uid_;
  std::optional<std::set<std::string>>
      leftovers_;                   // uids found at the start; nothing: not looked yet
  std::set<std::string> awaited_;   // of these, not taken up or removed yet
  std::set<std::string> removing_;  // objects that the store is asked to remove
  bool synced_ = false;
  bool settled_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace shoal::node
