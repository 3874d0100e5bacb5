// SPDX-License-Identifier: Apache-2.0
// Runs one probe of a container. One run at a time, bounded by its timeout; a hung one delays
// nobody else.
#pragma once

#include "agent/node/pod_spec.h"
#include "netplane/base/clock.h"

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>

namespace shoal::node {

struct ProbeNews {
  bool passing = false;
  bool changed = false;  // passing, or this is the first result
  bool failed = false;   // failureThreshold failures in a row, and no end
  ActionResult last;
};

class Prober {
public:
  // on_result: with each result; runs on the loop. It may destroy the prober.
  // passing: what holds before the first result (a liveness probe's container lives).
  Prober(boost::asio::io_context& loop, const Clock& clock, ProbeSpec probe, ActionTarget target,
         MonoTime container_started, bool passing, std::function<void(const ProbeNews&)> on_result);
  ~Prober();  // nothing is called afterwards
  Prober(const Prober&) = delete;
  Prober& operator=(const Prober&) = delete;

private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace shoal::node
