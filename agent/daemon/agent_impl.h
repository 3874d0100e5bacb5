// SPDX-License-Identifier: Apache-2.0
// The inside of an Agent, shared by the files that make it up: agent.cpp (order of start and stop)
// and routes.cpp (Shoal's own endpoints). Not for anyone else.
#pragma once

#include "agent/api/relay.h"
#include "agent/api/server.h"
#include "agent/api/store_writer.h"
#include "agent/api/txn_forward.h"
#include "agent/controllers/runner.h"
#include "agent/daemon/agent.h"
#include "agent/daemon/cluster_admin.h"
#include "agent/daemon/drain_board.h"
#include "agent/daemon/gossip_bridge.h"
#include "agent/daemon/group_drains.h"
#include "agent/daemon/heap_keeper.h"
#include "agent/daemon/netplane_driver.h"
#include "agent/daemon/node_status.h"
#include "agent/daemon/pod_capture.h"
#include "agent/daemon/sd_notify.h"
#include "agent/daemon/source_probe.h"
#include "agent/daemon/usage_views.h"
#include "agent/health/health_server.h"
#include "agent/images/image_gc.h"
#include "agent/images/puller.h"
#include "agent/metrics/metrics.h"
#include "agent/node/node.h"
#include "agent/node/pressure.h"
#include "agent/node/stats_sampler.h"
#include "agent/store/sqlite_store.h"
#include "runtime/image/store.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <optional>

namespace shoal::daemon {

inline constexpr std::size_t kWorkers = 4;  // image loads, OCI runtime calls
inline constexpr unsigned kSuspicionMaxMult = 2;
inline constexpr std::chrono::seconds kNodeStatusInterval{60};
inline constexpr std::chrono::hours kExpiryWarning{24 * 30};  // of this host's certificate

class LoopTimers final : public controllers::Timers {
public:
  LoopTimers(boost::asio::io_context& loop, const Clock& clock) : loop_(loop), clock_(clock) {}
  void run_at(MonoTime when, std::function<void()> run) override;

private:
  boost::asio::io_context& loop_;
  const Clock& clock_;
};

// Each may hold as many flows as there are in one answer.
inline constexpr std::size_t kFlowReadingsMax = 4;

// A question for flows that is being answered.
struct FlowJob {
  apply::FlowReading reading;
  std::shared_ptr<void> place;
  bool gone = false;  // who asked
};

struct Agent::Impl {
  Impl(const Options& o, ClusterFiles f, const Clock& c, Random& r);
  ~Impl();

  // ---- start, in this order
  Result<> open_images();
  Result<> open_store();
  Result<> make_gossip();
  Result<> make_api();
  void make_controllers();
  Result<> make_metrics();
  Result<> start();
  void load_store();
  void register_first_node();
  void join_known_hosts();
  void on_own_node(const store::Object& node);
  Result<> start_network(const store::Object& node);
  Result<> start_pods(const std::vector<IpPrefix>& pod_cidrs);
  std::vector<IpAddress> own_addresses() const;
  void report_node(bool ready, std::string message);
  NodeResources own_resources() const;
  std::vector<PressureFacts> pressure_facts();
  void start_pressure();
  void commit(store::Txn txn, api::TxnDone done);
  std::optional<api::StoreHost> store_host() const;
  bool statuses_arrived() const;
  std::vector<metrics::Family> collect() const;
  void arm_node_status();
  void start_source_probe();
  void on_source_verdict(const std::string& host);
  void warn_of_expiry() const;
  void tell_of_node(std::string_view reason, const std::string& message);
  void fatal(Error error);

  // ---- endpoints
  void routes();
  bool sent_on(const api::ExchangePtr& x);
  bool sent_to(const api::ExchangePtr& x, const std::string& host, const std::string& what);
  api::RelayOptions relay_options() const;
  std::vector<api::PeerHost> other_hosts(std::vector<std::string>& warnings) const;
  void usage_routes(
      const std::function<void(const char*, std::function<void(const api::ExchangePtr&)>)>& get);
  void list_usage(const api::ExchangePtr& x, bool nodes);
  void node_usage(const api::ExchangePtr& x);
  void pod_usage(const api::ExchangePtr& x);
  void summary(const api::ExchangePtr& x);
  boost::json::array own_usage(bool nodes, const UsageFilter& filter,
                               const node::HostUse& use) const;
  void flows(const api::ExchangePtr& x);
  void next_flows(const api::ExchangePtr& x, const std::shared_ptr<FlowJob>& job);
  void trace(const api::ExchangePtr& x);
  void status(const api::ExchangePtr& x);
  void node_join(const api::ExchangePtr& x);
  void create_token(const api::ExchangePtr& x);
  boost::json::object images_view() const;
  boost::json::array pods_of(const std::vector<std::string>& holders) const;  // of images
  void pull_image(const api::ExchangePtr& x);
  void push_image(const api::ExchangePtr& x);
  void load_image(const api::ExchangePtr& x);
  void remove_image(const api::ExchangePtr& x);

  const Options& options;
  ClusterFiles files;
  const Clock& clock;
  Random& random;

  boost::asio::io_context loop{1};
  boost::asio::thread_pool workers{kWorkers};
  boost::asio::signal_set signals{loop};
  Watchdog watchdog{loop};
  HeapKeeper heap{loop};
  boost::asio::steady_timer node_timer{loop};
  LoopTimers timers{loop, clock};

  store::Replica replica;
  std::unique_ptr<store::SqliteStore> store;  // on the store's host
  std::unique_ptr<gossip::Gossip> gossip;
  std::unique_ptr<GossipBridge> bridge;
  std::unique_ptr<api::TxnForwarder> forwarder;  // elsewhere
  std::unique_ptr<api::Writer> writer;
  std::unique_ptr<api::Writer> dry_writer;
  std::unique_ptr<api::Server> server;
  std::unique_ptr<ClusterAdmin> admin;  // on the store's host
  view::View view;
  std::unique_ptr<DrainBoard> drains;
  std::unique_ptr<controllers::Runner> runner;
  std::unique_ptr<runtime::ImageStore> images;
  std::unique_ptr<images::ImagePuller> puller;
  std::unique_ptr<images::ImageGc> image_gc;
  std::unique_ptr<apply::DataPlane> data_plane;  // once this host's CIDR is known
  std::unique_ptr<SourceProbe> sources;          // proxy: ebpf
  std::unique_ptr<NetplaneDriver> driver;
  std::unique_ptr<GroupDrains> group_drains;
  std::unique_ptr<health::HealthServer> health_server;
  std::unique_ptr<ipam::PodLeases> leases;
  std::unique_ptr<node::Node> pods;
  std::unique_ptr<node::StatsSampler> sampler;      // with pods
  std::unique_ptr<node::PressureMonitor> pressure;  // once they have settled
  std::map<node::Pressure::Kind, std::pair<bool, WallTime>> pressure_since;
  Places captures{kCapturesMax};
  Places flow_readings{kFlowReadingsMax};
  metrics::Metrics metrics;
  std::unique_ptr<metrics::MetricsServer> metrics_server;

  store::Subscription own_node;
  std::string own_node_uid;
  bool node_ready = false;
  std::string node_message = "starting";
  WallTime node_ready_since{};
  std::vector<IpAddress> node_reported;  // the addresses last reported
  std::optional<Error> failure;
};

}  // namespace shoal::daemon
