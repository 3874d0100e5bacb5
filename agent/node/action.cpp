// SPDX-License-Identifier: Apache-2.0
#include "agent/node/action.h"

#include "agent/node/json_fields.h"
#include "agent/node/pod_spec.h"

#include <boost/json.hpp>
#include <fmt/format.h>

namespace shoal::node {
namespace {

namespace json = boost::json;

// A number, or the name of one of the container's ports.
Result<std::uint16_t> port_of(const json::object& action, const std::vector<ContainerPort>& ports,
                              std::string_view what) {
  if (const auto number = number_at(action, "port"))
    return static_cast<std::uint16_t>(*number);
  const std::string name = text_at(action, "port");
  for (const ContainerPort& port : ports)
    if (port.name == name)
      return port.port;
  return fail(Errc::kInvalid,
              fmt::format("{}: the container has no port named \"{}\"", what, name));
}

}  // namespace

Result<Action> read_action(const json::object& handler, const std::vector<ContainerPort>& ports,
                           std::string_view what) {
  Action out;
  if (const json::object* exec = object_at(handler, "exec")) {
    out.kind = Action::Kind::kExec;
    out.command = texts_at(*exec, "command");
    return out;
  }
  if (const json::object* http = object_at(handler, "httpGet")) {
    out.kind = Action::Kind::kHttp;
    out.host = text_at(*http, "host");
    out.port = SHOAL_TRY(port_of(*http, ports, what));
    out.tls = text_at(*http, "scheme") == "HTTPS";
    out.path = text_at(*http, "path");
    if (out.path.empty())
      out.path.push_back('/');
    if (const json::array* headers = array_at(*http, "httpHeaders"))
      for (const json::value& header : *headers)
        if (const json::object* h = header.if_object())
          out.headers.push_back({text_at(*h, "name"), text_at(*h, "value")});
    return out;
  }
  if (const json::object* tcp = object_at(handler, "tcpSocket")) {
    out.kind = Action::Kind::kTcp;
    out.host = text_at(*tcp, "host");
    out.port = SHOAL_TRY(port_of(*tcp, ports, what));
    return out;
  }
  if (const json::object* grpc = object_at(handler, "grpc")) {
    out.kind = Action::Kind::kGrpc;
    out.port = static_cast<std::uint16_t>(number_at(*grpc, "port").value_or(0));
    out.service = text_at(*grpc, "service");
    return out;
  }
  if (const json::object* sleep = object_at(handler, "sleep")) {
    out.kind = Action::Kind::kSleep;
    out.sleep = std::chrono::seconds(number_at(*sleep, "seconds").value_or(0));
    return out;
  }
  return fail(Errc::kUnsupported,
              fmt::format("{}: only exec, httpGet, tcpSocket and grpc are supported yet", what));
}

}  // namespace shoal::node
