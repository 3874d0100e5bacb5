// SPDX-License-Identifier: Apache-2.0
// HealthServer: what the healthCheckNodePort of each load balancer with externalTrafficPolicy Local
// answers on this host, so that a load balancer in front sends clients only where a backend is.
// kube-proxy's protocol: any request gets 200 when the host has a ready backend and balances, else
// 503, with the header X-Load-Balancing-Endpoint-Weight and a JSON body:
//   {"service": {"namespace": "default", "name": "web"}, "localEndpoints": 2,
//    "serviceProxyHealthy": true}
// Plain HTTP on all IPv4 addresses of the host. A port that cannot be had (something else listens
// there) is tried again. Threading: the loop thread.
#pragma once

#include "agent/desired/desired.h"

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace shoal::health {

struct HealthOptions {
  bool ipv6 = false;                                // answered over that, too
  std::chrono::milliseconds retry_interval{5'000};  // of a port that somebody else has
};

class HealthServer {
public:
  static constexpr std::size_t kConnectionsMax = 64;  // of all ports

  // healthy: this host's data plane follows what the cluster wants.
  HealthServer(boost::asio::io_context& io, std::function<bool()> healthy,
               const HealthOptions& options = {});
  ~HealthServer();
  HealthServer(const HealthServer&) = delete;
  HealthServer& operator=(const HealthServer&) = delete;

  // Listens for what is new, and no more for what is not listed.
  void update(const std::vector<desired::HealthCheck>& checks);
  // What cannot be served now, and why.
  std::vector<std::string> errors() const;

private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace shoal::health
