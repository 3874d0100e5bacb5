// SPDX-License-Identifier: Apache-2.0
// FakeCluster: hosts with real replicas, writers, views and runners, over one store in memory, in
// one thread and one time. Faked are the store's engine, gossip (each delivery takes its own random
// time, so that hosts see changes late and out of order), membership, and the node agent (a bound
// pod becomes ready, a deleted one goes).
//
//   store --commit--> [delay] --> replica of each host --> view --> runner --> writer --> [delay]
//   --> store node agent of a host --status--> [delay] --> replica of each host
//
// A checker looks at the store after every commit, from outside. The same seed gives the same run.
#pragma once

#include "agent/api/store_writer.h"
#include "agent/controllers/runner.h"
#include "netplane/base/random.h"
#include "tests/fakes/memory_store.h"
#include "tests/fakes/objects.h"
#include "tests/fakes/test_loop.h"

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace shoal::fakes {

struct FakeTimes {
  Duration gossip_max = std::chrono::milliseconds(80);
  Duration write_max = std::chrono::milliseconds(10);  // to the store, and back
  Duration pod_start_max = std::chrono::milliseconds(300);
  Duration pod_stop_max = std::chrono::milliseconds(300);
  Duration death_seen_max = std::chrono::milliseconds(500);
};

class FakeCluster {
public:
  FakeCluster(std::uint64_t seed, int hosts, FakeTimes times = {},
              controllers::RunnerOptions runner = {});
  ~FakeCluster();
  FakeCluster(const FakeCluster&) = delete;
  FakeCluster& operator=(const FakeCluster&) = delete;

  TestLoop loop;
  MemoryStore store{loop};

  // ---- acting on it
  // As a user; asserts that the write is accepted.
  void create(std::string_view text);
  void patch(std::string_view resource, std::string_view name, std::string_view text);
  void remove(std::string_view resource, std::string_view name,
              std::optional<std::int64_t> grace_s = {}, std::string_view ns = "default");
  // Link cut and processes gone; the others' membership finds out after a while.
  void kill(const std::string& host);
  void revive(const std::string& host);  // with nothing but its name
  // Its writes go nowhere, while it lives and answers as a member.
  void stall(const std::string& host, bool stalled);
  // This host takes itself for the only one alive.
  void isolate_view(const std::string& host);

  // ---- looking at it, in the store's truth
  std::vector<boost::json::object> objects(std::string_view resource) const;
  std::vector<boost::json::object> active_pods(std::string_view owner_prefix = {}) const;
  std::size_t ready_pods() const;  // active, and ready at their host's agent
  std::map<std::string, int> pods_by_host() const;
  boost::json::object object(std::string_view resource, std::string_view name) const;
  std::vector<std::string> events(std::string_view reason) const;
  controllers::RunnerStats stats() const;  // of all hosts together
  std::vector<std::string> hosts() const;
  std::string describe() const;  // deployments, sets and pods, for a failure's message
  view::View& view_of(const std::string& host);

  bool until(const std::function<bool()>& condition, Duration limit = std::chrono::seconds(60)) {
    return loop.run_until(condition, limit);
  }
  // No runner has anything to do for a whole second.
  bool quiet(Duration limit = std::chrono::seconds(60));
  // Runs after every commit.
  std::function<void()> check;

private:
  struct Host;
  Duration random_up_to(Duration max);
  void start_host(const std::string& name, int number);
  void deliver(Host& host, store::Revision revision, const std::vector<store::Event>& events);
  void report(const std::string& origin, std::string_view resource, std::string_view ns,
              std::string_view name, const std::string& uid,
              std::optional<boost::json::object> status);
  void on_pod(Host& host, const view::Change& change);
  void set_member(const std::string& about, bool alive);
  void answer_of_user(const std::string& what, const api::WriteResult& result);
  Host& any_host();

  SeededRandom random_;
  FakeTimes times_;
  controllers::RunnerOptions runner_options_;
  std::map<std::string, std::unique_ptr<Host>> hosts_;
  std::map<std::string, int> numbers_;
  struct Reported {
    std::string origin, resource, ns, name, uid;
    boost::json::object status;
  };
  std::map<std::string, Reported> reported_;  // by origin and object key
  std::set<std::string> ready_uids_;
  controllers::RunnerStats past_stats_;  // of hosts that were killed
};

}  // namespace shoal::fakes
