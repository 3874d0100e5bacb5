// SPDX-License-Identifier: Apache-2.0
// What Prometheus scrapes: text format 0.0.4 at GET /metrics, over plain HTTP.
//
// Values are read when they are scraped, by collectors that run on the agent's loop thread: nothing
// is counted twice, and an agent that nobody scrapes pays nothing. Names follow Prometheus'
// conventions: prefix shoal_, base units, counters end in _total.
#pragma once

#include "netplane/base/ip.h"
#include "netplane/base/result.h"

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace shoal::metrics {

enum class Kind : std::uint8_t { kCounter, kGauge };

struct Sample {
  std::vector<std::pair<std::string, std::string>> labels;
  double value = 0;
};

struct Family {
  std::string name;
  std::string help;
  Kind kind = Kind::kGauge;
  std::vector<Sample> samples;
};

class Metrics {
public:
  using Collector = std::function<std::vector<Family>()>;
  void add(Collector collector) { collectors_.push_back(std::move(collector)); }
  // What has to be read first and takes a while: each scrape waits until it has called `done`.
  using Preparation = std::function<void(std::function<void()> done)>;
  void before(Preparation prepare) { prepare_ = std::move(prepare); }
  void prepare(std::function<void()> done) const { prepare_ ? prepare_(std::move(done)) : done(); }
  // Everything, rendered by prometheus-cpp. Process metrics (CPU, memory, fds, start time) are
  // included.
  std::string render() const;

private:
  std::vector<Collector> collectors_;
  Preparation prepare_;
};

// Serves render(). At most kConnectionsMax at once, each bounded in time and size.
class MetricsServer {
public:
  static constexpr std::size_t kConnectionsMax = 16;

  MetricsServer(boost::asio::io_context& io, const Metrics& metrics);
  ~MetricsServer();
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;

  // Error: the address is in use or not this host's; the message names the config key.
  Result<> listen(const SocketAddress& address);
  std::uint16_t port() const;  // what was bound
  void stop();

private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace shoal::metrics
