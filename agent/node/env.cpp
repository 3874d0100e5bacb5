// SPDX-License-Identifier: Apache-2.0
#include "agent/node/env.h"

#include "agent/api/quantity.h"
#include "agent/api/selector.h"
#include "agent/node/json_fields.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <boost/json.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unordered_map>

namespace shoal::node {
namespace {

namespace json = boost::json;
using Problem = std::unexpected<std::string>;

std::string ip_texts(const std::vector<IpAddress>& ips) {
  std::vector<std::string> texts;
  for (const IpAddress& ip : ips)
    texts.push_back(ip.to_string());
  return fmt::format("{}", fmt::join(texts, ","));
}

// metadata.labels['app'], metadata.annotations['x']
std::optional<std::string> subscript(const json::object& pod, std::string_view path) {
  for (const std::string_view map : {"metadata.labels", "metadata.annotations"}) {
    if (!path.starts_with(map) || !path.substr(map.size()).starts_with("['") ||
        !path.ends_with("']"))
      continue;
    const std::string_view key = path.substr(map.size() + 2, path.size() - map.size() - 4);
    const json::object* values = api::find_object(pod, map);
    return values ? text_at(*values, key) : std::string();
  }
  return std::nullopt;
}

struct Referred {
  std::string_view resource;
  std::string_view kind;
  std::string_view lower;
};
Referred referred(bool secret) {
  return secret ? Referred{"secrets", "Secret", "secret"}
                : Referred{"configmaps", "ConfigMap", "configmap"};
}

// Of a Secret's data, in plain.
std::string plain(const json::value& value, bool secret) {
  const std::string_view text = value.is_string() ? std::string_view(value.get_string()) : "";
  return secret ? parse_base64(text).value_or("") : std::string(text);
}

// An environment is text: what else there is would reach a runtime's error message.
bool is_value(std::string_view text) {
  return is_utf8(text) && text.find('\0') == std::string_view::npos;
}
std::string no_text(const Referred& what, std::string_view ns, std::string_view name,
                    std::string_view key) {
  return fmt::format("key {} in {} {}/{} holds a NUL byte or is no UTF-8, and cannot be a "
                     "variable; mount it as a file",
                     printable(key), what.kind, ns, name);
}

// Nothing: it is missing, and may be.
std::expected<std::optional<std::string>, std::string>
key_value(const PodSpec& spec, const EnvFacts& facts, const EnvSource& source) {
  const bool secret = source.kind == EnvSource::Kind::kSecret;
  const Referred what = referred(secret);
  const store::ObjectPtr object = facts.find(what.resource, source.name);
  if (!object && source.optional)
    return std::nullopt;
  if (!object)
    return Problem(fmt::format("{} \"{}\" not found", what.lower, source.name));
  const json::object* data = object_at(object->body, "data");
  const json::value* value = data ? data->if_contains(source.key) : nullptr;
  if (!value && source.optional)
    return std::nullopt;
  if (!value)
    return Problem(fmt::format("couldn't find key {} in {} {}/{}", source.key, what.kind, spec.ns,
                               source.name));
  std::string text = plain(*value, secret);
  if (!is_value(text))
    return Problem(no_text(what, spec.ns, source.name, source.key));
  return text;
}

// Variables in the order in which they were set last, each once.
class Variables {
public:
  void put(std::string name, std::string value) {
    const auto [at, fresh] = by_name_.try_emplace(name, entries_.size());
    if (!fresh) {
      entries_[at->second].reset();
      at->second = entries_.size();
    }
    entries_.emplace_back(std::pair(std::move(name), std::move(value)));
  }
  const std::string* find(const std::string& name) const {
    const auto at = by_name_.find(name);
    return at == by_name_.end() ? nullptr : &entries_[at->second]->second;
  }
  std::vector<std::string> take() && {
    std::vector<std::string> out;
    for (auto& entry : entries_)
      if (entry)
        out.push_back(std::move(entry->first) + "=" + entry->second);
    return out;
  }

private:
  std::vector<std::optional<std::pair<std::string, std::string>>> entries_;
  std::unordered_map<std::string, std::size_t> by_name_;
};

std::string variable_name(std::string_view text) {
  std::string out;
  for (const char c : text)
    out += c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c == '-' ? '_' : c;
  return out;
}

std::optional<EnvSource> read_source(const json::object& from) {
  using Kind = EnvSource::Kind;
  EnvSource out;
  if (const json::object* field = object_at(from, "fieldRef")) {
    out.kind = Kind::kField;
    out.key = text_at(*field, "fieldPath");
  } else if (const json::object* resource = object_at(from, "resourceFieldRef")) {
    out.kind = Kind::kResource;
    out.key = text_at(*resource, "resource");
    out.container = text_at(*resource, "containerName");
    if (const json::value* divisor = resource->if_contains("divisor"))
      out.divisor =
          divisor->is_string() ? std::string(divisor->get_string()) : json::serialize(*divisor);
  } else {
    const json::object* map = object_at(from, "configMapKeyRef");
    const json::object* secret = object_at(from, "secretKeyRef");
    const json::object* ref = map ? map : secret;
    if (!ref)
      return std::nullopt;
    out.kind = map ? Kind::kConfigMap : Kind::kSecret;
    out.name = text_at(*ref, "name");
    out.key = text_at(*ref, "key");
    out.optional = flag_at(*ref, "optional");
  }
  return out;
}

}  // namespace

std::string field_value(const PodSpec& spec, const EnvFacts& facts, std::string_view path) {
  if (path == "spec.nodeName")
    return facts.node_name;
  if (path == "status.podIP")
    return facts.pod_ips.empty() ? "" : facts.pod_ips.front().to_string();
  if (path == "status.podIPs")
    return ip_texts(facts.pod_ips);
  if (path == "status.hostIP")
    return facts.host_ips.empty() ? "" : facts.host_ips.front().to_string();
  if (path == "status.hostIPs")
    return ip_texts(facts.host_ips);
  if (path == "spec.serviceAccountName")
    return "default";
  if (path == "metadata.name")
    return spec.name;
  if (path == "metadata.namespace")
    return spec.ns;
  if (path == "metadata.uid")
    return spec.uid;
  return facts.pod ? subscript(facts.pod->body, path).value_or("") : "";
}

// In units of the divisor, rounded up; a container without a limit has the host's.
std::string resource_value(const PodSpec& spec, std::size_t own, const EnvFacts& facts,
                           const EnvSource& source) {
  const auto of = std::ranges::find(spec.containers, source.container, &ContainerSpec::name);
  const ContainerSpec& container = of == spec.containers.end() ? spec.containers[own] : *of;
  const runtime::ResourceLimits& limits = container.limits;
  const bool cpu = source.key.ends_with(".cpu"), limit = source.key.starts_with("limits.");
  std::int64_t value = 0;
  if (cpu)
    value = limit ? limits.cpu_milli.value_or(facts.allocatable.cpu_milli)
                  : limits.cpu_request_milli.value_or(0);
  else if (source.key.ends_with(".ephemeral-storage"))
    value = limit ? container.storage_limit.value_or(facts.allocatable.storage_bytes)
                  : container.storage_request;
  else
    value = limit ? limits.memory_bytes.value_or(facts.allocatable.memory_bytes)
                  : limits.memory_request_bytes.value_or(0);
  // Of cpu both are in thousandths.
  std::int64_t divisor = cpu ? 1000 : 1;
  if (!source.divisor.empty() && source.divisor != "0")
    divisor =
        (cpu ? api::parse_quantity_milli(source.divisor) : api::parse_quantity(source.divisor))
            .value_or(divisor);
  divisor = std::max<std::int64_t>(divisor, 1);
  return std::to_string(value / divisor + (value % divisor != 0));
}

std::vector<EnvVar> read_env(const json::object& container) {
  std::vector<EnvVar> out;
  if (const json::array* list = array_at(container, "env"))
    for (const json::value& entry : *list)
      if (const json::object* variable = entry.if_object()) {
        const json::object* from = object_at(*variable, "valueFrom");
        out.push_back({text_at(*variable, "name"), text_at(*variable, "value"),
                       from ? read_source(*from) : std::nullopt});
      }
  return out;
}

std::vector<EnvFrom> read_env_from(const json::object& container) {
  std::vector<EnvFrom> out;
  if (const json::array* list = array_at(container, "envFrom"))
    for (const json::value& entry : *list)
      if (const json::object* from = entry.if_object()) {
        const json::object* secret = object_at(*from, "secretRef");
        const json::object* ref = secret ? secret : object_at(*from, "configMapRef");
        if (ref)
          out.push_back({text_at(*from, "prefix"), secret != nullptr, text_at(*ref, "name"),
                         flag_at(*ref, "optional")});
      }
  return out;
}

std::vector<std::string> service_env(const store::Object& service) {
  const std::string_view ip = api::find_string(service.body, "spec.clusterIP");
  const json::array* ports = api::find_array(service.body, "spec.ports");
  std::vector<std::string> out;
  if (ip.empty() || ip == "None" || !ports || ports->empty())
    return out;
  const std::string name = variable_name(service.name);
  const bool v6 = ip.find(':') != std::string_view::npos;
  const std::string host = v6 ? fmt::format("[{}]", ip) : std::string(ip);
  out.push_back(fmt::format("{}_SERVICE_HOST={}", name, ip));
  bool first = true;
  std::vector<std::string> links;
  for (const json::value& value : *ports) {
    const json::object* port = value.if_object();
    if (!port)
      continue;
    const std::int64_t number = number_at(*port, "port").value_or(0);
    const std::string named = text_at(*port, "name");
    std::string protocol = text_at(*port, "protocol");
    if (protocol.empty())
      protocol = "TCP";
    const std::string lower = to_lower(protocol);
    const std::string url = fmt::format("{}://{}:{}", lower, host, number);
    if (first)
      out.push_back(fmt::format("{}_SERVICE_PORT={}", name, number));
    if (!named.empty())
      out.push_back(fmt::format("{}_SERVICE_PORT_{}={}", name, variable_name(named), number));
    if (first)
      links.push_back(fmt::format("{}_PORT={}", name, url));
    const std::string prefix = fmt::format("{}_PORT_{}_{}", name, number, protocol);
    links.push_back(fmt::format("{}={}", prefix, url));
    links.push_back(fmt::format("{}_PROTO={}", prefix, lower));
    links.push_back(fmt::format("{}_PORT={}", prefix, number));
    links.push_back(fmt::format("{}_ADDR={}", prefix, ip));
    first = false;
  }
  out.insert(out.end(), links.begin(), links.end());
  return out;
}

std::expected<std::vector<std::string>, std::string>
container_env(const PodSpec& pod, std::size_t index, const EnvFacts& facts) {
  const ContainerSpec& container = pod.containers[index];
  Variables env;
  if (pod.service_links)
    for (const store::ObjectPtr& service : facts.services)
      for (const std::string& entry : service_env(*service)) {
        const std::size_t equals = entry.find('=');
        env.put(entry.substr(0, equals), entry.substr(equals + 1));
      }
  for (const EnvFrom& from : container.env_from) {
    const Referred what = referred(from.secret);
    const store::ObjectPtr object = facts.find(what.resource, from.name);
    if (!object && from.optional)
      continue;
    if (!object)
      return Problem(fmt::format("{} \"{}\" not found", what.lower, from.name));
    if (const json::object* data = object_at(object->body, "data"))
      for (const auto& [key, value] : *data) {
        std::string text = plain(value, from.secret);
        if (!is_value(text))
          return Problem(no_text(what, pod.ns, from.name, key));
        env.put(from.prefix + std::string(key), std::move(text));
      }
  }
  const auto known = [&](const std::string& name) { return env.find(name); };
  for (const EnvVar& variable : container.env) {
    if (!variable.from) {
      // A value may name what is there before it.
      env.put(variable.name, expand(variable.value, known));
      continue;
    }
    switch (variable.from->kind) {
    case EnvSource::Kind::kField:
      env.put(variable.name, field_value(pod, facts, variable.from->key));
      break;
    case EnvSource::Kind::kResource:
      env.put(variable.name, resource_value(pod, index, facts, *variable.from));
      break;
    case EnvSource::Kind::kConfigMap:
    case EnvSource::Kind::kSecret: {
      auto value = key_value(pod, facts, *variable.from);
      if (!value)
        return Problem(std::move(value.error()));
      if (*value)
        env.put(variable.name, std::move(**value));
      break;
    }
    }
  }
  return std::move(env).take();
}

}  // namespace shoal::node
