// SPDX-License-Identifier: Apache-2.0
// What the endpoints that look into the live data plane answer, and how their questions are read:
// drops, flows, trace, the load of the flow tables. Like views.h: fields are only ever added.
#pragma once

#include "agent/daemon/source_verdicts.h"
#include "agent/gossip/core/types.h"
#include "netplane/apply/data_plane.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::daemon {

inline constexpr std::size_t kFlowLimitDefault = 1'000;

// {"drops": [{"reason", "meaning", "packets"}], "atMilliseconds": of a clock that only ever grows}
boost::json::object drops_view(const std::vector<kernel::DropCount>& drops, MonoTime now);

// {"flows": [{"protocol", "direction", "client", "clientPod", "frontend", "backend", "pod",
// "service", "idleSeconds", "state"}], "read", "complete"}. state: "open", "closing" (a FIN or RST
// was seen), "idle" (UDP, for so long that its next packet is a new flow's).
boost::json::object flows_view(const apply::FlowList& list);
Result<apply::FlowFilter> read_flow_filter(std::string_view service, std::string_view pod,
                                           std::string_view limit);

// {"from", "to", "protocol", "steps": [{"stage", "text"}], "verdict", "reason", "service", "hash",
// "slot", "slots", "shares": [{"pod", "group", "host", "address", "way", "id", "slots", "share"}],
// "backend": the one it gets, as one of shares}; hash, slot and backend where they are known
boost::json::object trace_view(const apply::TraceQuery& query, const apply::Trace& trace);
// from: "NAMESPACE/POD", "host", "outside" or "outside:IP"; to: "ADDR:PORT", "ADDR:PORT/udp".
Result<apply::TraceQuery> read_trace_query(std::string_view from, std::string_view to,
                                           std::string_view source_port);

// {"mode", "hosts": [{"name", "way": "dsr" or "snat", "foreignSources": "passes", "drops" or
// "unknown"}]}: how outside clients reach pods of other hosts, by network.load_balancer_mode, and
// what was found out about the network.
boost::json::object
load_balancer_view(std::string_view mode,
                   const std::vector<std::pair<std::string, SourceVerdict>>& hosts);

// {"mode", "uplinks": [{"name", "address", "addressV6", "mtu", "subnets"}], "podMTU",
// "overlayMTU"}; the main uplink first.
boost::json::object network_view(const apply::NetworkView& network);
// Sentences: hosts whose network.mode is another, and those that this host's mode does not lead to.
std::vector<std::string> network_warnings(const apply::NetworkView& network,
                                          const std::vector<gossip::Member>& members);

// [{"table", "entries", "active", "closing", "size", "pressure", "ageSeconds"}]
boost::json::array tables_view(const std::vector<apply::LruUse>& tables);
// A sentence for each table that is nearly full of what is active.
std::vector<std::string> pressure_warnings(const std::vector<apply::LruUse>& tables);

}  // namespace shoal::daemon
