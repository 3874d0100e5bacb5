// SPDX-License-Identifier: Apache-2.0
// Short ways to say what a test's cluster looks like: three hosts h1 (this one), h2 and h3 with pod
// CIDRs 10.244.1.0/24 and on, and services with backends on them.
#pragma once

#include "netplane/model/model.h"

#include <fmt/format.h>
#include <string>
#include <vector>

namespace shoal::plan {

inline IpAddress ip(std::string_view text) { return *IpAddress::parse(text); }
inline IpPrefix cidr(std::string_view text) { return *IpPrefix::parse(text); }

inline model::Desired three_hosts() {
  model::Desired desired;
  desired.self = "h1";
  for (unsigned i = 1; i <= 3; i++)
    desired.nodes.push_back({fmt::format("h{}", i),
                             IpAddress::v4(0xc6120000 + 10 + i),
                             {cidr(fmt::format("10.244.{}.0/24", i))},
                             true});
  desired.cluster_cidrs = {cidr("10.244.0.0/16"), cidr("10.96.0.0/16")};
  return desired;
}

// Backend n of a service: on one of the hosts in turn.
inline model::Backend backend(unsigned service, unsigned n, std::string group = "") {
  const unsigned host = n % 3 + 1;
  model::Backend b;
  b.ip = IpAddress::v4(0x0af40000 + (host << 8) + (service * 16 + n) % 256 + (service / 16 << 16));
  b.port = static_cast<std::uint16_t>(8080 + service % 1000);
  b.generation = 1;
  b.group = std::move(group);
  b.host = fmt::format("h{}", host);
  b.pod = fmt::format("default/s{}-{}", service, n);
  return b;
}

inline model::ServicePort service(unsigned n, unsigned backends) {
  model::ServicePort s;
  s.ns = "default";
  s.name = fmt::format("s{}", n);
  s.port_name = "http";
  s.frontends = {
      {IpAddress::v4(0x0a600000 + n + 1), 80, L4Proto::kTcp, model::FrontendKind::kClusterIp}};
  for (unsigned i = 0; i < backends; i++)
    s.backends.push_back(backend(n, i));
  return s;
}

}  // namespace shoal::plan
