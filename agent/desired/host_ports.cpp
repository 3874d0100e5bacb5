// SPDX-License-Identifier: Apache-2.0
// hostPorts of a pod of this host. They lead to the pod while it has its address, whether or not it
// is ready: they are the pod's, not a service's.
#include "agent/desired/desired.h"
#include "agent/view/facts.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::desired {

namespace {

class Compute {
public:
  Compute(const Scene& scene, const store::Object& pod) : scene_(scene), pod_(pod) {}

  Part run() {
    part_.created = pod_.create_revision;
    const auto addresses = view::pod_addresses(pod_);
    // In its host's network it listens there itself.
    if (addresses.empty() || view::is_finished(pod_) || view::in_host_network(pod_))
      return std::move(part_);
    for (const view::HostPort& wanted : view::host_ports(pod_)) {
      if (scene_.inputs.agent_ports.contains({wanted.proto, wanted.port})) {
        reserved(wanted);
        continue;
      }
      for (const model::PodAddress& address : addresses)
        add(wanted, address);
      const auto is_its = [&](const model::PodAddress& address) {
        return address.ip.family() == wanted.ip->family();
      };
      if (wanted.ip && std::none_of(addresses.begin(), addresses.end(), is_its))
        part_.findings.push_back(
            {view::ref_of(pod_), FindingKind::kNoSuchFamily,
             fmt::format("hostPort {} is not served: the pod has no {} address",
                         SocketAddress{*wanted.ip, wanted.port}.to_string(),
                         to_string(wanted.ip->family())),
             true});
    }
    std::sort(part_.findings.begin(), part_.findings.end());
    return std::move(part_);
  }

private:
  // In the family of that address of the pod.
  void add(const view::HostPort& wanted, const model::PodAddress& target) {
    model::ServicePort port;
    port.family = target.ip.family();
    port.ns = pod_.ns;
    port.name = "pod." + pod_.name;
    port.port_name = wanted.ip ? SocketAddress{*wanted.ip, wanted.port}.to_string()
                               : fmt::format("{}", wanted.port);
    port.proto = wanted.proto;
    const std::vector<IpAddress> addresses =
        wanted.ip ? std::vector{*wanted.ip} : scene_.inputs.node_addresses;
    for (const IpAddress& address : addresses) {
      if (address.family() != port.family)
        continue;
      port.frontends.push_back(
          {address, wanted.port, wanted.proto, model::FrontendKind::kHostPort});
      part_.contestable.push_back({address, wanted.port, wanted.proto});
    }
    if (port.frontends.empty())
      return;
    model::Backend backend;
    backend.ip = target.ip;
    backend.port = wanted.container_port;
    backend.generation = target.generation;
    backend.host = scene_.inputs.self;
    backend.pod = pod_.ns + "/" + pod_.name;
    port.backends.push_back(std::move(backend));
    part_.ports.push_back(std::move(port));
  }

  void reserved(const view::HostPort& wanted) {
    part_.findings.push_back({view::ref_of(pod_), FindingKind::kPortReserved,
                              fmt::format("hostPort {}/{} is shoald's own on host {} and stays so",
                                          wanted.port, to_string(wanted.proto), scene_.inputs.self),
                              true});
  }

  const Scene& scene_;
  const store::Object& pod_;
  Part part_;
};

}  // namespace

Part compute_host_ports(const Scene& scene, const store::Object& pod) {
  return Compute(scene, pod).run();
}

}  // namespace shoal::desired
