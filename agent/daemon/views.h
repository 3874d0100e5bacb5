// SPDX-License-Identifier: Apache-2.0
// What Shoal's own endpoints answer, as JSON: the members, the data plane's own view of a service,
// images. Shapes are part of the CLI's contract (`-o json`); fields are only ever added.
#pragma once

#include "agent/daemon/drain_schedule.h"
#include "agent/gossip/net/gossip.h"
#include "netplane/apply/data_plane.h"
#include "runtime/image/store.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::daemon {

// {"members": [{"name", "state", "self", "gossipAddress", "apiAddress", "underlay", "podCIDRs",
// "version"}]}
boost::json::object members_view(const gossip::Gossip& gossip);

// One port: {"port_name", "protocol", "clients", "frontends", "slots", "groups", "backends",
// "counters", "errors"}. clients: "all", or whose ring this is where a Service has several:
// "inside" (pods and processes of hosts), "outside", "inside-external" (inside clients of addresses
// that are not its ClusterIP).
boost::json::object service_port_view(const apply::ServiceView& view, std::string_view port_name,
                                      L4Proto proto);

// "ns/name:port/PROTO" as the data plane names its service ports; "@SIDE" after it is skipped.
struct ServicePortId {
  std::string ns;
  std::string name;
  std::string port_name;
  L4Proto proto = L4Proto::kTcp;
};
Result<ServicePortId> parse_service_port_id(std::string_view text);

// {"namespace", "name", "ports": [...], "drains": [{"group", "closesInSeconds", "closed"}]};
// kNotFound when the data plane has no such service. drains: groups of weight 0 with a timeout;
// closed: connections by this host since that was over (closesInSeconds is 0).
Result<boost::json::object> service_view(const apply::DataPlane& data_plane, std::string_view ns,
                                         std::string_view name,
                                         const std::vector<DrainSchedule::Status>& drains);
// {"services": [{"namespace", "name", "port_name", "protocol", "clients", "frontends", "backends",
// "slots", "counters"}]}
Result<boost::json::object> services_view(const apply::DataPlane& data_plane);

boost::json::object image_view(const runtime::ImageInfo& image);

}  // namespace shoal::daemon
