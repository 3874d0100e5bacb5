// SPDX-License-Identifier: Apache-2.0
// PressureMonitor: looks every kLookEvery whether the host is short of memory, disk, inodes or
// process ids, tells it as node conditions, and has one pod at a time evicted until it is not: the
// next one only when the last is gone. For the disk's sake images that nobody needs go first.
//
// Memory is what the host has available (MemAvailable), or what the pods' slice has left of its
// limit, whichever is less: limits of pods' own are not overcommitted by what the host could give.
//
// Threading: the loop thread; what is read is read by a worker.
#pragma once

#include "agent/node/eviction.h"
#include "agent/node/node.h"
#include "agent/node/stats_sampler.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace shoal::node {

struct PressureOptions {
  bool evict = true;  // false: conditions are told all the same
  Thresholds thresholds;
  Duration transition = std::chrono::minutes(5);
};

// What is available on this host; blocking. state, images: folders on the file systems meant.
Levels read_levels(const runtime::SandboxEnv& env, const std::filesystem::path& state,
                   const std::filesystem::path& images);

class PressureMonitor {
public:
  static constexpr std::chrono::seconds kLookEvery{2};
  static constexpr std::chrono::seconds kActEvery{10};   // with nobody evicted
  static constexpr std::chrono::seconds kVictimMax{30};  // that one is waited for
  static constexpr std::chrono::seconds kMeasureMax{10};
  static constexpr std::chrono::seconds kDiskFresh{30};

  struct Hooks {
    std::function<Levels()> read;  // on a worker
    std::function<void(const std::vector<Pressure::Kind>& kinds)> changed;
    std::function<void(const std::string& resource)> reclaiming;
    std::function<void(std::function<void()> done)> free_images;
  };

  PressureMonitor(boost::asio::io_context& loop, boost::asio::thread_pool& workers,
                  const Clock& clock, Node& node, StatsSampler& sampler, PressureOptions options,
                  Hooks hooks);
  ~PressureMonitor();
  PressureMonitor(const PressureMonitor&) = delete;
  PressureMonitor& operator=(const PressureMonitor&) = delete;

  void start() { look(); }
  bool is(Pressure::Kind kind) const { return pressure_.is(kind); }
  const std::map<Signal, std::uint64_t>& evictions() const { return evictions_; }

private:
  void arm();
  void look();
  void looked(const Levels& levels);
  bool victim_lives();
  void act(const Shortage& shortage);
  void free_images(const Shortage& shortage);
  void measure(const Shortage& shortage);
  void evict(const Shortage& shortage);
  template <class Then>
  void read(Then then);

  boost::asio::io_context& loop_;
  boost::asio::thread_pool& workers_;
  const Clock& clock_;
  Node& node_;
  StatsSampler& sampler_;
  const PressureOptions options_;
  Hooks hooks_;
  boost::asio::steady_timer timer_;
  boost::asio::steady_timer measure_timer_;
  Pressure pressure_;
  bool acting_ = false;
  MonoTime act_not_before_{};
  std::string victim_;  // uid; empty: none
  MonoTime victim_since_{};
  std::map<Signal, std::uint64_t> evictions_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace shoal::node
