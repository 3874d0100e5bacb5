// SPDX-License-Identifier: Apache-2.0
// Which hosts' backends are reached by SNAT, as network.load_balancer_mode: auto finds it out.
#include "agent/daemon/agent_impl.h"

#include "netplane/base/hash.h"

#include <algorithm>
#include <spdlog/spdlog.h>

namespace shoal::daemon {

// Hosts without BPF answer nobody directly, and so have nothing to tell.
void Agent::Impl::start_source_probe() {
  if (options.data_plane.proxy != apply::ProxyMode::kEbpf)
    return;
  SourceProbe::Inputs inputs;
  inputs.pools = files.settings.lb_pools;
  inputs.announced = [this] {
    return driver ? driver->current().announced_vips : std::vector<IpAddress>();
  };
  inputs.hosts = [this] {
    std::set<std::string> names;
    for (const view::ObjectPtr& node : view.list(view::kNodes))
      names.insert(node->name);
    return names;
  };
  inputs.changed = [this](const std::string& host) { on_source_verdict(host); };
  sources = std::make_unique<SourceProbe>(loop, *gossip, clock, std::move(inputs));
  // Gossip may not know them yet: this agent has only just begun.
  std::set<std::string> presumed;
  const std::vector<IpAddress> by_snat = data_plane->reached_by_snat();
  for (const view::ObjectPtr& node : view.list(view::kNodes))
    if (const auto underlay = view::node_underlay(*node);
        underlay && std::ranges::find(by_snat, *underlay) != by_snat.end())
      presumed.insert(node->name);
  if (auto started = sources->start(presumed); !started)
    spdlog::warn("{}: the others do not find out whether they reach this host's pods by DSR",
                 started.error().message());
}

// Every host finds it out for itself; the one that ranks first writes the event.
void Agent::Impl::on_source_verdict(const std::string& host) {
  if (!options.snat_auto)
    return;
  const bool drops = sources->verdicts().verdict(host) == SourceVerdict::kDrops;
  const std::string message =
      drops ? fmt::format("the network drops what {} sends from service addresses: clients outside "
                          "reach its pods by SNAT now, where another host is asked, and those see "
                          "that host's address",
                          host)
            : fmt::format("the network lets through what {} sends from service addresses: clients "
                          "outside reach its pods by DSR now",
                          host);
  spdlog::warn("{}", message);
  if (driver)
    driver->sources_changed();
  const auto node = view.get(view::kNodes, "", host);
  if (node && rendezvous_owner(host, bridge->members().live()) == files.node_name)
    writer->event(*node, drops ? "Warning" : "Normal",
                  drops ? "ForeignSourcesDropped" : "ForeignSourcesPass", message,
                  "shoal-service-proxy");
}

}  // namespace shoal::daemon
