// SPDX-License-Identifier: Apache-2.0
#include "netplane/model/model.h"

#include <fmt/format.h>

namespace shoal::model {

std::string_view to_string(FrontendKind kind) {
  switch (kind) {
  case FrontendKind::kClusterIp:
    return "ClusterIP";
  case FrontendKind::kNodePort:
    return "NodePort";
  case FrontendKind::kLoadBalancer:
    return "LoadBalancer";
  case FrontendKind::kExternalIp:
    return "ExternalIP";
  case FrontendKind::kHostPort:
    return "HostPort";
  }
  return "?";
}

std::string_view to_string(Clients clients) {
  switch (clients) {
  case Clients::kAll:
    return "all";
  case Clients::kInside:
    return "inside";
  case Clients::kOutside:
    return "outside";
  case Clients::kInsideExternal:
    return "inside-external";
  }
  return "?";
}

std::string ServicePort::id() const {
  std::string_view side;
  if (clients == Clients::kOutside)
    side = "@outside";
  else if (clients == Clients::kInsideExternal)
    side = "@external";
  return fmt::format("{}/{}:{}/{}{}", ns, name, port_name, to_string(proto), side);
}

}  // namespace shoal::model
