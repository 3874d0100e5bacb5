// SPDX-License-Identifier: Apache-2.0
// `logs`, `exec` and `attach` of pods of this host: the endpoints behind `shoal logs` and `attach`
// (Kubernetes' own paths) and `shoal exec` (frames of both: agent/stream/frames.h). Requests for
// pods of other hosts were sent on before (agent/api/relay.h). Threading: the loop thread; what
// blocks runs on workers.
#pragma once

#include "agent/api/server.h"
#include "agent/node/node.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>

namespace shoal::daemon {

// The worker of a pod that runs here. kUnavailable when another host runs it, which is named.
Result<const node::PodWorker*> find_local_pod(const node::Node& pods, const view::View& view,
                                              const std::string& ns, const std::string& name);

void serve_logs(const api::ExchangePtr& x, const node::Node& pods, const view::View& view,
                boost::asio::io_context& loop, const Clock& clock);
void serve_exec(const api::ExchangePtr& x, const node::Node& pods, const view::View& view,
                boost::asio::io_context& loop, boost::asio::thread_pool& workers);
void serve_attach(const api::ExchangePtr& x, const node::Node& pods, const view::View& view,
                  boost::asio::io_context& loop, boost::asio::thread_pool& workers);

}  // namespace shoal::daemon
