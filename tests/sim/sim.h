// SPDX-License-Identifier: Apache-2.0
// A deterministic simulator for the gossip core: one thread, one queue ordered by (time, sequence),
// one seed. Hosts are Cores; the network between them loses, doubles, delays and reorders
// datagrams, cuts directions one by one, and stops and restarts hosts. After every event the
// checker (checker.h) looks at the host from outside. The same seed gives the same trace hash.
//
//   SHOAL_SIM_SEED=1234 build/release/tests/sim/gossip_sim_test --gtest_filter=...   replays a
//   failure
#pragma once

#include "agent/gossip/core/core.h"
#include "netplane/base/random.h"
#include "tests/sim/checker.h"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace shoal::sim {

struct Network {
  double loss = 0;  // of datagrams; a stream message is delayed instead, as TCP would
  double duplicate = 0;
  double corrupt =
      0;  // a byte is changed and the packet delivered: worse than any AEAD lets through
  Duration delay_min = std::chrono::microseconds(100);
  Duration delay_max = std::chrono::microseconds(600);
};

struct Host {
  std::string name;
  SocketAddress address;
  std::unique_ptr<SeededRandom> random;
  std::unique_ptr<gossip::Core> core;  // null: down
  std::uint64_t life = 0;              // timers and calls of earlier lives are stale
  MonoTime paused_until;
  std::uint64_t bytes_out = 0;  // as sealed, with IP and UDP headers
  std::uint64_t datagrams_out = 0;
};

class Sim {
public:
  explicit Sim(std::uint64_t seed, std::size_t hosts);

  // ---- the clockwork
  MonoTime now() const { return now_; }
  void run_for(Duration span);
  // False when it did not come true in time.
  bool run_until(const std::function<bool()>& condition, Duration at_most);
  void at(Duration after, std::function<void()> action);
  std::uint64_t trace_hash() const { return trace_; }
  std::uint64_t events() const { return events_; }
  std::uint64_t seed() const { return seed_; }
  SeededRandom& random() { return random_; }

  // ---- hosts
  std::size_t size() const { return hosts_.size(); }
  Host& host(std::size_t i) { return hosts_.at(i); }
  gossip::Core& core(std::size_t i) { return *hosts_.at(i).core; }
  bool is_up(std::size_t i) const { return hosts_.at(i).core != nullptr; }
  void start(std::size_t i, const std::vector<std::size_t>& seeds);
  void start_all();  // all at once, the first one is everybody's seed
  void kill(std::size_t i);
  void pause(std::size_t i, Duration span);
  void publish(std::size_t i, const std::string& key, std::optional<std::string> value);
  void publish_settled(std::size_t i);
  void publish_desired(std::size_t i, const std::vector<gossip::DesiredEvent>& events,
                       std::uint64_t complete_to);
  void publish_snapshot(std::size_t i, const std::vector<gossip::DesiredEvent>& values,
                        std::uint64_t revision);
  void command(std::size_t i, const std::function<void(gossip::Core&, gossip::Effects&)>& run);

  // ---- the network
  Network net;
  void cut(std::size_t from, std::size_t to) { cuts_.emplace(from, to); }
  void cut_groups(std::size_t first_of_second);  // [0, n) and [n, size) cannot talk
  void heal() { cuts_.clear(); }

  // ---- what is true of the whole
  bool all_see(std::size_t i, gossip::MemberState state);  // every other host that is up
  bool all_converged();  // every host that is up sees exactly the others alive and holds the same
  Checker checker;
  gossip::ProtocolConfig tuning;  // name, start id and address are filled in a host

private:
  struct Event {
    MonoTime at;
    std::uint64_t sequence = 0;
    std::function<void()> run;
    bool operator>(const Event& other) const {
      return std::pair(at, sequence) > std::pair(other.at, other.sequence);
    }
  };

  void schedule(MonoTime at, std::function<void()> run);
  void step();
  void trace(std::uint64_t value);
  void deliver(std::size_t to, const SocketAddress& from, const std::string& bytes, bool stream);
  void fire(std::size_t i, std::uint64_t life, std::uint64_t token);
  void carry_out(std::size_t i, gossip::Effects& effects);
  void transmit(std::size_t from, const SocketAddress& to, std::string bytes, bool stream);
  Duration some_delay();
  bool chance(double probability);

  std::uint64_t seed_;
  SeededRandom random_;
  MonoTime now_{std::chrono::hours(1)};
  std::uint64_t sequence_ = 0;
  std::uint64_t events_ = 0;
  std::uint64_t trace_ = 0;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> queue_;
  std::vector<Host> hosts_;
  std::map<SocketAddress, std::size_t> by_address_;
  std::set<std::pair<std::size_t, std::size_t>> cuts_;
  std::map<std::pair<std::size_t, std::size_t>, MonoTime> stream_free_;  // streams keep their order
};

}  // namespace shoal::sim
