// SPDX-License-Identifier: Apache-2.0
#include "agent/node/pod_spec.h"

#include "agent/api/quantity.h"
#include "agent/api/restart_backoff.h"
#include "agent/node/env.h"
#include "agent/node/json_fields.h"
#include "agent/node/pod_etc.h"
#include "runtime/shim/protocol.h"

#include <boost/json.hpp>

namespace shoal::node {
namespace {

namespace json = boost::json;

// One of the container's probes.
Result<std::optional<ProbeSpec>> read_probe(const json::object& container, std::string_view name,
                                            const std::vector<ContainerPort>& ports) {
  const json::object* probe = object_at(container, name);
  if (!probe)
    return std::nullopt;
  ProbeSpec out;
  const auto number = [&](std::string_view key, std::int64_t otherwise) {
    return static_cast<std::uint32_t>(number_at(*probe, key).value_or(otherwise));
  };
  out.timing.initial_delay_ms = number("initialDelaySeconds", 0) * 1000;
  out.timing.period_ms = number("periodSeconds", 10) * 1000;
  out.timing.timeout_ms = number("timeoutSeconds", 1) * 1000;
  out.timing.success_threshold = number("successThreshold", 1);
  out.timing.failure_threshold = number("failureThreshold", 3);
  if (const auto grace = number_at(*probe, "terminationGracePeriodSeconds"))
    out.grace = std::chrono::seconds(*grace);
  out.action = SHOAL_TRY(read_action(*probe, ports, name));
  return out;
}

Result<> read_limits(const json::object& container, ContainerSpec& out) {
  runtime::ResourceLimits& limits = out.limits;
  const json::object* resources = object_at(container, "resources");
  const json::object* most = resources ? object_at(*resources, "limits") : nullptr;
  const json::object* least = resources ? object_at(*resources, "requests") : nullptr;
  const auto quantity = [](const json::object* from, std::string_view key) {
    const json::value* value = from ? from->if_contains(key) : nullptr;
    if (!value)
      return std::string();
    return value->is_string() ? std::string(value->as_string()) : json::serialize(*value);
  };
  if (const std::string text = quantity(most, "memory"); !text.empty())
    limits.memory_bytes = SHOAL_TRY_WRAP(api::parse_quantity(text), "resources.limits.memory");
  if (const std::string text = quantity(most, "cpu"); !text.empty())
    limits.cpu_milli = SHOAL_TRY_WRAP(api::parse_quantity_milli(text), "resources.limits.cpu");
  if (const std::string text = quantity(least, "cpu"); !text.empty())
    limits.cpu_request_milli =
        SHOAL_TRY_WRAP(api::parse_quantity_milli(text), "resources.requests.cpu");
  if (const std::string text = quantity(least, "memory"); !text.empty())
    limits.memory_request_bytes =
        SHOAL_TRY_WRAP(api::parse_quantity(text), "resources.requests.memory");
  if (std::string text = quantity(most, "ephemeral-storage"); !text.empty()) {
    out.storage_limit =
        SHOAL_TRY_WRAP(api::parse_quantity(text), "resources.limits.ephemeral-storage");
    out.storage_limit_text = std::move(text);
  }
  if (const std::string text = quantity(least, "ephemeral-storage"); !text.empty())
    out.storage_request =
        SHOAL_TRY_WRAP(api::parse_quantity(text), "resources.requests.ephemeral-storage");
  return {};
}

void read_security(const json::object& security, ContainerSpec& out) {
  if (const auto user = number_at(security, "runAsUser"))
    out.run_as_user = static_cast<std::uint32_t>(*user);
  if (const auto group = number_at(security, "runAsGroup"))
    out.run_as_group = static_cast<std::uint32_t>(*group);
  if (security.contains("runAsNonRoot"))
    out.run_as_non_root = flag_at(security, "runAsNonRoot");
  if (security.contains("readOnlyRootFilesystem"))
    out.read_only_rootfs = flag_at(security, "readOnlyRootFilesystem");
  if (const json::object* capabilities = object_at(security, "capabilities")) {
    out.capabilities_add = texts_at(*capabilities, "add");
    out.capabilities_drop = texts_at(*capabilities, "drop");
  }
  out.privilege_escalation = flag_at(security, "allowPrivilegeEscalation");
  out.privileged = flag_at(security, "privileged");
  if (const json::object* profile = object_at(security, "seccompProfile")) {
    out.seccomp = text_at(*profile, "type") != "Unconfined";
    out.seccomp_profile = text_at(*profile, "localhostProfile");
  }
}

void read_groups(const json::object& security, PodSpec& out) {
  if (const json::array* groups = array_at(security, "supplementalGroups"))
    for (const json::value& group : *groups)
      if (group.is_int64())
        out.supplemental_groups.push_back(static_cast<std::uint32_t>(group.as_int64()));
  if (const auto group = number_at(security, "fsGroup")) {
    out.fs_group = static_cast<std::uint32_t>(*group);
    out.supplemental_groups.push_back(*out.fs_group);
  }
  out.fs_group_on_root_mismatch = text_at(security, "fsGroupChangePolicy") == "OnRootMismatch";
  out.image_groups = text_at(security, "supplementalGroupsPolicy") != "Strict";
}

PullPolicy read_pull_policy(const std::string& text) {
  if (text == "Always")
    return PullPolicy::kAlways;
  return text == "Never" ? PullPolicy::kNever : PullPolicy::kIfNotPresent;
}

Result<ContainerSpec> read_container(const json::object& container,
                                     const json::object* pod_security) {
  ContainerSpec out;
  out.name = text_at(container, "name");
  out.image = text_at(container, "image");
  if (!runtime::shim::is_container_name(out.name) || out.image.empty())
    return fail(Errc::kInvalid, "a container needs a name that is a DNS label, and an image");
  out.pull = read_pull_policy(text_at(container, "imagePullPolicy"));
  out.working_dir = text_at(container, "workingDir");
  out.open_stdin = flag_at(container, "stdin");
  out.stdin_once = flag_at(container, "stdinOnce");
  out.tty = flag_at(container, "tty");
  out.env = read_env(container);
  out.env_from = read_env_from(container);
  out.command = texts_at(container, "command");
  out.args = texts_at(container, "args");
  if (const json::array* ports = array_at(container, "ports"))
    for (const json::value& entry : *ports)
      if (const json::object* port = entry.if_object())
        out.ports.push_back(
            {text_at(*port, "name"),
             static_cast<std::uint16_t>(number_at(*port, "containerPort").value_or(0)),
             text_at(*port, "protocol")});
  if (const json::object* hooks = object_at(container, "lifecycle")) {
    if (const json::object* hook = object_at(*hooks, "postStart"))
      out.post_start = SHOAL_TRY(read_action(*hook, out.ports, "postStart"));
    if (const json::object* hook = object_at(*hooks, "preStop"))
      out.pre_stop = SHOAL_TRY(read_action(*hook, out.ports, "preStop"));
  }
  if (const std::string path = text_at(container, "terminationMessagePath"); !path.empty())
    out.termination_log = path;
  out.termination_from_log =
      text_at(container, "terminationMessagePolicy") == "FallbackToLogsOnError";
  out.startup = SHOAL_TRY(read_probe(container, "startupProbe", out.ports));
  out.liveness = SHOAL_TRY(read_probe(container, "livenessProbe", out.ports));
  out.readiness = SHOAL_TRY(read_probe(container, "readinessProbe", out.ports));
  SHOAL_TRY(read_limits(container, out));
  out.mounts = read_mounts(container);
  if (pod_security)
    read_security(*pod_security, out);
  if (const json::object* security = object_at(container, "securityContext"))
    read_security(*security, out);
  return out;
}

Result<> read_names(const json::object& spec, PodSpec& out) {
  constexpr std::size_t kHostnameMax = 64;  // the kernel's
  out.subdomain = text_at(spec, "subdomain");
  out.hostname_is_fqdn = flag_at(spec, "setHostnameAsFQDN");
  if (const std::string name = kernel_hostname(out); name.size() > kHostnameMax)
    return fail(Errc::kInvalid,
                fmt::format("Failed to construct FQDN from pod hostname and cluster domain, FQDN "
                            "{} is too long (64 characters is the max, {} characters requested)",
                            name, name.size()));
  if (const json::array* aliases = array_at(spec, "hostAliases"))
    for (const json::value& value : *aliases)
      if (const json::object* alias = value.if_object())
        out.host_aliases.push_back({text_at(*alias, "ip"), texts_at(*alias, "hostnames")});
  out.dns_none = text_at(spec, "dnsPolicy") == "None";
  const json::object* dns = object_at(spec, "dnsConfig");
  if (!dns)
    return {};
  out.dns.nameservers = texts_at(*dns, "nameservers");
  out.dns.searches = texts_at(*dns, "searches");
  if (const json::array* options = array_at(*dns, "options"))
    for (const json::value& entry : *options)
      if (const json::object* option = entry.if_object()) {
        const std::string value = text_at(*option, "value");
        out.dns.options.push_back(text_at(*option, "name") + (value.empty() ? "" : ":" + value));
      }
  return {};
}

Result<> read_containers(const json::array& list, const json::object& spec, bool init,
                         PodSpec& out) {
  for (const json::value& value : list) {
    const json::object* container = value.if_object();
    if (!container)
      return fail(Errc::kInvalid,
                  fmt::format("pod {}: a container is not an object", out.full_name()));
    out.containers.push_back(SHOAL_TRY_WRAP(
        read_container(*container, object_at(spec, "securityContext")),
        fmt::format("pod {}, container {}", out.full_name(), text_at(*container, "name"))));
    if (init)
      out.containers.back().role =
          text_at(*container, "restartPolicy") == "Always" ? Role::kSidecar : Role::kInit;
  }
  return {};
}

}  // namespace

RestartPolicy PodSpec::restart_of(std::size_t container) const {
  switch (containers[container].role) {
  case Role::kSidecar:
    return RestartPolicy::kAlways;
  case Role::kInit:
    return restart == RestartPolicy::kNever ? restart : RestartPolicy::kOnFailure;
  case Role::kMain:
    break;
  }
  return restart;
}

std::string expand(std::string_view text,
                   const std::function<const std::string*(const std::string& name)>& find) {
  std::string out;
  while (!text.empty()) {
    const std::size_t close = text.find(')');
    if (text.starts_with("$$")) {
      out += '$';
      text.remove_prefix(2);
    } else if (text.starts_with("$(") && close != std::string_view::npos) {
      const std::string* value = find(std::string(text.substr(2, close - 2)));
      out += value ? std::string_view(*value) : text.substr(0, close + 1);
      text.remove_prefix(close + 1);
    } else {
      out += text.front();
      text.remove_prefix(1);
    }
  }
  return out;
}

Result<PodSpec> read_pod(const store::Object& pod) {
  PodSpec out;
  out.ns = pod.ns;
  out.name = pod.name;
  out.uid = pod.uid;
  const json::object* metadata = object_at(pod.body, "metadata");
  const json::object* spec = object_at(pod.body, "spec");
  if (!metadata || !spec)
    return fail(Errc::kInvalid, fmt::format("pod {} has no metadata or no spec", out.full_name()));
  out.deleting = metadata->contains("deletionTimestamp");
  out.service_links = !spec->contains("enableServiceLinks") || flag_at(*spec, "enableServiceLinks");
  if (const json::array* secrets = array_at(*spec, "imagePullSecrets"))
    for (const json::value& entry : *secrets)
      if (const json::object* secret = entry.if_object())
        out.pull_secrets.push_back(text_at(*secret, "name"));
  out.hostname = text_at(*spec, "hostname");
  if (out.hostname.empty())
    out.hostname = pod.name.substr(0, 63);
  SHOAL_TRY(read_names(*spec, out));
  out.share_pids = flag_at(*spec, "shareProcessNamespace");
  out.host_pids = flag_at(*spec, "hostPID");
  out.host_ipc = flag_at(*spec, "hostIPC");
  out.host_network = flag_at(*spec, "hostNetwork");
  const std::string policy = text_at(*spec, "restartPolicy");
  out.restart = policy == "Never"       ? RestartPolicy::kNever
                : policy == "OnFailure" ? RestartPolicy::kOnFailure
                                        : RestartPolicy::kAlways;
  // A deletion may ask for less time than the spec.
  const auto grace = out.deleting && metadata->contains("deletionGracePeriodSeconds")
                         ? number_at(*metadata, "deletionGracePeriodSeconds")
                         : number_at(*spec, "terminationGracePeriodSeconds");
  out.grace = std::chrono::seconds(std::max<std::int64_t>(0, grace.value_or(30)));
  if (const auto deadline = number_at(*spec, "activeDeadlineSeconds"))
    out.active_deadline = std::chrono::seconds(*deadline);
  out.priority = number_at(*spec, "priority").value_or(0);
  const api::RestartBackoff backoff = SHOAL_TRY(api::restart_backoff(*metadata));
  out.backoff_first =
      backoff.first.value_or(std::min(out.backoff_first, backoff.max.value_or(out.backoff_first)));
  out.backoff_max = backoff.max.value_or(std::max(out.backoff_max, out.backoff_first));
  if (const json::object* security = object_at(*spec, "securityContext"))
    read_groups(*security, out);
  out.volumes = SHOAL_TRY_WRAP(read_volumes(*spec), fmt::format("pod {}", out.full_name()));
  const json::array* containers = array_at(*spec, "containers");
  if (!containers || containers->empty())
    return fail(Errc::kInvalid, fmt::format("pod {} has no containers", out.full_name()));
  if (const json::array* init = array_at(*spec, "initContainers"))
    SHOAL_TRY(read_containers(*init, *spec, true, out));
  SHOAL_TRY(read_containers(*containers, *spec, false, out));
  return out;
}

}  // namespace shoal::node
