// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/agent.h"

#include "agent/daemon/agent_impl.h"
#include "agent/daemon/host_addresses.h"
#include "agent/daemon/ports.h"
#include "agent/daemon/sd_notify.h"
#include "agent/gossip/net/start_record.h"
#include "netplane/base/fs.h"
#include "netplane/base/hash.h"
#include "netplane/base/process.h"
#include "netplane/base/strings.h"

#include <boost/asio/post.hpp>
#include <boost/json.hpp>
#include <csignal>
#include <spdlog/spdlog.h>
#include <sys/resource.h>

namespace shoal::daemon {

namespace asio = boost::asio;
namespace json = boost::json;

namespace {

// What the controllers, the data plane and the node agent look at.
const std::vector<std::string> kViewed = {"pods",
                                          "services",
                                          "nodes",
                                          "namespaces",
                                          "deployments.apps",
                                          "replicasets.apps",
                                          "endpoints",
                                          "endpointslices.discovery.k8s.io",
                                          "configmaps",
                                          "secrets",
                                          "persistentvolumeclaims"};

SocketAddress reachable(const SocketAddress& listen, const IpAddress& underlay) {
  return {listen.ip.is_unspecified() ? underlay : listen.ip, listen.port};
}

}  // namespace

void LoopTimers::run_at(MonoTime when, std::function<void()> run) {
  auto timer = std::make_shared<asio::steady_timer>(loop_);
  timer->expires_after(std::max(Duration::zero(), when - clock_.now()));
  timer->async_wait([timer, run = std::move(run)](const boost::system::error_code& error) {
    if (!error)
      run();
  });
}

Agent::Impl::Impl(const Options& o, ClusterFiles f, const Clock& c, Random& r)
    : options(o), files(std::move(f)), clock(c), random(r) {}

Agent::Impl::~Impl() {
  // Callbacks into what is about to go are cut off first; pods, programs and maps stay.
  if (server)
    server->stop();
  if (metrics_server)
    metrics_server->stop();
  if (gossip)
    gossip->stop();
  workers.join();
}

Result<> Agent::Impl::open_store() {
  if (!files.store_host)
    return {};
  store::SqliteOptions sqlite;
  sqlite.path = options.state_dir / "store.db";
  store = SHOAL_TRY(store::SqliteStore::open(
      std::move(sqlite), [this](std::function<void()> run) { asio::post(loop, std::move(run)); }));
  return {};
}

Result<> Agent::Impl::make_gossip() {
  gossip::Key key{};
  SHOAL_ASSERT(files.gossip_key.size() == key.size());
  std::copy(files.gossip_key.begin(), files.gossip_key.end(), key.begin());
  const std::filesystem::path start_file = options.state_dir / "gossip-start";
  const IpAddress underlay = *options.underlay;
  gossip::Config config;
  config.protocol.name = files.node_name;
  config.protocol.start_id = SHOAL_TRY(gossip::next_start_id(start_file, clock));
  // Without it the wall clock still tells starts apart, and the cluster corrects that one: a full
  // disk must not keep a host out.
  if (auto saved = gossip::save_start_id(start_file, config.protocol.start_id); !saved)
    spdlog::warn("{}; make room: going on without", saved.error().message());
  config.protocol.meta.gossip_address = reachable(options.gossip, underlay);
  config.protocol.meta.api_address = reachable(options.api, underlay);
  config.protocol.meta.underlay = underlay;
  config.protocol.meta.native_routes = options.data_plane.native_routes;
  config.protocol.meta.version = kVersion;
  gossip::set_probing(config.protocol, options.gossip_probe_interval, options.gossip_probe_timeout);
  // Nobody may be there to confirm a suspicion (two hosts, or the third is gone too): it must not
  // take the 12 s that Lifeguard's default would give it.
  config.protocol.suspicion_max_mult = kSuspicionMaxMult;
  SHOAL_TRY_WRAP(gossip::validate(config.protocol), "config keys gossip.*");
  config.listen = options.gossip;
  config.cluster_id = files.cluster_id;
  config.keys = SHOAL_TRY(gossip::KeyRing::make({key}));
  gossip = std::make_unique<gossip::Gossip>(loop, std::move(config), clock, random);
  gossip->on_start_id_raised([start_file](std::uint64_t id) {
    if (auto saved = gossip::save_start_id(start_file, id); !saved)
      spdlog::error("{}", saved.error().message());
  });
  bridge = std::make_unique<GossipBridge>(*gossip, files.node_name, replica, clock);
  bridge->on_members_changed([this] {
    if (runner)
      runner->members_changed();
    if (driver)
      driver->members_changed();
    if (pods)
      pods->drains_changed();
  });
  bridge->on_applied([this](std::string_view host, const std::string* value) {
    if (drains)
      drains->told(host, value);
  });
  return {};
}

Result<> Agent::Impl::make_api() {
  const std::filesystem::path pki = options.state_dir / "pki";
  if (!files.store_host) {
    api::ForwarderOptions forward;
    forward.certificate = pki / "node.crt";
    forward.key = pki / "node.key";
    forward.ca = pki / "ca.crt";
    forwarder =
        api::make_https_forwarder(loop, std::move(forward), [this] { return store_host(); });
  }
  api::WriterOptions writing;
  writing.service_cidrs = files.settings.service_cidrs;
  writing.load_balancer_pools = files.settings.lb_pools;
  writing.node_ports = files.settings.node_port_range;
  writer = api::make_writer(
      replica,
      [this](store::Txn txn, api::TxnDone done) { commit(std::move(txn), std::move(done)); },
      [this](std::function<void()> run) { asio::post(loop, std::move(run)); }, clock, random,
      writing);
  // The same decisions, and nothing is written: for ?dryRun=All.
  writing.dry_run = true;
  dry_writer = api::make_writer(
      replica,
      [this](store::Txn, api::TxnDone done) {
        asio::post(loop, [done] { done(fail(Errc::kInternal, "a dry run wrote")); });
      },
      [this](std::function<void()> run) { asio::post(loop, std::move(run)); }, clock, random,
      writing);
  api::ServerOptions serving;
  serving.unix_path = options.socket();
  serving.dry_run_writer = dry_writer.get();
  serving.tls = api::TlsOptions{options.api.ip.to_string(), options.api.port, pki / "node.crt",
                                pki / "node.key", pki / "ca.crt"};
  server = std::make_unique<api::Server>(loop, replica, *writer, clock, std::move(serving));
  if (store) {
    admin = std::make_unique<ClusterAdmin>(
        files, *store, replica, clock, random,
        [this](std::function<void()> run) { asio::post(loop, std::move(run)); });
    api::serve_store(*server, *store, [](const api::Peer& peer) {
      return peer.local || peer.organization == pki::kNodesOrganization;
    });
  }
  routes();
  return {};
}

void Agent::Impl::make_controllers() {
  view.attach(replica, kViewed);
  drains = std::make_unique<DrainBoard>(
      files.node_name, view,
      [this](std::string value) { return gossip->publish(kAppliedKey, std::move(value)); },
      [this] { timers.run_at(clock.now() + kDrainRetry, [this] { drains->retry(); }); },
      [this](store::Revision revision) {
        replica.when_revision(revision, [this] {
          if (driver)
            driver->view_completed();
        });
      });
  drains->on_news([this] {
    if (pods)
      pods->drains_changed();
  });
  controllers::RunnerOptions running;
  running.self = files.node_name;
  running.controllers.pod_replace_after = options.pod_replace_after;
  running.controllers.load_balancer_pools = files.settings.lb_pools;
  runner = std::make_unique<controllers::Runner>(
      view, *writer, clock, timers, [this]() -> const view::Members& { return bridge->members(); },
      std::move(running));
  own_node = view.subscribe([this](const view::Change& change) {
    if (change.object->resource != view::kNodes || change.object->name != files.node_name)
      return;
    if (change.kind == store::ChangeKind::kDeleted)
      spdlog::error("this host's Node object was removed: it is no longer part of the cluster. To "
                    "use it again, "
                    "stop shoald, empty {} and join",
                    options.state_dir.string());
    else
      on_own_node(*change.object);
  });
}

Result<> Agent::Impl::make_metrics() {
  metrics.add([this] { return collect(); });
  if (options.container_metrics)
    metrics.before([this](std::function<void()> done) {
      if (!sampler)
        return done();
      sampler->sample([done = std::move(done)](const node::StatsSampler::Sample&) { done(); });
    });
  metrics_server = std::make_unique<metrics::MetricsServer>(loop, metrics);
  return explain_listen(metrics_server->listen(options.metrics), "metrics");
}

Result<> Agent::Impl::start() {
  SHOAL_TRY(open_images());
  SHOAL_TRY(open_store());
  SHOAL_TRY(make_gossip());
  SHOAL_TRY(make_api());
  make_controllers();
  SHOAL_TRY(make_metrics());
  SHOAL_TRY(explain_listen(gossip->start(), "gossip"));
  gossip->join(files.seeds);
  SHOAL_TRY(explain_listen(server->start(), "api"));
  if (store)
    load_store();
  runner->start();
  return {};
}

void Agent::Impl::load_store() {
  bridge->follow(*store, [this](Result<> loaded) {
    if (!loaded)
      return fatal(std::move(loaded).error());
    store->txn(api::bootstrap_txn(clock, random), [this](Result<store::TxnResult> result) {
      if (!result)
        return fatal(std::move(result).error().wrap("write the first objects"));
      register_first_node();
      join_known_hosts();
    });
  });
}

// The first host of a cluster was told of no other; after a restart it asks those that it knows.
void Agent::Impl::join_known_hosts() {
  std::vector<SocketAddress> seeds = files.seeds;
  for (const view::ObjectPtr& node : view.list(view::kNodes))
    if (const auto address = view::node_underlay(*node); address && node->name != files.node_name)
      seeds.emplace_back(*address, options.gossip.port);
  gossip->join(std::move(seeds));
}

void Agent::Impl::register_first_node() {
  if (replica.get("nodes", "", files.node_name))
    return;
  auto cidrs = free_pod_cidrs(files.settings, replica);
  if (!cidrs)
    return fatal(std::move(cidrs).error());
  store->txn(register_node_txn(files.node_name, *options.underlay, *cidrs, clock, random),
             [this](Result<store::TxnResult> result) {
               if (!result)
                 fatal(std::move(result).error().wrap("register this host"));
             });
}

void Agent::Impl::on_own_node(const store::Object& node) {
  if (node.uid == own_node_uid)
    return;
  own_node_uid = node.uid;
  // Not from within the replica's call: the network's start reads and writes it.
  asio::post(loop, [this] {
    const auto object = view.get(view::kNodes, "", files.node_name);
    if (!object)
      return;
    if (auto started = start_network(*object); !started)
      fatal(std::move(started).error());
  });
}

Result<> Agent::Impl::start_network(const store::Object& node) {
  if (data_plane)
    return fail(Errc::kConflict, "this host was removed and registered again; restart shoald");
  apply::Config config = options.data_plane;
  config.node_name = files.node_name;
  config.uplink = options.uplink;
  config.underlay = options.underlay;
  const std::vector<IpPrefix> pod_cidrs = view::node_pod_cidrs(node);
  config.ipv6 = pod_cidrs.size() > 1;
  config.vxlan_port = files.settings.vxlan_port;
  config.cgroup_root = options.cgroup_root;
  config.hash_seed = hash64(files.cluster_id);
  if (pod_cidrs.empty())
    return fail(Errc::kCorrupt, fmt::format("Node {} has no spec.podCIDR", node.name));
  data_plane = SHOAL_TRY(apply::open_data_plane(config, clock));
  for (const std::string& limit : data_plane->limitations())
    spdlog::warn("{}", limit);
  desired::Inputs base{.self = files.node_name,
                       .cluster_cidrs = files.settings.pod_cidrs,
                       .agent_ports = {{L4Proto::kTcp, options.api.port},
                                       {L4Proto::kTcp, options.gossip.port},
                                       {L4Proto::kUdp, options.gossip.port},
                                       {L4Proto::kTcp, options.metrics.port},
                                       {L4Proto::kUdp, files.settings.vxlan_port}},
                       .service_cidrs = files.settings.service_cidrs,
                       .snat = config.snat};
  base.cluster_cidrs.insert(base.cluster_cidrs.end(), files.settings.service_cidrs.begin(),
                            files.settings.service_cidrs.end());
  health_server = std::make_unique<health::HealthServer>(
      loop, [this] { return driver && driver->settled(); },
      health::HealthOptions{.ipv6 = config.ipv6});
  NetplaneDriver::Inputs inputs;
  inputs.members = [this]() -> const view::Members& { return bridge->members(); };
  inputs.statuses_arrived = [this] { return statuses_arrived(); };
  inputs.node_addresses = [this, ipv6 = config.ipv6] {
    if (!node_reported.empty() && own_addresses() != node_reported)
      report_node(node_ready, node_message);
    std::vector<std::string> uplinks;
    for (const kernel::Uplink& uplink : data_plane->uplinks())
      uplinks.push_back(uplink.name);
    return node_port_addresses(list_host_addresses(ipv6), uplinks, *options.underlay,
                               options.node_port_addresses);
  };
  inputs.snat_hosts = [this] {
    return sources && options.snat_auto ? sources->verdicts().dropped() : std::set<std::string>();
  };
  inputs.show_health = [this](const std::vector<desired::HealthCheck>& checks) {
    health_server->update(checks);
  };
  inputs.loaded = [this] { heap.look(); };
  inputs.applied = [this] { drains->applied(); };
  start_source_probe();
  driver = std::make_unique<NetplaneDriver>(loop, view, *data_plane, *writer, clock,
                                            std::move(base), std::move(inputs));
  driver->start();
  group_drains = std::make_unique<GroupDrains>(
      loop, workers, view, *data_plane, *writer, clock,
      GroupDrains::Inputs{files.node_name, [this] { return driver->settled(); }});
  group_drains->start();
  SHOAL_TRY(start_pods(pod_cidrs));
  gossip::MemberMeta meta = gossip->self().meta;
  meta.pod_cidrs = pod_cidrs;
  gossip->update_meta(std::move(meta));
  std::string cidrs;
  for (const IpPrefix& cidr : pod_cidrs)
    cidrs += (cidrs.empty() ? "" : " and ") + cidr.to_string();
  spdlog::info("pods of this host are in {}, over {} ({})", cidrs, data_plane->uplink().name,
               data_plane->uplink().address.to_string());
  report_node(true, "shoald is running");
  arm_node_status();
  return {};
}

// How this host is reached, IPv4 first; an IPv6 address where the cluster has that family.
std::vector<IpAddress> Agent::Impl::own_addresses() const {
  std::vector<IpAddress> out{*options.underlay};
  if (data_plane && files.settings.pod_cidrs.size() > 1 && data_plane->uplink().address_v6)
    out.push_back(*data_plane->uplink().address_v6);
  return out;
}

Result<> Agent::Impl::start_pods(const std::vector<IpPrefix>& pod_cidrs) {
  leases = std::make_unique<ipam::PodLeases>(SHOAL_TRY_WRAP(
      ipam::PodLeases::open(options.state_dir, pod_cidrs, SHOAL_TRY(boot_id()), clock),
      "open the address leases"));
  runtime::SandboxEnv sandboxes;
  sandboxes.run_dir = options.run_dir / "pods";
  sandboxes.data_dir = options.state_dir / "pods";
  sandboxes.shim = options.shim;
  sandboxes.oci_runtime = options.oci_runtime;
  sandboxes.cgroups = SHOAL_TRY(runtime::detect_cgroups());
  // Pods together leave to the host what is kept for it.
  const NodeResources host = own_resources();
  if (auto limited = runtime::limit_slice(
          sandboxes.cgroups, sandboxes.slice,
          {host.pods_memory_bytes, std::nullopt, host.pods_cpu_milli, std::nullopt});
      !limited)
    spdlog::warn("nothing is kept for this host's own processes: {}", limited.error().message());
  const auto own_score = read_file("/proc/self/oom_score_adj", 16);
  rlimit files_limit{};
  ::getrlimit(RLIMIT_NOFILE, &files_limit);
  node::Context context{
      .loop = loop,
      .workers = workers,
      .clock = clock,
      .view = view,
      .writer = *writer,
      .data_plane = *data_plane,
      .leases = *leases,
      .images = *images,
      .puller = *puller,
      .sandboxes = std::move(sandboxes),
      .node_name = files.node_name,
      .host_ips = [this] { return own_addresses(); },
      .nofile_hard = files_limit.rlim_max,
      .memory_bytes = host.memory_bytes,
      .oom_score_adj = static_cast<int>(own_score ? parse_int(trim(*own_score)).value_or(0) : 0),
      .pod_pids_max = options.pod_pids_max,
      .report = {},
      .drained = [this](const std::string& uid) { return drains->drained(uid, bridge->members()); },
      .local_pods_changed = {},
      .settled = {}};
  context.report = [this](const std::string& ns, const std::string& name, const std::string& uid,
                          std::optional<json::object> status) {
    if (auto told = bridge->report("pods", ns, name, uid, std::move(status)); !told)
      spdlog::error("report pod {}/{}: {}", ns, name, told.error().message());
  };
  context.local_pods_changed = [this](std::vector<model::LocalPod> local) {
    driver->set_local_pods(std::move(local));
  };
  context.settled = [this] {
    gossip->publish_settled();
    driver->local_pods_settled();
    image_gc->start();
    start_pressure();
  };
  node::StatsSampler::Hooks stats;
  stats.targets = [this] { return pods->stats_targets(); };
  stats.take = [env = context.sandboxes, &clock = clock](const auto& targets) {
    return node::take_sample(env, targets, clock);
  };
  pods = std::make_unique<node::Node>(std::move(context));
  sampler = std::make_unique<node::StatsSampler>(loop, workers, clock, std::move(stats));
  pods->start();
  return {};
}

void Agent::Impl::report_node(bool ready, std::string message) {
  if (ready != node_ready || node_ready_since == WallTime{})
    node_ready_since = clock.wall();
  node_ready = ready;
  node_message = std::move(message);
  node_reported = own_addresses();
  NodeFacts facts{files.node_name,  node_reported,
                  node_ready,       node_message,
                  node_ready_since, options.oci_runtime.filename().string(),
                  own_resources(),  options.data_plane.proxy == apply::ProxyMode::kEbpf,
                  pressure_facts()};
  if (auto told = bridge->report("nodes", "", files.node_name, own_node_uid, node_status(facts));
      !told)
    spdlog::error("report this host's status: {}", told.error().message());
}

void Agent::Impl::commit(store::Txn txn, api::TxnDone done) {
  if (store)
    store->txn(std::move(txn), std::move(done));
  else
    forwarder->txn(std::move(txn), std::move(done));
}

std::optional<api::StoreHost> Agent::Impl::store_host() const {
  for (const gossip::Member& member : gossip->members())
    if (member.meta.api_address == files.store_api)
      return api::StoreHost{member.name, files.store_api.ip.to_string(), files.store_api.port};
  return std::nullopt;
}

bool Agent::Impl::statuses_arrived() const {
  // A host of which gossip has heard nothing yet may be alive.
  const std::vector<gossip::Member> known = gossip->members();
  for (const view::ObjectPtr& node : view.list(view::kNodes))
    if (std::ranges::find(known, node->name, &gossip::Member::name) == known.end())
      return false;
  for (const std::string& name : bridge->members().live()) {
    if (name == files.node_name)
      continue;
    if (!gossip->entry(name, fmt::format("status/nodes/-/{}", name)))
      return false;
  }
  return true;
}

void Agent::Impl::arm_node_status() {
  node_timer.expires_after(kNodeStatusInterval);
  node_timer.async_wait([this](const boost::system::error_code& error) {
    if (error)
      return;
    report_node(node_ready, node_message);
    arm_node_status();
  });
}

void Agent::Impl::warn_of_expiry() const {
  const auto ends = pki::not_after(files.node_cert);
  if (ends && *ends - clock.wall() < kExpiryWarning)
    spdlog::warn(
        "this host's certificate ends at {}, and other hosts refuse it from then on; there "
        "is no renewal yet: remove the host (shoal delete node {}), empty {} and join again",
        rfc3339(*ends), files.node_name, options.state_dir.string());
}

void Agent::Impl::fatal(Error error) {
  failure = std::move(error);
  loop.stop();
}

Agent::Agent(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Agent::~Agent() = default;

Result<std::unique_ptr<Agent>> Agent::create(const Options& options, ClusterFiles files,
                                             const Clock& clock, Random& random) {
  SHOAL_ASSERT(options.underlay.has_value());
  auto impl = std::make_unique<Impl>(options, std::move(files), clock, random);
  SHOAL_TRY(impl->start());
  return std::unique_ptr<Agent>(new Agent(std::move(impl)));
}

Result<Ended> Agent::run() {
  Impl& impl = *impl_;
  for (const int signal : {SIGTERM, SIGINT})
    impl.signals.add(signal);
  impl.signals.async_wait([&impl](const boost::system::error_code& error, int signal) {
    if (error)
      return;
    spdlog::info("signal {}: stopping; pods and the data plane go on", signal);
    sd_notify("STOPPING=1");
    impl.loop.stop();
  });
  impl.watchdog.start();
  impl.warn_of_expiry();
  spdlog::info("host {} of cluster {}, {}", impl.files.node_name, impl.files.cluster_id,
               impl.files.store_host ? "holds the store"
                                     : "store at " + impl.files.store_api.to_string());
  sd_notify("READY=1\nSTATUS=member " + impl.files.node_name);
  impl.loop.run();
  if (impl.failure)
    return fail(std::move(*impl.failure));
  return Ended::kStopped;
}

}  // namespace shoal::daemon
