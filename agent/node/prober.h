// SPDX-License-Identifier: Apache-2.0
// Runs a container's readiness probe from the host to the pod's IP, as the kubelet does: a server
// bound to 127.0.0.1 fails here as it does elsewhere. One probe at a time, bounded by its timeout;
// a hung one delays nobody else.
#pragma once

#include "agent/node/pod_spec.h"
#include "netplane/base/clock.h"
#include "netplane/base/ip.h"

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>

namespace shoal::node {

class Prober {
public:
  // on_change: with the first result, and when the probe passes or no longer does; runs on the
  // loop.
  Prober(boost::asio::io_context& loop, const Clock& clock, ReadinessProbe probe,
         const IpAddress& ip, MonoTime container_started,
         std::function<void(bool passing)> on_change);
  ~Prober();  // nothing is called afterwards
  Prober(const Prober&) = delete;
  Prober& operator=(const Prober&) = delete;

private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace shoal::node
