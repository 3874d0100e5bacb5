// SPDX-License-Identifier: Apache-2.0
// Node: runs the pods that are bound to this host, one PodWorker each. Level-triggered: what the
// replica says is compared with what runs, after every change of a pod and at start.
//
// Taking up: pods that an earlier agent left running go on untouched; once the replica has synced
// and every pod has been looked at, what belongs to no pod (sandboxes, leases of addresses and
// images) is swept, each left-over by a PodWorker that tries until nothing is left. Threading: the
// loop thread.
#pragma once

#include "agent/node/claim_sweep.h"
#include "agent/node/context.h"
#include "agent/node/eviction.h"
#include "agent/node/pod_worker.h"

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace shoal::node {

inline constexpr std::chrono::seconds kRemoveRetry{2};  // of an object whose pod is gone
inline constexpr std::chrono::seconds kSweepRetry{10};  // of a list that could not be read

class Node {
public:
  explicit Node(Context context);
  ~Node();  // pods go on
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  void start();
  void drains_changed();  // Context::drained may have new answers

  std::vector<model::LocalPod> local_pods() const;
  std::vector<StatsTarget> stats_targets() const;  // by uid
  // What pods have on the disk, by uid, as they were measured last. measure_disks: those of which
  // that is older are measured, one after the other.
  std::map<std::string, PodWorker::DiskSeen> disks() const;
  // done: they were, or somebody asked before, and those were.
  void measure_disks(Duration age, std::function<void()> done = {});
  // Pods that may be evicted, with what they use of what is short.
  std::vector<Candidate> candidates(Signal signal, const HostSample& sample) const;
  std::vector<Consumer> consumers(const std::string& uid, Signal signal,
                                  const HostSample& sample) const;
  void evict(const std::string& uid, const std::string& message);
  bool is_freed(const std::string& uid) const;  // nothing is held for it any more
  std::size_t pods() const { return workers_.size(); }
  // The worker of a pod, for logs and exec; null when it is not here.
  const PodWorker* find(std::string_view ns, std::string_view name) const;
  // Every pod that is to run here is known, and what belongs to none is gone.
  bool settled() const { return settled_; }
  // What the pods of this host name: references, and what their containers ran ("repo@sha256:...").
  std::set<std::string> images() const;
  const runtime::SandboxEnv& sandboxes() const { return context_.sandboxes; }

private:
  void on_pod(const store::Change& change);
  void on_source(const store::Change& change);
  void want(const store::Object& pod);
  void unwanted(const std::string& uid);
  void worker_done(const std::string& uid);
  void remove_object(const PodSpec& spec);
  void check_settled();
  void sweep();
  void remove_left_overs(const std::set<std::string>& uids);
  void add_worker(PodSpec spec);
  void measure_next();
  void after(std::chrono::milliseconds delay, std::function<void()> run);

  Context context_;
  ClaimSweep claims_;
  store::Subscription changes_;
  std::map<std::string, std::shared_ptr<PodWorker>> workers_;  // by uid
  std::set<std::string> refused_;                              // uids whose spec could not be read
  bool looked_ = false;                                        // at every pod of the synced replica
  bool settled_ = false;
  bool drains_looked_at_ = true;
  std::vector<std::string> to_measure_;  // uids
  bool measuring_ = false;
  std::vector<std::function<void()>> measure_done_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace shoal::node
