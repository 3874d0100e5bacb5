// SPDX-License-Identifier: Apache-2.0
// PodWorker: one pod of this host. It holds what was observed of it, asks next_step, has at most
// one step under way (on a worker thread or with the network) and asks again: a pod that hangs
// never delays another. News come from the shim's event connection, from probes, from timers and
// from the object. Threading: the loop thread; a result of a step that comes after the worker is
// gone is dropped.
#pragma once

#include "agent/node/pod_network.h"
#include "agent/node/pod_plan.h"
#include "agent/node/pod_runtime.h"
#include "agent/node/pod_status.h"
#include "agent/node/prober.h"
#include "netplane/base/clock.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace shoal::node {

// How long a pod that was ready is out of the services before it gets SIGTERM: the news must reach
// every host's data plane. It counts towards the grace.
inline constexpr std::chrono::milliseconds kDrainDefault{300};

// What all workers of a host share; outlives them.
struct WorkerContext {
  boost::asio::io_context& loop;
  boost::asio::thread_pool& workers;
  PodRuntime& runtime;
  PodNetwork& network;
  const Clock& clock;
  std::string host_ip;
  std::chrono::milliseconds drain = kDrainDefault;
  std::function<void(const PodSpec&, const boost::json::object& status)> report;
  std::function<void(const PodSpec&, std::string_view type, std::string_view reason,
                     std::string_view message)>
      event;
  // Nothing is left of the pod on this host.
  std::function<void(const PodSpec&)> gone;
  // It was looked for, and a living sandbox has its network again: see Node.
  std::function<void(const std::string& uid)> taken_up;
};

class PodWorker : public std::enable_shared_from_this<PodWorker> {
public:
  // reported: the status that the replica shows, perhaps of an earlier agent.
  PodWorker(const WorkerContext& context, PodSpec spec, const boost::json::object& reported);
  void start() { kick(); }
  // Idempotent; a shorter grace than before counts.
  void stop(std::chrono::milliseconds grace);
  const PodSpec& spec() const { return spec_; }
  const PodObserved& observed() const { return observed_; }
  bool taken_up() const { return taken_up_; }

private:
  struct Probe {
    std::optional<runtime::ProbeMachine> machine;
    std::uint32_t attempt = 0;
    std::shared_ptr<ProbeRun> run;
    std::unique_ptr<boost::asio::steady_timer> timer;
  };

  void kick();
  void perform(const Step& step);
  void perform_find();
  void perform_start(std::size_t container);
  void perform_stop();
  void perform_attach();
  void perform_teardown();
  void adopt(LiveSandbox sandbox);
  void sandbox_died();
  void wait_events();
  void take_events();
  void sync_probes();
  void arm_probe(std::size_t container);
  void run_probe(std::size_t container);
  void report();
  void arm_timer(std::optional<MonoTime> wake);
  void tell_taken_up();
  void trouble(std::string_view reason, const Error& error);
  template <class R>
  void on_worker(std::function<R()> work, void (PodWorker::*then)(R));
  template <class R>
  void on_worker(std::function<R()> work, std::function<void(PodWorker&, R)> then);

  const WorkerContext& context_;
  const PodSpec spec_;
  PodObserved observed_;
  Intent intent_;
  bool busy_ = false;
  bool done_ = false;
  bool taken_up_ = false;
  std::string start_time_;
  boost::json::object reported_;
  UniqueFd netns_;
  std::optional<runtime::ShimEvents> events_;
  std::unique_ptr<boost::asio::posix::stream_descriptor> events_ready_;
  boost::asio::steady_timer timer_;
  std::vector<Probe> probes_;
};

}  // namespace shoal::node
