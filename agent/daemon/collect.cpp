// SPDX-License-Identifier: Apache-2.0
// What the agent tells Prometheus. docs: each family's help text.
#include "agent/daemon/agent_impl.h"

#include <fmt/format.h>

namespace shoal::daemon {
namespace {

using metrics::Family;
using metrics::Kind;

Family one(std::string name, std::string help, Kind kind, double value) {
  return {std::move(name), std::move(help), kind, {{{}, value}}};
}

double number(std::uint64_t value) { return static_cast<double>(value); }

void add_data_plane(std::vector<Family>& out, const apply::Counters& counters) {
  Family drops{"shoal_drops_total",
               "Packets that a Shoal program did not forward, by reason.",
               Kind::kCounter,
               {}};
  for (const kernel::DropCount& drop : counters.drops)
    drops.samples.push_back({{{"reason", std::string(drop.name)}}, number(drop.packets)});
  out.push_back(std::move(drops));

  Family connects{"shoal_service_connects_total",
                  "Connections balanced by the socket hooks.",
                  Kind::kCounter,
                  {}};
  Family flows{"shoal_service_flows_total", "Flows balanced per packet.", Kind::kCounter, {}};
  Family packets{"shoal_service_packets_total",
                 "Packets from clients balanced per packet.",
                 Kind::kCounter,
                 {}};
  Family bytes{
      "shoal_service_bytes_total", "Bytes from clients balanced per packet.", Kind::kCounter, {}};
  Family refused{"shoal_service_refused_total",
                 "Connections refused for want of a backend.",
                 Kind::kCounter,
                 {}};
  Family unclaimed{
      "shoal_service_unclaimed_total",
      "Open TCP connections, balanced per packet, whose backend changed because nobody "
      "knew any more whose they were.",
      Kind::kCounter,
      {}};
  for (const apply::ServiceCounters& service : counters.services) {
    const std::vector<std::pair<std::string, std::string>> labels = {{"service", service.name}};
    connects.samples.push_back({labels, number(service.stats.connects)});
    flows.samples.push_back({labels, number(service.stats.flows)});
    packets.samples.push_back({labels, number(service.stats.packets)});
    bytes.samples.push_back({labels, number(service.stats.bytes)});
    refused.samples.push_back({labels, number(service.stats.refused)});
    unclaimed.samples.push_back({labels, number(service.stats.unclaimed)});
  }
  for (Family* family : {&connects, &flows, &packets, &bytes, &refused, &unclaimed})
    out.push_back(std::move(*family));

  Family used{"shoal_map_entries", "Entries of a BPF map in use.", Kind::kGauge, {}};
  Family size{"shoal_map_entries_max", "Entries a BPF map can hold.", Kind::kGauge, {}};
  for (const apply::TableUse& table : counters.tables) {
    used.samples.push_back({{{"map", table.table}}, number(table.used)});
    size.samples.push_back({{{"map", table.table}}, number(table.size)});
  }
  out.push_back(std::move(used));
  out.push_back(std::move(size));
  Family flow_states{
      "shoal_flow_table_entries",
      "Entries of a table that the programs fill, by state, as of the last pass over "
      "it. active: seen within 180 s and not closing; closing: a FIN or RST was "
      "seen; idle: the rest. Entries stay until their room is needed.",
      Kind::kGauge,
      {}};
  Family pressure{"shoal_flow_table_pressure",
                  "Active entries over the size of the table (0 to 1): near 1, entries of live "
                  "connections are forgotten.",
                  Kind::kGauge,
                  {}};
  Family age{"shoal_flow_table_age_seconds", "Age of that pass.", Kind::kGauge, {}};
  for (const apply::LruUse& use : counters.lru) {
    const kernel::Tally& tally = use.tally;
    const std::uint32_t idle = tally.entries - tally.active - tally.closing;
    for (const auto& [state, entries] :
         {std::pair("active", tally.active), std::pair("closing", tally.closing),
          std::pair("idle", idle)})
      flow_states.samples.push_back({{{"table", use.table}, {"state", state}}, number(entries)});
    pressure.samples.push_back({{{"table", use.table}}, use.pressure()});
    age.samples.push_back({{{"table", use.table}}, number(use.age_s)});
  }
  for (Family* family : {&flow_states, &pressure, &age})
    out.push_back(std::move(*family));
  out.push_back(one("shoal_plans_applied_total", "Plans applied to the kernel.", Kind::kCounter,
                    number(counters.plans)));
  out.push_back(one("shoal_plan_operations_total", "Operations of applied plans.", Kind::kCounter,
                    number(counters.operations)));
  out.push_back(one("shoal_plan_errors_total", "Objects that could not be applied.", Kind::kCounter,
                    number(counters.errors)));
  out.push_back(one("shoal_audit_repairs_total", "Differences that the audit found and mended.",
                    Kind::kCounter, number(counters.repairs)));
  out.push_back(one("shoal_gratuitous_arps_total", "Announcements of VIPs sent.", Kind::kCounter,
                    number(counters.announcements)));
}

void add_gossip(std::vector<Family>& out, const gossip::Metrics& gossip) {
  out.push_back({"shoal_members",
                 "Hosts of the cluster, by state.",
                 Kind::kGauge,
                 {{{{"state", "alive"}}, number(gossip.members_alive)},
                  {{{"state", "suspect"}}, number(gossip.members_suspect)},
                  {{{"state", "dead"}}, number(gossip.members_dead)}}});
  out.push_back({"shoal_gossip_datagram_bytes_total",
                 "Gossip datagrams, without IP and UDP headers.",
                 Kind::kCounter,
                 {{{{"direction", "in"}}, number(gossip.datagram_bytes_in)},
                  {{{"direction", "out"}}, number(gossip.datagram_bytes_out)}}});
  out.push_back({"shoal_gossip_stream_bytes_total",
                 "Gossip streams.",
                 Kind::kCounter,
                 {{{{"direction", "in"}}, number(gossip.stream_bytes_in)},
                  {{{"direction", "out"}}, number(gossip.stream_bytes_out)}}});
  out.push_back(one("shoal_gossip_wrong_key_total",
                    "Packets sealed under a key of another cluster.", Kind::kCounter,
                    number(gossip.datagrams_wrong_key + gossip.streams_wrong_key)));
  out.push_back(one("shoal_gossip_health", "Local health multiplier; 0 is best.", Kind::kGauge,
                    gossip.health));
}

void add_images(std::vector<Family>& out, const images::PullStats& pulls,
                const images::GcStats& gc) {
  out.push_back({"shoal_image_pulls_total",
                 "Pulls that have ended. known: the registry had what was here.",
                 Kind::kCounter,
                 {{{{"outcome", "pulled"}}, number(pulls.pulled)},
                  {{{"outcome", "known"}}, number(pulls.known)},
                  {{{"outcome", "failed"}}, number(pulls.failed)},
                  {{{"outcome", "cancelled"}}, number(pulls.cancelled)}}});
  out.push_back(one("shoal_image_pulled_bytes_total", "Bytes of layers that were pulled.",
                    Kind::kCounter, number(pulls.bytes)));
  out.push_back({"shoal_image_pulls",
                 "Pulls and pushes that are under way.",
                 Kind::kGauge,
                 {{{{"state", "running"}}, number(pulls.running)},
                  {{{"state", "waiting"}}, number(pulls.waiting)}}});
  out.push_back(one("shoal_image_gc_runs_total",
                    "How often images were removed for want of disk space.", Kind::kCounter,
                    number(gc.runs)));
  out.push_back(one("shoal_image_gc_images_total", "Images that were removed so.", Kind::kCounter,
                    number(gc.images)));
  out.push_back(one("shoal_image_gc_freed_bytes_total", "Bytes of disk that came free so.",
                    Kind::kCounter, number(gc.bytes)));
  out.push_back(one("shoal_image_gc_failures_total",
                    "Runs that failed or did not free as much as was to be.", Kind::kCounter,
                    number(gc.failures)));
}

}  // namespace

std::vector<metrics::Family> Agent::Impl::collect() const {
  std::vector<Family> out;
  add_images(out, puller->stats(), image_gc->stats());
  out.push_back(one("shoal_replica_revision", "Revision of desired state known here.", Kind::kGauge,
                    number(replica.revision())));
  out.push_back(one("shoal_replica_synced", "1 once the first full state has arrived.",
                    Kind::kGauge, replica.synced() ? 1 : 0));
  add_gossip(out, gossip->metrics());
  const controllers::RunnerStats stats = runner->stats();
  out.push_back({"shoal_controller_steps_total",
                 "Changes that this host's controllers made, by outcome.",
                 Kind::kCounter,
                 {{{{"outcome", "done"}}, number(stats.steps_done)},
                  {{{"outcome", "lost"}}, number(stats.steps_lost)},
                  {{{"outcome", "failed"}}, number(stats.steps_failed)}}});
  out.push_back(
      one("shoal_controller_queue", "Work items waiting.", Kind::kGauge, number(stats.queued)));
  if (sources) {
    Family ways{"shoal_foreign_sources",
                "Whether the network takes service addresses as sources from a host: 1 yes, 0 no, "
                "-1 not known. By SNAT instead of DSR with 0, in mode auto.",
                Kind::kGauge,
                {}};
    for (const auto& [host, verdict] : sources->peers())
      ways.samples.push_back({{{"host", host}},
                              verdict == SourceVerdict::kUnknown  ? -1.0
                              : verdict == SourceVerdict::kPasses ? 1.0
                                                                  : 0.0});
    out.push_back(std::move(ways));
    out.push_back(one("shoal_foreign_source_changes_total",
                      "How often that turned from yes to no or back.", Kind::kCounter,
                      number(sources->verdicts().changes())));
  }
  if (group_drains) {
    Family drained{
        "shoal_drained_connections_total",
        "Connections that this host closed to weight groups whose drain timeout was over.",
        Kind::kCounter,
        {}};
    for (const auto& [group, closed] : group_drains->schedule().closed())
      drained.samples.push_back(
          {{{"service", fmt::format("{}/{}", group.ns, group.name)}, {"group", group.group}},
           number(closed)});
    out.push_back(std::move(drained));
  }
  if (pressure) {
    Family evicted{"shoal_evictions_total",
                   "Pods that were evicted because the host was short, by what was.",
                   Kind::kCounter,
                   {}};
    for (const auto& [signal, count] : pressure->evictions())
      evicted.samples.push_back(
          {{{"signal", std::string(node::to_string(signal))}}, number(count)});
    out.push_back(std::move(evicted));
  }
  if (options.container_metrics && sampler && sampler->last())
    for (Family& family : usage_families(*sampler->last()))
      out.push_back(std::move(family));
  if (data_plane) {
    if (auto counters = data_plane->counters())
      add_data_plane(out, *counters);
  }
  return out;
}

}  // namespace shoal::daemon
