// SPDX-License-Identifier: Apache-2.0
// PodWorker: carries out one pod's steps (pod_plan.h), one at a time, on the loop and on worker
// threads; follows the shim's events and the readiness probes; reports the status whenever it
// changes. Workers know nothing of each other, so a hung pod delays only itself.
#pragma once

#include "agent/node/container_start.h"
#include "agent/node/context.h"
#include "agent/node/env.h"
#include "agent/node/image_policy.h"
#include "agent/node/pod_disk.h"
#include "agent/node/pod_plan.h"
#include "agent/node/prober.h"
#include "agent/node/stats.h"
#include "agent/node/take_up.h"

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace shoal::node {

struct ContainerProbers {
  std::unique_ptr<Prober> startup, liveness, readiness;
  std::unique_ptr<ActionRun> hook;
  bool stopping = false;  // its preStop hook has begun
  std::string told;       // the failure that the last event was about
  MonoTime told_at{};
};

struct ContainerImage {
  PullSeen seen;
  images::ImagePuller::TicketPtr ticket;  // while it is being pulled
  MonoTime began{};
};

class PodWorker : public std::enable_shared_from_this<PodWorker> {
public:
  // done: the pod is gone from this host; the worker may be dropped. A spec that has a uid only is
  // of a pod that is known by what it left here: told that it is gone(), the worker removes that.
  PodWorker(Context& context, PodSpec spec, std::function<void()> done);
  ~PodWorker();

  void start() { poke(); }
  void update(PodSpec spec);  // the object changed
  void look_at_drain();       // Context::drained may have a new answer
  // An object that volumes may be made of has changed, or ("pods") the pod's labels or annotations.
  void source_changed(std::string_view resource, std::string_view name);
  void gone();  // the object is no more, or no longer this host's
  // Nothing runs or is reported any more; the pod itself goes on.
  void abandon();

  const PodSpec& spec() const { return spec_; }
  const PodSeen& seen() const { return seen_; }
  const std::optional<model::LocalPod>& local() const { return local_; }
  // Nothing: it has no sandbox.
  std::optional<StatsTarget> stats_target() const;
  // What it has on the disk, as it was measured last; nothing: it was not yet.
  struct DiskSeen {
    PodDiskUse use;
    MonoTime at{};
    WallTime wall{};
  };
  const std::optional<DiskSeen>& disk() const { return disk_; }
  bool evictable() const;           // it runs, and is to
  void evict(std::string message);  // it has failed, and its processes end soon
  // False: there is nothing to measure. done: it is measured, or the pod is over.
  bool measure_disk(std::function<void()> done = {});
  bool wanted() const { return wanted_ && !spec_.deleting; }
  // Taken up, but not yet known whether it is ready.
  bool unprobed() const;

private:
  void poke();
  void run(const Step& step);
  template <class Work, class Then>
  void on_worker(Work work, Then then);
  template <class Work, class Then>
  void beside(Work work, Then then);

  void adopt();
  void adopted(Result<TakenUp> result);
  void set_up_volumes();
  void volumes_set_up(bool fresh, const Result<>& result);
  void measure_step(const std::shared_ptr<PodDiskWalk>& walk);
  void measured(const std::shared_ptr<PodDiskWalk>& walk, bool more);
  void measure_later();
  void end_measure();
  void start_sandbox();
  void take_sandbox(runtime::Sandbox sandbox, runtime::ShimEvents events);
  void attach_network();
  void attach(const std::vector<ipam::Lease>& leases);
  void network_is_there(std::vector<model::PodAddress> addresses);
  void start_one(std::size_t index);
  void start_failed(std::size_t index, const Waiting& why);
  bool image_ready(std::size_t index);
  std::vector<std::string> pull_secrets();
  void begin_pull(std::size_t index);
  void pull_ended(std::size_t index, Result<images::PullResult> result);
  void drop_pulls();
  EnvFacts env_facts() const;
  void clean_one(std::size_t index);
  void free_sandbox();
  void begin_stop();
  bool take_drain();
  void shorten_drain();
  void stop_one(std::size_t index);
  void send_stop(std::size_t index, std::chrono::seconds grace);
  void expire();
  void run_post_start(std::size_t index);
  void post_start_ended(std::size_t index, bool ok);
  ActionTarget target_of(std::size_t index) const;
  void stop_again();
  void teardown();
  void take_down(runtime::Sweep what, std::function<void()> done);
  void detach(std::vector<IpAddress> ips, MonoTime until, std::function<void()> done);
  void finished();

  void watch_events();
  void on_events();
  void sandbox_died();
  void take_state(const runtime::shim::ContainerState& state);
  void container_runs(std::size_t index);
  void container_started(std::size_t index);
  std::unique_ptr<Prober> make_prober(std::size_t index, const ProbeSpec& probe, bool passing,
                                      void (PodWorker::*on_result)(std::size_t, const ProbeNews&));
  void startup_news(std::size_t index, const ProbeNews& news);
  void liveness_news(std::size_t index, const ProbeNews& news);
  void readiness_news(std::size_t index, const ProbeNews& news);
  void tell_failure(std::size_t index, std::string_view probe, const ProbeNews& news);
  void condemn(std::size_t index, std::string_view probe,
               std::optional<std::chrono::seconds> grace);
  void container_ended(std::size_t index, bool news);
  void set_ready(std::size_t index, bool ready);
  void step_failed(const Error& error, std::string reason);
  void step_succeeded();
  void report();
  bool left_over() const { return spec_.name.empty(); }
  bool note_due() const { return reported_ && reported_ != noted_; }
  void note();
  void event(std::string_view type, std::string_view reason, const std::string& message);

  Context& context_;
  PodSpec spec_;
  PodSeen seen_;
  std::function<void()> done_;
  bool wanted_ = true;
  bool busy_ = false;
  bool again_ = false;
  bool abandoned_ = false;
  bool drained_ = false;
  bool taking_up_ = false;  // a living sandbox, as far as its network: nothing is reported before
  std::chrono::seconds retry_{0};
  std::chrono::seconds volume_retry_{0};
  std::string volume_problem_;  // that was told last
  MonoTime measure_began_{};
  bool measuring_ = false;
  std::vector<std::function<void()>> measure_done_;
  std::optional<DiskSeen> disk_;
  boost::asio::steady_timer timer_;
  boost::asio::steady_timer measure_timer_;

  ProcessId shim_;
  UniqueFd netns_;
  std::optional<runtime::ShimEvents> events_;
  std::unique_ptr<boost::asio::posix::stream_descriptor> events_ready_;
  std::optional<model::LocalPod> local_;
  std::vector<ContainerProbers> probers_;
  std::vector<ContainerImage> images_;
  std::vector<std::chrono::seconds> condemned_grace_;  // of those that are
  std::optional<boost::json::object> reported_;        // to the cluster, by this agent
  std::optional<boost::json::object> noted_;           // on disk, for the next one
};

// The same for what is no step: it holds no step up.
template <class Work, class Then>
void PodWorker::beside(Work work, Then then) {
  boost::asio::post(context_.workers,
                    [self = shared_from_this(), work = std::move(work), then = std::move(then)] {
                      auto result = std::make_shared<decltype(work())>(work());
                      boost::asio::post(self->context_.loop, [self, result, then] {
                        if (self->abandoned_)
                          return;
                        then(std::move(*result));
                        self->poke();
                      });
                    });
}

// Runs work on a worker thread, then `then(result)` on the loop, then looks for the next step.
template <class Work, class Then>
void PodWorker::on_worker(Work work, Then then) {
  busy_ = true;
  boost::asio::post(context_.workers,
                    [self = shared_from_this(), work = std::move(work), then = std::move(then)] {
                      auto result = std::make_shared<decltype(work())>(work());
                      boost::asio::post(self->context_.loop, [self, result, then] {
                        self->busy_ = false;
                        if (self->abandoned_)
                          return;
                        then(std::move(*result));
                        self->poke();
                      });
                    });
}

}  // namespace shoal::node
