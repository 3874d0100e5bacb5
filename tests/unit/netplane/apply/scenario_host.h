// SPDX-License-Identifier: Apache-2.0
// The host that the scenarios run on: one in memory, or the real kernel within a sandbox. Both give
// ports for a DataPlane as often as asked, and outlive it.
//
//   h1 198.18.0.11 eth0 (this host)     h2 198.18.0.12, h3 198.18.0.13: only in the desired state
#pragma once

#include "forwarding_maps.h"
#include "netplane/apply/kernel_ports.h"

#include <memory>
#include <string>

namespace shoal::apply {

class ScenarioHost {
public:
  virtual ~ScenarioHost() = default;
  virtual Config config() const = 0;
  virtual Result<KernelPorts> ports(const Config& config) = 0;
  virtual model::DataPlane maps() = 0;
  virtual std::string network() = 0;  // links, routes, neighbours and the table, as text
  virtual int new_pod_netns() = 0;
  // Somebody else's doing.
  virtual void delete_route(const IpPrefix& destination) = 0;
  virtual void delete_link(const std::string& name) = 0;
  virtual void spoil_table() = 0;
  virtual kernel::DataMaps& other_hands() = 0;  // the maps, past the DataPlane

  std::shared_ptr<MapFaults> faults = std::make_shared<MapFaults>();
};

// One of them is linked in.
std::unique_ptr<ScenarioHost> make_scenario_host();

}  // namespace shoal::apply
