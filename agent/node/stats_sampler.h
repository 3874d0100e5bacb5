// SPDX-License-Identifier: Apache-2.0
// StatsSampler: reads what the host and its pods use when somebody asks, and only then. Who asks
// while a reading is under way gets that one. A reading is good for kStatsFresh; two of them, from
// kStatsFresh to kStatsWindowMax apart, tell rates. Who asks for rates and is the first in a long
// time waits for kStatsFresh: there is nothing to compare with.
//
// Threading: the loop thread; the reading is a worker's.
#pragma once

#include "agent/node/stats.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <functional>
#include <memory>
#include <vector>

namespace shoal::node {

inline constexpr std::chrono::seconds kStatsFresh{1};
inline constexpr std::chrono::seconds kStatsWindowMax{60};

class StatsSampler {
public:
  using Sample = std::shared_ptr<const HostSample>;
  using OnSample = std::function<void(const Sample& last)>;
  using OnRates = std::function<void(const Sample& base, const Sample& last)>;
  struct Hooks {
    std::function<std::vector<StatsTarget>()> targets;  // on the loop
    // On a worker: take_sample.
    std::function<HostSample(const std::vector<StatsTarget>&)> take;
  };

  StatsSampler(boost::asio::io_context& loop, boost::asio::thread_pool& workers, const Clock& clock,
               Hooks hooks);
  ~StatsSampler();
  StatsSampler(const StatsSampler&) = delete;
  StatsSampler& operator=(const StatsSampler&) = delete;

  const Sample& last() const { return last_; }  // null: nobody has asked yet
  // Never calls back from within the call.
  void sample(OnSample done);
  void rates(OnRates done);

private:
  void advance();
  void read();
  void taken(HostSample sample);
  template <class Waiting, class... Args>
  void serve(std::vector<Waiting>& waiting, Args... args);

  boost::asio::io_context& loop_;
  boost::asio::thread_pool& workers_;
  const Clock& clock_;
  Hooks hooks_;
  boost::asio::steady_timer timer_;
  Sample base_;  // of last_; null: it has none that is near enough
  Sample last_;
  std::vector<OnSample> sample_waiting_;
  std::vector<OnRates> rates_waiting_;
  bool reading_ = false;
  bool resting_ = false;  // until there can be a second reading
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace shoal::node
