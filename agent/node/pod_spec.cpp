// SPDX-License-Identifier: Apache-2.0
#include "agent/node/pod_spec.h"

#include "agent/api/quantity.h"
#include "agent/node/json_get.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::node {
namespace {

namespace json = boost::json;

constexpr std::size_t kHostnameMax = 63;

std::uint32_t seconds_to_ms(const json::object& object, std::string_view key,
                            std::int64_t fallback) {
  const std::int64_t seconds = get_int(object, key).value_or(fallback);
  return static_cast<std::uint32_t>(std::clamp<std::int64_t>(seconds, 0, 4'000'000) * 1000);
}

std::uint32_t count(const json::object& object, std::string_view key, std::int64_t fallback) {
  return static_cast<std::uint32_t>(
      std::clamp<std::int64_t>(get_int(object, key).value_or(fallback), 1, INT32_MAX));
}

// A number, or the name of one of the container's ports.
Result<std::uint16_t> parse_port(const json::object& action, const json::object& container) {
  if (const auto number = get_int(action, "port"); number && *number > 0 && *number <= UINT16_MAX)
    return static_cast<std::uint16_t>(*number);
  const std::string name = get_text(action, "port");
  if (const auto* ports = get_array(container, "ports"))
    for (const auto& port : *ports)
      if (port.is_object() && !name.empty() && get_text(port.get_object(), "name") == name)
        if (const auto number = get_int(port.get_object(), "containerPort"))
          return static_cast<std::uint16_t>(*number);
  return fail(Errc::kInvalid,
              fmt::format("readinessProbe: the container has no port named '{}'", name));
}

Result<ReadinessProbe> parse_probe(const json::object& probe, const json::object& container) {
  ReadinessProbe parsed;
  parsed.timing.initial_delay_ms = seconds_to_ms(probe, "initialDelaySeconds", 0);
  parsed.timing.period_ms = seconds_to_ms(probe, "periodSeconds", 10);
  parsed.timing.timeout_ms = seconds_to_ms(probe, "timeoutSeconds", 1);
  parsed.timing.success_threshold = count(probe, "successThreshold", 1);
  parsed.timing.failure_threshold = count(probe, "failureThreshold", 3);
  if (const auto* http = get_object(probe, "httpGet")) {
    parsed.http = true;
    parsed.port = SHOAL_TRY(parse_port(*http, container));
    parsed.path = get_text(*http, "path", "/");
    if (const auto* headers = get_array(*http, "httpHeaders"))
      for (const auto& header : *headers)
        if (const auto* fields = header.if_object())
          parsed.headers.push_back({get_text(*fields, "name"), get_text(*fields, "value")});
    return parsed;
  }
  const auto* tcp = get_object(probe, "tcpSocket");
  if (tcp == nullptr)
    return fail(Errc::kUnsupported, "readinessProbe: only httpGet and tcpSocket are supported");
  parsed.port = SHOAL_TRY(parse_port(*tcp, container));
  return parsed;
}

Result<runtime::ResourceLimits> parse_resources(const json::object& resources) {
  runtime::ResourceLimits limits;
  if (const auto* given = get_object(resources, "limits")) {
    if (const std::string cpu = get_text(*given, "cpu"); !cpu.empty())
      limits.cpu_milli = SHOAL_TRY(api::parse_quantity_milli(cpu));
    if (const std::string memory = get_text(*given, "memory"); !memory.empty())
      limits.memory_bytes = SHOAL_TRY(api::parse_quantity(memory));
  }
  if (const auto* asked = get_object(resources, "requests"))
    if (const std::string cpu = get_text(*asked, "cpu"); !cpu.empty())
      if (const std::int64_t milli = SHOAL_TRY(api::parse_quantity_milli(cpu)); milli > 0)
        limits.cpu_request_milli = milli;
  return limits;
}

std::optional<std::uint32_t> id_of(const json::object& object, std::string_view key) {
  const auto id = get_int(object, key);
  return id && *id >= 0 && *id < UINT32_MAX ? std::optional(static_cast<std::uint32_t>(*id))
                                            : std::nullopt;
}

// The pod's security context is the fallback of each container's.
void parse_security(const json::object& security, ContainerSpec& container) {
  if (const auto user = id_of(security, "runAsUser"))
    container.run_as_user = user;
  if (const auto group = id_of(security, "runAsGroup"))
    container.run_as_group = group;
  container.run_as_non_root = get_bool(security, "runAsNonRoot", container.run_as_non_root);
  container.read_only_rootfs =
      get_bool(security, "readOnlyRootFilesystem", container.read_only_rootfs);
  if (const auto* capabilities = get_object(security, "capabilities")) {
    container.capabilities_add = get_texts(*capabilities, "add");
    container.capabilities_drop = get_texts(*capabilities, "drop");
  }
}

PullPolicy parse_pull(std::string_view text) {
  return text == "Never"    ? PullPolicy::kNever
         : text == "Always" ? PullPolicy::kAlways
                            : PullPolicy::kIfNotPresent;
}

Result<ContainerSpec> parse_container(const json::object& body, const json::object& spec) {
  ContainerSpec container;
  container.name = get_text(body, "name");
  container.image = get_text(body, "image");
  container.pull = parse_pull(get_text(body, "imagePullPolicy"));
  container.working_dir = get_text(body, "workingDir");
  if (const auto* env = get_array(body, "env"))
    for (const auto& entry : *env)
      if (const auto* fields = entry.if_object())
        container.env.push_back(get_text(*fields, "name") + "=" +
                                expand(get_text(*fields, "value"), container.env));
  for (const std::string& text : get_texts(body, "command"))
    container.command.push_back(expand(text, container.env));
  for (const std::string& text : get_texts(body, "args"))
    container.args.push_back(expand(text, container.env));
  if (const auto* probe = get_object(body, "readinessProbe"))
    container.readiness = SHOAL_TRY(parse_probe(*probe, body));
  if (const auto* resources = get_object(body, "resources"))
    container.resources = SHOAL_TRY(parse_resources(*resources));
  if (const auto* security = get_object(spec, "securityContext"))
    parse_security(*security, container);
  if (const auto* security = get_object(body, "securityContext"))
    parse_security(*security, container);
  return container;
}

}  // namespace

std::string expand(std::string_view text, const std::vector<std::string>& env) {
  std::string out;
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t close = text.find(')', at);
    if (text.substr(at, 3) == "$$(") {
      out += "$(";
      at += 3;
    } else if (text.substr(at, 2) == "$(" && close != std::string_view::npos) {
      const std::string name = std::string(text.substr(at + 2, close - at - 2)) + "=";
      const auto entry = std::find_if(env.rbegin(), env.rend(),
                                      [&](const auto& e) { return e.starts_with(name); });
      out += entry != env.rend() ? std::string_view(*entry).substr(name.size())
                                 : text.substr(at, close + 1 - at);
      at = close + 1;
    } else {
      out.push_back(text[at++]);
    }
  }
  return out;
}

Result<PodSpec> parse_pod(const json::object& body) {
  const auto* metadata = get_object(body, "metadata");
  const auto* spec = get_object(body, "spec");
  if (metadata == nullptr || spec == nullptr)
    return fail(Errc::kCorrupt, "a Pod without metadata or spec");
  PodSpec pod;
  pod.ns = get_text(*metadata, "namespace");
  pod.name = get_text(*metadata, "name");
  pod.uid = get_text(*metadata, "uid");
  pod.hostname = get_text(*spec, "hostname", pod.name);
  if (pod.hostname.size() > kHostnameMax)
    pod.hostname.resize(kHostnameMax);
  while (!pod.hostname.empty() && (pod.hostname.back() == '-' || pod.hostname.back() == '.'))
    pod.hostname.pop_back();
  const std::string restart = get_text(*spec, "restartPolicy", "Always");
  pod.restart = restart == "Never"       ? RestartPolicy::kNever
                : restart == "OnFailure" ? RestartPolicy::kOnFailure
                                         : RestartPolicy::kAlways;
  if (const auto* containers = get_array(*spec, "containers"))
    for (const auto& container : *containers)
      if (const auto* fields = container.if_object())
        pod.containers.push_back(
            SHOAL_TRY_WRAP(parse_container(*fields, *spec),
                           fmt::format("container {}", get_text(*fields, "name"))));
  if (pod.uid.empty() || pod.containers.empty())
    return fail(Errc::kCorrupt, fmt::format("Pod {}: no uid or no containers", pod.key()));
  return pod;
}

PodDeletion parse_deletion(const json::object& body) {
  PodDeletion deletion;
  const auto* metadata = get_object(body, "metadata");
  if (metadata == nullptr)
    return deletion;
  deletion.requested = !get_text(*metadata, "deletionTimestamp").empty();
  const auto* spec = get_object(body, "spec");
  const std::int64_t fallback =
      spec ? get_int(*spec, "terminationGracePeriodSeconds").value_or(30) : 30;
  deletion.grace = std::chrono::seconds(std::clamp<std::int64_t>(
      get_int(*metadata, "deletionGracePeriodSeconds").value_or(fallback), 0, 1'000'000));
  return deletion;
}

}  // namespace shoal::node
