// SPDX-License-Identifier: Apache-2.0
// Shoal's own side: membership, this host's state, the data plane's view of services.
#include "agent/cli/answer.h"
#include "agent/cli/commands.h"
#include "agent/cli/manifest.h"
#include "agent/cli/output.h"
#include "agent/cli/selection.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/json.hpp>
#include <fmt/format.h>
#include <functional>

namespace shoal::cli {
namespace {

namespace json = boost::json;

constexpr std::chrono::seconds kBecomeMemberTimeout{20};
constexpr std::chrono::milliseconds kBecomeMemberPoll{100};

// After init and join the daemon begins anew as a member: answers come again when it has.
Result<> wait_member(const Context& context) {
  boost::asio::io_context loop;
  boost::asio::steady_timer timer(loop);
  const auto deadline = std::chrono::steady_clock::now() + kBecomeMemberTimeout;
  bool member = false;
  std::function<void()> look = [&] {
    const auto status = ask(context, {.target = "/shoal/v1/status"});
    member = status && text_at(*status, "phase") == "Member";
    if (member || std::chrono::steady_clock::now() > deadline)
      return;
    timer.expires_after(kBecomeMemberPoll);
    timer.async_wait([&](const boost::system::error_code&) { look(); });
  };
  look();
  loop.run();
  if (!member)
    return fail(
        Errc::kTimeout,
        fmt::format(
            "the host's membership is stored, but shoald does not serve as a member after {} s: "
            "see `journalctl -u shoald`",
            kBecomeMemberTimeout.count()));
  return {};
}

Exit become_member(const Context& context, const Request& request, bool as_json,
                   std::string_view what) {
  const json::object answer = SHOAL_TRY(ask(context, request));
  SHOAL_TRY(wait_member(context));
  if (as_json)
    print_json(context, answer);
  else
    context.streams.out(fmt::format("host {} {} cluster {}\n", text_at(answer, "node"), what,
                                    text_at(answer, "clusterId")));
  return 0;
}

std::string frontends(const json::object& port) {
  std::vector<std::string> out;
  for (const json::value& item : list_at(port, "frontends")) {
    const json::object& frontend = object_of(item);
    out.push_back(fmt::format("{}:{} ({})", text_at(frontend, "ip"), text_at(frontend, "port"),
                              text_at(frontend, "kind")));
  }
  return out.empty() ? "<none>" : fmt::format("{}", fmt::join(out, ", "));
}

// Where a Service has a ring for each kind of client.
std::string whose(const json::object& port) {
  const std::string clients = text_at(port, "clients");
  if (clients.empty() || clients == "all")
    return {};
  return clients == "inside-external" ? ", clients inside of other addresses than the ClusterIP"
                                      : fmt::format(", clients {}", clients);
}

void show_port(const Context& context, const json::object& port) {
  const json::object& counters = object_at(port, "counters");
  context.streams.out(fmt::format("\nPort {} {} {}{}: {}\n", text_at(port, "port_name"),
                                  text_at(port, "protocol"), text_at(port, "family"), whose(port),
                                  frontends(port)));
  context.streams.out(
      fmt::format("  connects {}, flows {}, packets {}, bytes {}, refused {}, unclaimed {}\n",
                  number_at(counters, "connects"), number_at(counters, "flows"),
                  number_at(counters, "packets"), number_at(counters, "bytes"),
                  number_at(counters, "refused"), number_at(counters, "unclaimed")));
  TextTable groups({"GROUP", "WEIGHT", "ASKED", "EFFECTIVE", "SLOTS", "READY"});
  for (const json::value& item : list_at(port, "groups")) {
    const json::object& group = object_of(item);
    groups.add({text_at(group, "name"), text_at(group, "weight"), percent(group, "asked"),
                percent(group, "effective"), text_at(group, "slots"), text_at(group, "ready")});
  }
  if (!groups.empty())
    context.streams.out("\n" + groups.str());
  TextTable backends(
      {"BACKEND", "ADDRESS", "HOST", "STATE", "GROUP", "EFFECTIVE", "CONNECTS", "FLOWS"});
  for (const json::value& item : list_at(port, "backends")) {
    const json::object& backend = object_of(item);
    backends.add({text_at(backend, "pod"),
                  fmt::format("{}:{}", text_at(backend, "ip"), text_at(backend, "port")),
                  text_at(backend, "host"), text_at(backend, "state"), text_at(backend, "group"),
                  percent(backend, "effective"), text_at(backend, "connects"),
                  text_at(backend, "flows")});
  }
  context.streams.out(backends.empty() ? "\nno backends\n" : "\n" + backends.str());
  for (const json::value& error : list_at(port, "errors"))
    context.streams.out(fmt::format("error: {}\n", cell(error)));
}

// "flows: 1200 of 262144 entries, 300 active (0.1%), counted 12 s ago"
std::string table_load(const json::object& table) {
  return fmt::format("{}: {} of {} entries, {} active ({}), counted {} s ago",
                     text_at(table, "table"), number_at(table, "entries"), number_at(table, "size"),
                     number_at(table, "active"), percent(table, "pressure"),
                     number_at(table, "ageSeconds"));
}

// "eth0 198.18.0.11 2001:db8:1::11, MTU 1500", a line an uplink, and what packets may be large.
std::vector<std::pair<std::string, std::string>> network_lines(const json::object& network) {
  std::vector<std::pair<std::string, std::string>> lines;
  for (const json::value& item : list_at(network, "uplinks")) {
    const json::object& uplink = object_of(item);
    std::string line = text_at(uplink, "name");
    for (const std::string_view key : {"address", "addressV6"})
      if (const std::string address = text_at(uplink, key); !address.empty())
        line += " " + address;
    lines.emplace_back("uplink:", fmt::format("{}, MTU {}", line, number_at(uplink, "mtu")));
  }
  if (!network.contains("mode"))
    return lines;
  lines.emplace_back("network mode:", text_at(network, "mode"));
  lines.emplace_back("MTU:", fmt::format("pods {}, overlay {}", number_at(network, "podMTU"),
                                         number_at(network, "overlayMTU")));
  if (const json::object& balancer = object_at(network, "loadBalancer"); !balancer.empty()) {
    std::string line = text_at(balancer, "mode");
    for (const json::value& item : list_at(balancer, "hosts")) {
      const json::object& host = object_of(item);
      line += fmt::format(", {} by {}", text_at(host, "name"), text_at(host, "way"));
      if (text_at(host, "foreignSources") == "unknown")
        line += " (untried)";
    }
    lines.emplace_back("load balancer:", std::move(line));
  }
  return lines;
}

}  // namespace

Exit run_init(const Context& context, bool as_json) {
  const int code = SHOAL_TRY(become_member(
      context, {.method = "POST", .target = "/shoal/v1/init", .body = "{}"}, as_json, "began"));
  if (!as_json)
    context.streams.err("next: `shoal token create` here, then `shoal join ADDRESS:6443 TOKEN` on "
                        "each other host\n");
  return code;
}

Exit run_join(const Context& context, const std::string& address, const std::string& token,
              bool as_json) {
  const std::string body = json::serialize(json::object{{"address", address}, {"token", token}});
  return become_member(context, {.method = "POST", .target = "/shoal/v1/join", .body = body},
                       as_json, "joined");
}

Exit run_members(const Context& context, bool as_json) {
  const json::object answer = SHOAL_TRY(ask(context, {.target = "/shoal/v1/members"}));
  if (as_json) {
    print_json(context, answer);
    return 0;
  }
  TextTable table({"NAME", "STATE", "ADDRESS", "POD-CIDR", "API", "VERSION"});
  for (const json::value& item : list_at(answer, "members")) {
    const json::object& member = object_of(item);
    const json::value* self = member.if_contains("self");
    const bool here = self && self->is_bool() && self->get_bool();
    table.add({text_at(member, "name") + (here ? " (this host)" : ""), text_at(member, "state"),
               text_at(member, "gossipAddress"), cell(json::value(list_at(member, "podCIDRs"))),
               text_at(member, "apiAddress"), text_at(member, "version")});
  }
  context.streams.out(table.str());
  return 0;
}

Exit run_status(const Context& context, bool as_json) {
  const json::object answer = SHOAL_TRY(ask(context, {.target = "/shoal/v1/status"}));
  if (as_json) {
    print_json(context, answer);
    return 0;
  }
  constexpr std::size_t kNameWidth = 18;
  for (const auto& field : answer) {
    const std::string_view key(field.key().data(), field.key().size());
    if (field.value().is_array() && (key == "errors" || key == "limitations")) {
      for (const json::value& line : field.value().get_array())
        context.streams.out(
            fmt::format("{:<{}}{}\n", fmt::format("{}:", key), kNameWidth, cell(line)));
      continue;
    }
    if (key == "network") {
      for (const auto& [name, line] : network_lines(object_of(field.value())))
        context.streams.out(fmt::format("{:<{}}{}\n", name, kNameWidth, line));
      continue;
    }
    if (key == "tables") {
      for (const json::value& table : list_at(answer, key))
        context.streams.out(
            fmt::format("{:<{}}{}\n", "table:", kNameWidth, table_load(object_of(table))));
      continue;
    }
    context.streams.out(
        fmt::format("{:<{}}{}\n", fmt::format("{}:", key), kNameWidth, cell(field.value())));
  }
  return 0;
}

Exit run_token_create(const Context& context, std::optional<std::uint64_t> ttl_s, bool as_json) {
  const std::string ttl = ttl_s ? fmt::format("{}", *ttl_s) : "";
  const json::object answer = SHOAL_TRY(
      ask(context,
          {.method = "POST", .target = "/shoal/v1/tokens" + query({{"ttl", ttl}}), .body = "{}"}));
  if (as_json)
    print_json(context, answer);
  else
    context.streams.out(text_at(answer, "token") + "\n");
  return 0;
}

Exit run_dump(const Context& context) {
  const Response response = SHOAL_TRY(
      context.client.send({.target = "/shoal/v1/dataplane/dump", .accept = "text/plain"}));
  if (!response.ok())
    return fail(to_error(read_refusal(response)));
  context.streams.out(response.body);
  return 0;
}

Exit run_service_list(const Context& context, bool as_json) {
  const json::object answer = SHOAL_TRY(ask(context, {.target = "/shoal/v1/services"}));
  if (as_json) {
    print_json(context, answer);
    return 0;
  }
  TextTable table(
      {"NAMESPACE", "NAME", "PORT", "CLIENTS", "FRONTENDS", "READY", "BACKENDS", "CONNECTS"});
  for (const json::value& item : list_at(answer, "services")) {
    const json::object& service = object_of(item);
    const json::object& counters = object_at(service, "counters");
    table.add({text_at(service, "namespace"), text_at(service, "name"),
               fmt::format("{}/{}", text_at(service, "port_name"), text_at(service, "protocol")),
               text_at(service, "clients"), frontends(service), text_at(service, "ready"),
               text_at(service, "backends"), text_at(counters, "connects")});
  }
  if (table.empty())
    context.streams.err("the data plane of this host has no services\n");
  else
    context.streams.out(table.str());
  return 0;
}

Exit run_service_show(const Context& context, const std::string& ns, const std::string& name,
                      bool as_json) {
  const json::object answer =
      SHOAL_TRY(ask(context, {.target = fmt::format("/shoal/v1/services/{}/{}", percent_encode(ns),
                                                    percent_encode(name))}));
  if (as_json) {
    print_json(context, answer);
    return 0;
  }
  context.streams.out(fmt::format("Service {}/{}, as the data plane of this host has it\n",
                                  text_at(answer, "namespace"), text_at(answer, "name")));
  for (const json::value& item : list_at(answer, "drains")) {
    const json::object& drain = object_of(item);
    const std::uint64_t left_s = number_at(drain, "closesInSeconds");
    const std::uint64_t closed = number_at(drain, "closed");
    context.streams.out(fmt::format(
        "drain: {} {}\n", text_at(drain, "group"),
        left_s > 0 ? fmt::format("closes in {} s", left_s)
                   : fmt::format("closed {} connection{}", closed, closed == 1 ? "" : "s")));
  }
  for (const json::value& port : list_at(answer, "ports"))
    show_port(context, object_of(port));
  return 0;
}

Result<std::uint64_t> parse_duration(std::string_view text) {
  std::uint64_t total = 0;
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::size_t unit = std::min(rest.find_first_not_of("0123456789"), rest.size());
    const auto number = parse_uint(rest.substr(0, unit), 1'000'000'000);
    const std::string_view name = rest.substr(unit, 1);
    const std::uint64_t factor = name == "d"   ? 86'400
                                 : name == "h" ? 3'600
                                 : name == "m" ? 60
                                 : name == "s" ? 1
                                               : 0;
    if (!number || factor == 0)
      return fail(Errc::kInvalid,
                  fmt::format("\"{}\" is not a duration, as in 30m, 24h or 7d", printable(text)));
    total += *number * factor;
    rest.remove_prefix(unit + 1);
  }
  if (total == 0)
    return fail(Errc::kInvalid,
                fmt::format("\"{}\" is not a duration, as in 30m, 24h or 7d", printable(text)));
  return total;
}

int exit_code_of(const Error& error) {
  if (error.code() == Errc::kUnavailable && error.sys_errno() != 0)
    return kExitUnreachable;
  return error.code() == Errc::kNotFound && error.sys_errno() == 0 ? kExitNotFound : kExitFailed;
}

}  // namespace shoal::cli
