// SPDX-License-Identifier: Apache-2.0
#include "fake_kernel.h"
#include "scenario_host.h"

#include <fmt/format.h>

namespace shoal::apply {
namespace {

class InMemory final : public ScenarioHost {
public:
  Config config() const override {
    Config config;
    config.node_name = "h1";
    config.underlay = IpAddress::v4(0xc612000b);
    return config;
  }
  Result<KernelPorts> ports(const Config&) override {
    KernelPorts ports = fake_ports(host_);
    ports.maps = std::make_unique<ForwardingMaps>(host_.maps, faults);
    return ports;
  }
  model::DataPlane maps() override { return *host_.maps.read(); }
  std::string network() override {
    KernelPorts ports = fake_ports(host_);
    return *kernel::dump_network(*ports.rtnl) + *ports.nft->dump();
  }
  int new_pod_netns() override { return next_fd_++; }
  void delete_route(const IpPrefix& destination) override {
    std::erase_if(host_.namespaces[FakeHost::kHostFd].routes,
                  [&](const auto& r) { return r.destination == destination; });
  }
  void delete_link(const std::string& name) override {
    for (const auto& [index, link] : std::map(host_.namespaces[FakeHost::kHostFd].links))
      if (link.name == name)
        host_.delete_link(FakeHost::kHostFd, index);
  }
  void spoil_table() override { host_.foreign_table_text = "somebody was here"; }
  kernel::DataMaps& other_hands() override { return host_.maps; }

private:
  FakeHost host_;
  int next_fd_ = 100;
};

}  // namespace

std::unique_ptr<ScenarioHost> make_scenario_host() { return std::make_unique<InMemory>(); }

}  // namespace shoal::apply
