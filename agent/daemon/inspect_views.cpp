// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/inspect_views.h"

#include "netplane/base/strings.h"

#include <algorithm>

namespace shoal::daemon {
namespace {

namespace json = boost::json;

std::string_view state_of(const kernel::Flow& flow) {
  if (flow.closing)
    return "closing";
  return flow.proto == L4Proto::kUdp && flow.idle_s > kernel::kUdpIdle_s ? "idle" : "open";
}

json::object share_view(const apply::TraceShare& share) {
  return {{"pod", share.name.pod},   {"group", share.name.group},
          {"host", share.name.host}, {"address", share.address.to_string()},
          {"way", share.way},        {"id", share.id},
          {"slots", share.slots},    {"share", share.share}};
}

// As the key network.mode has it.
std::string_view mode_name(bool native_routes) { return native_routes ? "native" : "vxlan"; }

// An IPv6 address may stand in brackets, as it does before a port.
Result<IpAddress> parse_client(std::string_view text) {
  if (text.size() > 2 && text.front() == '[' && text.back() == ']')
    text = text.substr(1, text.size() - 2);
  return IpAddress::parse(text);
}

}  // namespace

json::object drops_view(const std::vector<kernel::DropCount>& drops, MonoTime now) {
  json::array out;
  for (const kernel::DropCount& drop : drops)
    out.push_back({{"reason", drop.name}, {"meaning", drop.text}, {"packets", drop.packets}});
  const auto at = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch());
  return {{"drops", std::move(out)}, {"atMilliseconds", at.count()}};
}

json::object flows_view(const apply::FlowList& list) {
  json::array out;
  for (const apply::FlowView& view : list.flows)
    out.push_back({{"protocol", to_string(view.flow.proto)},
                   {"direction", view.flow.reverse ? "reverse" : "forward"},
                   {"client", view.client.to_string()},
                   {"clientPod", view.client_pod},
                   {"frontend", view.frontend.to_string()},
                   {"backend", view.backend.to_string()},
                   {"pod", view.pod},
                   {"service", view.service},
                   {"idleSeconds", view.flow.idle_s},
                   {"state", state_of(view.flow)}});
  return {{"flows", std::move(out)}, {"read", list.read}, {"complete", list.complete}};
}

Result<apply::FlowFilter> read_flow_filter(std::string_view service, std::string_view pod,
                                           std::string_view limit) {
  apply::FlowFilter filter{.service = std::string(service), .pod = std::string(pod)};
  filter.limit = kFlowLimitDefault;
  for (const auto& [what, name] : {std::pair("service", service), std::pair("pod", pod)})
    if (!name.empty() && std::ranges::count(name, '/') != 1)
      return fail(Errc::kInvalid,
                  fmt::format("{} must be NAMESPACE/NAME, not \"{}\"", what, printable(name)));
  if (!limit.empty()) {
    const auto number = parse_uint(limit, apply::kFlowsReadMax);
    if (!number || *number == 0)
      return fail(Errc::kInvalid,
                  fmt::format("limit must be a number from 1 to {}", apply::kFlowsReadMax));
    filter.limit = *number;
  }
  return filter;
}

json::object trace_view(const apply::TraceQuery& query, const apply::Trace& trace) {
  json::array steps;
  for (const apply::TraceStep& step : trace.steps)
    steps.push_back({{"stage", step.stage}, {"text", step.text}});
  json::array shares;
  for (const apply::TraceShare& share : trace.shares)
    shares.push_back(share_view(share));
  json::object out{{"from", trace.client},
                   {"to", query.to.to_string()},
                   {"protocol", to_string(query.proto)},
                   {"steps", std::move(steps)},
                   {"verdict", apply::to_string(trace.verdict)},
                   {"reason", trace.reason},
                   {"service", trace.service},
                   {"slots", trace.slots},
                   {"shares", std::move(shares)}};
  if (trace.picked.id != model::kNoBackend)
    out["backend"] = share_view(trace.picked);
  if (trace.hash)
    out["hash"] = *trace.hash;
  if (trace.slot)
    out["slot"] = *trace.slot;
  return out;
}

Result<apply::TraceQuery> read_trace_query(std::string_view from, std::string_view to,
                                           std::string_view source_port) {
  apply::TraceQuery query;
  if (from == "host") {
    query.origin = apply::TraceOrigin::kHost;
  } else if (from == "outside" || from.starts_with("outside:")) {
    query.origin = apply::TraceOrigin::kOutside;
    if (const std::size_t colon = from.find(':'); colon != std::string_view::npos)
      query.client = SHOAL_TRY_WRAP(parse_client(from.substr(colon + 1)), "from");
  } else if (std::ranges::count(from, '/') == 1) {
    query.origin = apply::TraceOrigin::kPod;
    query.pod = from;
  } else {
    return fail(Errc::kInvalid,
                fmt::format("from must be a pod, \"host\", \"outside\" or outside:IP, not \"{}\"",
                            printable(from)));
  }
  const std::size_t slash = to.rfind('/');
  if (slash != std::string_view::npos) {
    std::string proto(to.substr(slash + 1));
    std::ranges::transform(proto, proto.begin(),
                           [](char c) { return c >= 'a' && c <= 'z' ? char(c - 'a' + 'A') : c; });
    query.proto = SHOAL_TRY_WRAP(parse_l4_proto(proto), "to");
  }
  query.to = SHOAL_TRY_WRAP(SocketAddress::parse(to.substr(0, slash)), "to");
  if (query.client && query.client->family() != query.to.ip.family())
    return fail(Errc::kInvalid,
                fmt::format("{} is {} and {} is {}: no packet goes from one to the other",
                            query.client->to_string(), to_string(query.client->family()),
                            query.to.ip.to_string(), to_string(query.to.ip.family())));
  if (!source_port.empty()) {
    const auto port = parse_uint(source_port, 65'535);
    if (!port || *port == 0)
      return fail(Errc::kInvalid, "the source port must be a number from 1 to 65535");
    query.source_port = static_cast<std::uint16_t>(*port);
  }
  return query;
}

std::vector<std::string> network_warnings(const apply::NetworkView& network,
                                          const std::vector<gossip::Member>& members) {
  std::vector<std::string> out = network.detours;
  std::vector<std::string> others;
  for (const gossip::Member& member : members)
    if (member.is_live() && member.meta.native_routes != network.native_routes)
      others.push_back(member.name);
  if (others.empty())
    return out;
  std::ranges::sort(others);
  out.push_back(fmt::format(
      "network.mode is {} on this host and {} on {}: pods reach each other, but each way by the "
      "sender's mode and with the smaller MTU; firewalls on hosts with vxlan see one way of such "
      "connections only. Set the same mode on all hosts and restart shoald there",
      mode_name(network.native_routes), mode_name(!network.native_routes),
      fmt::join(others, ", ")));
  return out;
}

json::object load_balancer_view(std::string_view mode,
                                const std::vector<std::pair<std::string, SourceVerdict>>& hosts) {
  json::array out;
  for (const auto& [name, verdict] : hosts) {
    const bool snat = mode == "snat" || (mode == "auto" && verdict == SourceVerdict::kDrops);
    out.push_back(
        {{"name", name}, {"way", snat ? "snat" : "dsr"}, {"foreignSources", to_string(verdict)}});
  }
  return {{"mode", mode}, {"hosts", std::move(out)}};
}

json::object network_view(const apply::NetworkView& network) {
  json::array uplinks;
  for (const kernel::Uplink& uplink : network.uplinks) {
    json::object& out = uplinks.emplace_back(json::object()).as_object();
    out["name"] = uplink.name;
    if (!uplink.address.is_unspecified())
      out["address"] = uplink.address.to_string();
    if (uplink.address_v6)
      out["addressV6"] = uplink.address_v6->to_string();
    out["mtu"] = uplink.mtu;
    json::array& subnets = out["subnets"].emplace_array();
    for (const IpPrefix& subnet : uplink.subnets)
      subnets.emplace_back(subnet.to_string());
  }
  return {{"mode", mode_name(network.native_routes)},
          {"uplinks", std::move(uplinks)},
          {"podMTU", network.pod_mtu},
          {"overlayMTU", network.overlay_mtu}};
}

json::array tables_view(const std::vector<apply::LruUse>& tables) {
  json::array out;
  for (const apply::LruUse& use : tables)
    out.push_back({{"table", use.table},
                   {"entries", use.tally.entries},
                   {"active", use.tally.active},
                   {"closing", use.tally.closing},
                   {"size", use.size},
                   {"pressure", use.pressure()},
                   {"ageSeconds", use.age_s}});
  return out;
}

std::vector<std::string> pressure_warnings(const std::vector<apply::LruUse>& tables) {
  std::vector<std::string> out;
  for (const apply::LruUse& use : tables)
    if (use.pressure() >= apply::kPressureHigh)
      out.push_back(fmt::format(
          "the table {} is nearly full of what is in use: {} of {} entries were seen within {} s "
          "({:.0f} %); the least recently used are forgotten. Raise limits.{}",
          use.table, use.tally.active, use.size, kernel::kUdpIdle_s, use.pressure() * 100,
          use.table));
  return out;
}

}  // namespace shoal::daemon
