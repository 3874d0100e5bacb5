// SPDX-License-Identifier: Apache-2.0
// Probes and hooks of a container.
#include "agent/api/schema_tables.h"
#include "agent/api/selector.h"

#include <fmt/format.h>

namespace shoal::api {
namespace json = boost::json;
namespace {

constexpr std::string_view kHandlers[] = {"exec", "httpGet", "tcpSocket", "grpc"};

constexpr Field kHeaderFields[] = {{.name = "name", .required = true}, {.name = "value"}};
const Message kHeader{"HTTPHeader", kHeaderFields};
constexpr Field kHttpGetFields[] = {
    {.name = "path", .fallback = "\"/\"", .check = check_absolute_path},
    {.name = "port",
     .type = FieldType::kIntOrString,
     .required = true,
     .check = check_port_or_name},
    {.name = "host"},
    {.name = "scheme", .fallback = "\"HTTP\"", .values = "HTTP|HTTPS"},
    {.name = "httpHeaders",
     .type = FieldType::kMessage,
     .message = &kHeader,
     .list = ListType::kAtomic},
};
const Message kHttpGet{"HTTPGetAction", kHttpGetFields};
constexpr Field kTcpSocketFields[] = {
    {.name = "port",
     .type = FieldType::kIntOrString,
     .required = true,
     .check = check_port_or_name},
    {.name = "host"},
};
const Message kTcpSocket{"TCPSocketAction", kTcpSocketFields};
constexpr Field kGrpcFields[] = {
    {.name = "port", .type = FieldType::kInt32, .required = true, .check = check_port},
    {.name = "service", .fallback = "\"\""},
};
const Message kGrpc{"GRPCAction", kGrpcFields};
constexpr Field kExecFields[] = {{.name = "command", .list = ListType::kAtomic}};
void check_exec(const json::object& exec, std::string_view path, Causes& causes) {
  const json::array* command = find_array(exec, "command");
  if (!command || command->empty())
    causes.required(child_path(path, "command"));
}
const Message kExec{.name = "ExecAction", .fields = kExecFields, .check = check_exec};

void check_handlers(const json::object& given, std::span<const std::string_view> handlers,
                    std::string_view names, std::string_view path, Causes& causes) {
  std::size_t count = 0;
  for (const std::string_view handler : handlers)
    if (given.contains(handler) && ++count > 1)
      causes.add(child_path(path, handler), "FieldValueForbidden",
                 "Forbidden: may not specify more than 1 handler type");
  if (count == 0)
    causes.required(std::string(path), fmt::format("must specify a handler type: {}", names));
}
void check_handler(const json::object& probe, std::string_view path, Causes& causes) {
  check_handlers(probe, kHandlers, "exec, httpGet, tcpSocket or grpc", path, causes);
}

constexpr Field number(std::string_view name, std::string_view fallback, ValueCheck check) {
  return {.name = name, .type = FieldType::kInt32, .fallback = fallback, .check = check};
}
constexpr Field kProbeFields[] = {
    part("exec", kExec),
    part("httpGet", kHttpGet),
    part("tcpSocket", kTcpSocket),
    part("grpc", kGrpc),
    number("initialDelaySeconds", "0", check_not_negative),
    number("periodSeconds", "10", check_positive),
    number("timeoutSeconds", "1", check_positive),
    number("successThreshold", "1", check_positive),
    number("failureThreshold", "3", check_positive),
    {.name = "terminationGracePeriodSeconds", .type = FieldType::kInt64, .check = check_positive},
};
// Of the probes that end a container.
void check_probe(const json::object& probe, std::string_view path, Causes& causes) {
  check_handler(probe, path, causes);
  if (const std::int64_t threshold = find_int(probe, "successThreshold", 1); threshold != 1)
    causes.invalid(child_path(path, "successThreshold"), threshold, "must be 1");
}
void check_readiness_probe(const json::object& probe, std::string_view path, Causes& causes) {
  check_handler(probe, path, causes);
  if (const json::value* grace = probe.if_contains("terminationGracePeriodSeconds"))
    causes.invalid(child_path(path, "terminationGracePeriodSeconds"), *grace,
                   "must not be set for readinessProbes");
}

// ---- hooks
constexpr std::string_view kHookHandlers[] = {"exec", "httpGet", "sleep"};
constexpr Field kSleepFields[] = {
    {.name = "seconds", .type = FieldType::kInt64, .required = true, .check = check_not_negative}};
const Message kSleep{"SleepAction", kSleepFields};
constexpr Field kHookFields[] = {
    part("exec", kExec), part("httpGet", kHttpGet), part("sleep", kSleep),
    later("tcpSocket"),  // deprecated, and fails in Kubernetes too
};
void check_hook(const json::object& hook, std::string_view path, Causes& causes) {
  check_handlers(hook, kHookHandlers, "exec, httpGet or sleep", path, causes);
}
const Message kHook{.name = "LifecycleHandler", .fields = kHookFields, .check = check_hook};
constexpr Field kLifecycleFields[] = {part("postStart", kHook), part("preStop", kHook),
                                      later("stopSignal")};

}  // namespace

std::string check_absolute_path(const json::value& value) {
  return value.get_string().starts_with('/') ? "" : "must begin with \"/\"";
}
const Message kLifecycle{"Lifecycle", kLifecycleFields};
const Message kProbe{.name = "Probe", .fields = kProbeFields, .check = check_probe};
const Message kReadinessProbe{
    .name = "Probe", .fields = kProbeFields, .check = check_readiness_probe};

}  // namespace shoal::api
