// SPDX-License-Identifier: Apache-2.0
// drops, flows, trace: what the data plane of this host does with packets, asked of its maps.
#include "agent/cli/answer.h"
#include "agent/cli/output.h"
#include "agent/cli/selection.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <boost/json.hpp>
#include <fmt/format.h>
#include <map>

namespace shoal::cli {
namespace {

namespace json = boost::json;

// "NAME" in the namespace asked for, "pod/NAME" alike, "NAMESPACE/NAME" as it is.
std::string qualified(const std::string& ns, std::string name) {
  if (name.starts_with("pod/"))
    name.erase(0, 4);
  return name.empty() || name.find('/') != std::string::npos ? name : ns + "/" + name;
}

// ---- drops ------------------------------------------------------------------------------------

struct Look {
  std::map<std::string, std::uint64_t, std::less<>> packets;
  std::uint64_t at_ms = 0;
};

Look look_of(const json::object& answer) {
  Look look{.at_ms = number_at(answer, "atMilliseconds")};
  for (const json::value& item : list_at(answer, "drops"))
    look.packets[text_at(object_of(item), "reason")] = number_at(object_of(item), "packets");
  return look;
}

// Packets since the look before; counters that went back are of maps that were made anew.
std::uint64_t since(const Look& before, std::string_view reason, std::uint64_t packets) {
  const auto old = before.packets.find(reason);
  return old == before.packets.end() || old->second > packets ? packets : packets - old->second;
}

void print_drops(const Context& context, const json::object& answer, bool all) {
  TextTable table({"REASON", "PACKETS", "MEANING"});
  for (const json::value& item : list_at(answer, "drops")) {
    const json::object& drop = object_of(item);
    if (all || number_at(drop, "packets") > 0)
      table.add({text_at(drop, "reason"), text_at(drop, "packets"), text_at(drop, "meaning")});
  }
  if (table.empty())
    context.streams.err("no packet was dropped on this host since its maps were made\n");
  else
    context.streams.out(table.str());
}

void print_drop_changes(const Context& context, const Look& before, const json::object& answer,
                        bool as_json) {
  const Look now = look_of(answer);
  const double seconds = static_cast<double>(now.at_ms - before.at_ms) / 1000;
  for (const json::value& item : list_at(answer, "drops")) {
    const json::object& drop = object_of(item);
    const std::string reason = text_at(drop, "reason");
    const std::uint64_t fresh = since(before, reason, number_at(drop, "packets"));
    if (fresh == 0)
      continue;
    const double rate = seconds > 0 ? static_cast<double>(fresh) / seconds : 0;
    if (as_json)
      context.streams.out(json::serialize(json::object{{"reason", reason},
                                                       {"packets", number_at(drop, "packets")},
                                                       {"since", fresh},
                                                       {"perSecond", rate}}) +
                          "\n");
    else
      context.streams.out(fmt::format("{:<18} +{} ({:.1f}/s), {} in all: {}\n", reason, fresh, rate,
                                      number_at(drop, "packets"), text_at(drop, "meaning")));
  }
}

// ---- flows ------------------------------------------------------------------------------------

TextTable flow_table() {
  return TextTable(
      {"PROTO", "DIRECTION", "CLIENT", "FRONTEND", "BACKEND", "POD", "SERVICE", "IDLE", "STATE"});
}

void add_flow(TextTable& table, const json::object& flow) {
  const std::string client_pod = text_at(flow, "clientPod");
  const std::string client = text_at(flow, "client");
  table.add({text_at(flow, "protocol"), text_at(flow, "direction"),
             client_pod.empty() ? client : fmt::format("{} ({})", client, client_pod),
             text_at(flow, "frontend"), text_at(flow, "backend"), text_at(flow, "pod"),
             text_at(flow, "service"), fmt::format("{}s", number_at(flow, "idleSeconds")),
             text_at(flow, "state")});
}

std::string flow_key(const json::object& flow) {
  return fmt::format("{} {} {} {} {}", text_at(flow, "protocol"), text_at(flow, "client"),
                     text_at(flow, "frontend"), text_at(flow, "backend"),
                     text_at(flow, "direction"));
}

// Flows that are open in one look and not in the other. As many are kept as one answer holds.
class FlowWatch {
public:
  explicit FlowWatch(bool as_json) : as_json_(as_json) {}

  void look(const Context& context, const json::object& answer) {
    std::map<std::string, json::object> now;
    for (const json::value& item : list_at(answer, "flows"))
      if (text_at(object_of(item), "state") == "open")
        now.emplace(flow_key(object_of(item)), object_of(item));
    const json::value* complete = answer.if_contains("complete");
    if (complete && complete->is_bool() && !complete->get_bool() && !std::exchange(warned_, true))
      context.streams.err(fmt::format(
          "the flow table is larger than the {} entries that are compared: flows beyond are not "
          "shown, and some may seem to begin or end; narrow it with --service or --pod, or raise "
          "--limit\n",
          number_at(answer, "read")));
    if (first_)
      context.streams.err(
          fmt::format("{} flows are open; what begins and ends from now on:\n", now.size()));
    else
      tell(context, now);
    first_ = false;
    open_ = std::move(now);
  }

private:
  void tell(const Context& context, const std::map<std::string, json::object>& now) const {
    for (const auto& [key, flow] : now)
      if (!open_.contains(key))
        print(context, "new", flow);
    for (const auto& [key, flow] : open_)
      if (!now.contains(key))
        print(context, "ended", flow);
  }

  void print(const Context& context, std::string_view what, const json::object& flow) const {
    if (as_json_) {
      json::object out = flow;
      out["event"] = what;
      context.streams.out(json::serialize(out) + "\n");
      return;
    }
    TextTable row({});
    add_flow(row, flow);
    context.streams.out(fmt::format("{:<6} {}", what, row.str(false)));
  }

  bool as_json_;
  bool first_ = true;
  bool warned_ = false;
  std::map<std::string, json::object> open_;
};

// ---- trace ------------------------------------------------------------------------------------

std::string backend_name(const json::object& share) {
  const std::string pod = text_at(share, "pod");
  return pod.empty() ? text_at(share, "address")
                     : fmt::format("{} at {}", pod, text_at(share, "address"));
}

std::string result_of(const json::object& trace) {
  const std::string verdict = text_at(trace, "verdict");
  if (verdict == "backend")
    return fmt::format("backend {}, {}", backend_name(object_at(trace, "backend")),
                       text_at(object_at(trace, "backend"), "way"));
  if (verdict == "shares")
    return fmt::format("one of {} backends, by their shares", list_at(trace, "shares").size());
  if (verdict == "refused" || verdict == "dropped")
    return fmt::format("{}, counted as {} (shoal drops)",
                       verdict == "refused" ? "refused at once" : "dropped",
                       text_at(trace, "reason"));
  if (verdict == "pod")
    return "no service: a pod of this host";
  if (verdict == "overlay")
    return "no service: a pod of another host, over the overlay";
  return "no service: the host's own routes decide";
}

void print_trace(const Context& context, const json::object& trace) {
  context.streams.out(fmt::format("{} from {} to {}\n\n", text_at(trace, "protocol"),
                                  text_at(trace, "from"), text_at(trace, "to")));
  for (const json::value& item : list_at(trace, "steps"))
    context.streams.out(fmt::format("  {:<9} {}\n", text_at(object_of(item), "stage"),
                                    text_at(object_of(item), "text")));
  TextTable table({"SHARE", "GROUP", "BACKEND", "ADDRESS", "WAY", ""});
  for (const json::value& item : list_at(trace, "shares")) {
    const json::object& share = object_of(item);
    const std::uint64_t id = number_at(share, "id");
    const bool chosen = id != 0 && id == number_at(object_at(trace, "backend"), "id");
    table.add({percent(share, "share"), text_at(share, "group"), text_at(share, "pod"),
               text_at(share, "address"), text_at(share, "way"), chosen ? "<- this one" : ""});
  }
  if (!table.empty())
    context.streams.out("\n" + table.str());
  context.streams.out(fmt::format("\nresult: {}\n", result_of(trace)));
}

}  // namespace

Exit run_drops(const Context& context, const DropsOptions& options, const Pause& pause) {
  const Request request{.target = "/shoal/v1/drops"};
  json::object answer = SHOAL_TRY(ask(context, request));
  if (options.json && !options.follow)
    print_json(context, answer);
  else if (!options.follow || !options.json)
    print_drops(context, answer, options.all);
  Look before = look_of(answer);
  while (options.follow && pause()) {
    answer = SHOAL_TRY(ask(context, request));
    print_drop_changes(context, before, answer, options.json);
    before = look_of(answer);
  }
  return 0;
}

Exit run_flows(const Context& context, const FlowsOptions& options, const Pause& pause) {
  const auto limit =
      options.limit
          ? options.limit
          : (options.follow ? std::optional<std::uint64_t>(kFollowFlowsDefault) : std::nullopt);
  const Request request{.target = "/shoal/v1/flows" +
                                  query({{"service", qualified(options.ns, options.service)},
                                         {"pod", qualified(options.ns, options.pod)},
                                         {"limit", limit ? fmt::format("{}", *limit) : ""}})};
  json::object answer = SHOAL_TRY(ask(context, request));
  if (options.follow) {
    FlowWatch watch(options.json);
    watch.look(context, answer);
    while (pause())
      watch.look(context, SHOAL_TRY(ask(context, request)));
    return 0;
  }
  if (options.json) {
    print_json(context, answer);
    return 0;
  }
  TextTable table = flow_table();
  for (const json::value& item : list_at(answer, "flows"))
    add_flow(table, object_of(item));
  if (table.empty())
    context.streams.err("no such flow in this host's table (sockets that were translated at "
                        "connect() have none)\n");
  else
    context.streams.out(table.str());
  const json::value* complete = answer.if_contains("complete");
  if (complete && complete->is_bool() && !complete->get_bool())
    context.streams.err(fmt::format("the table holds more: {} entries were read; raise --limit, or "
                                    "narrow it with --service or --pod\n",
                                    number_at(answer, "read")));
  return 0;
}

Exit run_trace(const Context& context, const TraceOptions& options) {
  const bool is_word =
      options.from == "host" || options.from == "outside" || options.from.starts_with("outside:");
  const json::object answer = SHOAL_TRY(ask(
      context,
      {.target = "/shoal/v1/trace" +
                 query({{"from", is_word ? options.from : qualified(options.ns, options.from)},
                        {"to", options.to},
                        {"sourcePort",
                         options.source_port ? fmt::format("{}", *options.source_port) : ""}})}));
  if (options.json)
    print_json(context, answer);
  else
    print_trace(context, answer);
  return 0;
}

}  // namespace shoal::cli
