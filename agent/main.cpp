// SPDX-License-Identifier: Apache-2.0
// shoald: reads the configuration, takes the state folder, and runs the agent, first as a host that
// waits to become a member, then as a member.
//
// Exit status: 0 asked to stop, 1 cannot go on (the reason is on standard error), 2 wrong use or
// configuration.
#include "agent/config/config.h"
#include "agent/daemon/agent.h"
#include "agent/daemon/cleanup.h"
#include "agent/daemon/cluster_files.h"
#include "agent/daemon/lobby.h"
#include "netplane/apply/uplink.h"
#include "netplane/base/fs.h"
#include "netplane/base/strings.h"
#include "runtime/sandbox/cgroup.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <linux/magic.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace shoal {
namespace {

int complain(const std::string& text, int status) {
  std::fprintf(stderr, "shoald: %s\n", text.c_str());
  return status;
}

// Sockets and maps: as many files as the host lets us have, and locked memory for kernels that
// still count it.
void raise_limits() {
  for (const auto resource : {RLIMIT_NOFILE, RLIMIT_MEMLOCK}) {
    rlimit limit{};
    if (::getrlimit(resource, &limit) != 0)
      continue;
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(resource, &limit);
  }
}

Result<std::filesystem::path> cgroup_root(const config::Config& config) {
  if (config.proxy_nftables)
    return std::filesystem::path();  // no hooks
  if (config.cgroup_root) {
    struct statfs fs{};
    if (::statfs(config.cgroup_root->c_str(), &fs) != 0 ||
        static_cast<std::uint64_t>(fs.f_type) != CGROUP2_SUPER_MAGIC)
      return fail(Errc::kInvalid,
                  fmt::format("config key cgroup_root: {} is not a folder of a cgroup2 tree: set "
                              "another one, or auto",
                              config.cgroup_root->string()));
    return *config.cgroup_root;
  }
  const runtime::CgroupTree tree = SHOAL_TRY(runtime::detect_cgroups());
  if (tree.v2.empty() && config.socket_lb)
    return fail(Errc::kUnsupported,
                "no cgroup2 tree is mounted: mount one (mount -t cgroup2 none "
                "/sys/fs/cgroup/unified), set cgroup_root, or do without socket "
                "hooks (features.socket_lb: off)");
  return tree.v2;
}

// A name is looked for in PATH: the shim runs the OCI runtime by its path. key: of the config.
Result<std::filesystem::path> find_program(const std::string& name, std::string_view key) {
  if (name.find('/') != std::string::npos) {
    if (::access(name.c_str(), X_OK) == 0)
      return name;
    return fail_errno(fmt::format("config key {}: {} cannot be run: install it, or set the key to "
                                  "where it is",
                                  key, name));
  }
  const char* path = std::getenv("PATH");
  for (const std::string_view folder : split(path ? path : "/usr/sbin:/usr/bin:/sbin:/bin", ':')) {
    const std::filesystem::path candidate = std::filesystem::path(folder) / name;
    if (::access(candidate.c_str(), X_OK) == 0)
      return candidate;
  }
  return fail(
      Errc::kNotFound,
      fmt::format("config key {}: {} is not in PATH: install it, or set the key to where it "
                  "is",
                  key, name));
}

Result<daemon::Options> to_options(const config::Config& config) {
  daemon::Options options;
  options.node_name = config.node_name;
  options.state_dir = config.state_dir;
  options.run_dir = config.run_dir;
  options.shim = SHOAL_TRY(find_program(config.shim.string(), "runtime.shim"));
  options.oci_runtime = SHOAL_TRY(find_program(config.oci_runtime, "runtime.oci_runtime"));
  options.cgroup_root = SHOAL_TRY(cgroup_root(config));
  const apply::HostUplink uplink =
      SHOAL_TRY_WRAP(apply::find_host_uplink(config.uplink, config.underlay, config.uplinks),
                     "config keys underlay and network.uplinks");
  options.uplink = uplink.name;
  options.underlay = uplink.address;
  options.api = config.api;
  options.gossip = config.gossip;
  options.metrics = config.metrics;
  options.gossip_probe_interval = std::chrono::milliseconds(config.gossip_probe_interval_ms);
  options.gossip_probe_timeout = std::chrono::milliseconds(config.gossip_probe_timeout_ms);
  options.cluster.pod_cidrs = config.pod_cidrs;
  options.cluster.node_prefix_length = config.node_prefix_length;
  options.cluster.node_prefix_length_v6 = config.node_prefix_length_v6;
  options.cluster.service_cidrs = config.service_cidrs;
  options.cluster.lb_pools = config.lb_pools;
  options.cluster.node_port_range = config.node_port_range;
  options.node_port_addresses = config.node_port_addresses;
  options.cluster.vxlan_port = config.vxlan_port;
  options.kept_cpu_milli = config.reserved_cpu_milli;
  options.kept_memory_bytes = std::int64_t{config.reserved_memory_mib} << 20;
  options.pod_pids_max = config.pod_pids_max;
  options.container_metrics = config.container_metrics;
  options.pressure.evict = config.eviction;
  options.pressure.thresholds = {std::int64_t{config.eviction_memory_mib} << 20,
                                 config.eviction_disk_percent, config.eviction_inodes_percent,
                                 config.eviction_images_percent, config.eviction_pids};
  options.pressure.transition = std::chrono::seconds(config.pressure_transition_s);
  options.registries = config.registries;
  options.parallel_pulls = config.parallel_pulls;
  options.pull_stall = std::chrono::seconds(config.pull_stall_s);
  options.image_gc = {config.gc_high_percent, config.gc_low_percent,
                      std::chrono::seconds(config.gc_min_age_s)};
  options.pod_replace_after = std::chrono::seconds(config.pod_replace_after_s);
  options.data_plane.proxy =
      config.proxy_nftables ? apply::ProxyMode::kNftables : apply::ProxyMode::kEbpf;
  options.data_plane.uplinks = config.uplinks;
  options.data_plane.native_routes = config.native_routes;
  options.data_plane.mtu = config.mtu.value_or(0);
  options.data_plane.bpffs = config.bpffs_dir;
  options.data_plane.snat = config.snat;
  options.snat_auto = config.snat_auto;
  options.data_plane.socket_hooks = config.socket_lb;
  options.data_plane.allowed = {.tcx = config.tcx,
                                .redirect_peer = config.redirect_peer,
                                .redirect_neigh = config.redirect_neigh,
                                .set_retval = config.set_retval,
                                .sk_storage = config.sk_storage,
                                .coarse_clock = config.coarse_clock,
                                .xdp = config.xdp};
  options.data_plane.masquerade = config.masquerade;
  options.data_plane.xdp_on_veth = config.xdp_on_veth;
  options.data_plane.sizes.services = config.services_max;
  options.data_plane.sizes.backends = config.backends_max;
  options.data_plane.sizes.flows = config.flows_max;
  options.data_plane.sizes.ring_blocks = config.ring_blocks_max;
  options.data_plane.sizes.affinity = config.affinity_max;
  return options;
}

Result<> run(const config::Config& config) {
  SHOAL_TRY(make_dirs(config.state_dir, 0700));
  SHOAL_TRY(make_dirs(config.run_dir, 0755));
  const auto lock = lock_file(config.state_dir / "lock");
  if (!lock)
    return fail(Error(lock.error())
                    .wrap(lock.error().code() == Errc::kConflict
                              ? "another shoald uses this state folder"
                              : "take the state folder"));
  const daemon::Options options = SHOAL_TRY(to_options(config));
  SystemClock clock;
  SystemRandom random;
  for (;;) {
    auto files = SHOAL_TRY(daemon::ClusterFiles::load(options.state_dir));
    daemon::Ended ended{};
    if (!files) {
      ended = SHOAL_TRY(daemon::run_lobby(options, *options.underlay, clock, random));
    } else {
      if (files->node_name != options.node_name)
        return fail(
            Errc::kConflict,
            fmt::format(
                "this host is a member as {}, but node_name is {} now; a member's name cannot "
                "change: set node_name: {}",
                files->node_name, options.node_name, files->node_name));
      SHOAL_TRY(files->check(options.state_dir));
      auto agent = SHOAL_TRY(daemon::Agent::create(options, std::move(*files), clock, random));
      ended = SHOAL_TRY(agent->run());
    }
    if (ended == daemon::Ended::kStopped)
      return {};
  }
}

int clean_up(const config::Config& config, const config::CommandLine& command) {
  daemon::CleanupOptions options;
  options.state_dir = config.state_dir;
  options.run_dir = config.run_dir;
  options.bpffs = config.bpffs_dir;
  options.dry_run = command.dry_run;
  options.force = command.force;
  const auto done = daemon::run_cleanup(options, [](std::string_view line) {
    std::printf("%.*s\n", static_cast<int>(line.size()), line.data());
  });
  return done ? 0 : complain(done.error().message(), 1);
}

int main_checked(int argc, char** argv) {
  const auto command =
      config::parse_command_line(std::span(argv + 1, static_cast<std::size_t>(argc - 1)));
  if (!command)
    return complain(command.error().message() + " (shoald --help)", 2);
  if (command->help)
    return std::fputs(config::usage().c_str(), stdout) < 0;
  if (command->version)
    return std::printf("shoald %s\n", std::string(daemon::kVersion).c_str()) < 0;
  if (command->print_example)
    return std::fputs(config::example().c_str(), stdout) < 0;
  const auto config = config::load(command->file, command->overrides);
  if (!config) {
    for (const config::Problem& problem : config.error())
      complain(problem.str(), 2);
    return 2;
  }
  if (command->check_config)
    return std::puts("shoald: the configuration is good") < 0;
  if (::geteuid() != 0)
    return complain(
        "must run as root: it makes namespaces, loads BPF programs and mounts file systems", 1);
  if (command->cleanup)
    return clean_up(*config, *command);
  spdlog::set_level(spdlog::level::from_str(config->log_level));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %v", spdlog::pattern_time_type::utc);
  spdlog::flush_on(spdlog::level::info);
  raise_limits();
  std::signal(SIGPIPE, SIG_IGN);
  if (auto ran = run(*config); !ran) {
    spdlog::critical("{}", ran.error().message());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace shoal

int main(int argc, char** argv) { return shoal::main_checked(argc, argv); }
