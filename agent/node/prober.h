// SPDX-License-Identifier: Apache-2.0
// The socket work of a readiness probe: TCP connect, or an HTTP GET whose status says it, from the
// host to the pod's address, within the probe's timeout. Never blocks; bounded in what it reads.
// Threading: the loop thread.
#pragma once

#include "agent/node/pod_spec.h"
#include "netplane/base/ip.h"

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string>

namespace shoal::node {

struct ProbeOutcome {
  bool ok = false;
  std::string message;  // why not, for an event
};

// done runs once, later, unless the handle is destroyed first.
class ProbeRun {
public:
  virtual ~ProbeRun() = default;
};
std::shared_ptr<ProbeRun> start_probe(boost::asio::io_context& loop, const ReadinessProbe& probe,
                                      const IpAddress& ip, std::function<void(ProbeOutcome)> done);

}  // namespace shoal::node
