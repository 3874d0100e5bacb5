// SPDX-License-Identifier: Apache-2.0
#include "agent/node/action.h"

#include "agent/node/json_fields.h"
#include "agent/node/pod_spec.h"
#include "netplane/base/fs.h"

#include <boost/json.hpp>
#include <fmt/format.h>

namespace shoal::node {
namespace {

namespace json = boost::json;

constexpr std::size_t kSpecBytesMax = 4 << 20;

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
  if (const json::object* sleep = object_at(handler, "sleep")) {
    out.kind = Action::Kind::kSleep;
    out.sleep = std::chrono::seconds(number_at(*sleep, "seconds").value_or(0));
    return out;
  }
  return fail(Errc::kUnsupported,
              fmt::format("{}: only exec, httpGet and tcpSocket are supported yet", what));
}

Result<std::string> process_of(const std::filesystem::path& bundle,
                               const std::vector<std::string>& args) {
  const std::string text = SHOAL_TRY(read_file(bundle / "config.json", kSpecBytesMax));
  boost::system::error_code error;
  json::value spec = json::parse(text, error);
  json::object* process = error || !spec.is_object() || !spec.as_object().if_contains("process")
                              ? nullptr
                              : spec.as_object()["process"].if_object();
  if (!process)
    return fail(Errc::kCorrupt,
                fmt::format("{} has no process", (bundle / "config.json").string()));
  json::array& words = (*process)["args"].emplace_array();
  for (const std::string& arg : args)
    words.emplace_back(arg);
  return json::serialize(*process);
}

}  // namespace shoal::node
