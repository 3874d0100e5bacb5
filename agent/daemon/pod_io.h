// SPDX-License-Identifier: Apache-2.0
// `logs` and `exec` of pods of this host: the endpoints behind `shoal logs` (Kubernetes' own path)
// and `shoal exec` (agent/stream/frames.h). Pods of other hosts are refused with where to ask.
// Threading: the loop thread; what blocks runs on workers.
#pragma once

#include "agent/api/server.h"
#include "agent/node/node.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>

namespace shoal::daemon {

// The worker of a pod that runs here. kUnsupported when another host runs it, which is named;
// `what` is what cannot be done from here: "logs and exec".
Result<const node::PodWorker*> find_local_pod(const node::Node& pods, const view::View& view,
                                              const std::string& ns, const std::string& name,
                                              std::string_view what);

void serve_logs(const api::ExchangePtr& x, const node::Node& pods, const view::View& view,
                boost::asio::io_context& loop, const Clock& clock);
void serve_exec(const api::ExchangePtr& x, const node::Node& pods, const view::View& view,
                boost::asio::io_context& loop, boost::asio::thread_pool& workers);

}  // namespace shoal::daemon
