// SPDX-License-Identifier: Apache-2.0
// The agent of a member host: composition. What it is made of and in which order it starts:
//
//   store (on its host) -> replica, gossip -> writer, REST server, controllers
//   once this host's Node object is known, with its pod CIDR: data plane, pods, "ready"
//
// Stopping it stops nothing else: pods, programs and maps go on.
// Threading: one loop thread owns everything; workers_ runs what blocks.
#pragma once

#include "agent/daemon/options.h"
#include "netplane/base/random.h"

#include <memory>

namespace shoal::daemon {

class Agent {
public:
  // clock and random must outlive it.
  static Result<std::unique_ptr<Agent>> create(const Options& options, ClusterFiles files,
                                               const Clock& clock, Random& random);
  ~Agent();
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  // Runs until SIGTERM or SIGINT.
  Result<Ended> run();

private:
  struct Impl;
  explicit Agent(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace shoal::daemon
