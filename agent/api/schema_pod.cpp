// SPDX-License-Identifier: Apache-2.0
// Pod and the template that makes pods.
#include "agent/api/quantity.h"
#include "agent/api/schema_tables.h"
#include "agent/api/selector.h"
#include "netplane/base/strings.h"

#include <fmt/format.h>

namespace shoal::api {
namespace json = boost::json;
namespace {

// ---- ports
constexpr Field kContainerPortFields[] = {
    {.name = "name", .check = check_port_name},
    {.name = "containerPort", .type = FieldType::kInt32, .required = true, .check = check_port},
    {.name = "protocol", .fallback = "\"TCP\"", .values = "TCP|UDP", .values_later = "SCTP"},
    {.name = "hostPort", .type = FieldType::kInt32, .check = check_port},
    {.name = "hostIP", .check = check_ip_or_empty},
};
void fill_container_port(json::object& port) {
  for (const std::string_view name : {"hostPort", "hostIP"})
    if (const json::value* value = port.if_contains(name); value && is_neutral(*value))
      port.erase(name);
}
const Message kContainerPort{
    .name = "ContainerPort", .fields = kContainerPortFields, .fill = fill_container_port};

void fill_host_ports(json::value& container) {
  json::value* ports =
      container.is_object() ? container.get_object().if_contains("ports") : nullptr;
  if (!ports || !ports->is_array())
    return;
  for (json::value& value : ports->get_array())
    if (json::object* port = value.if_object())
      if (const json::value* own = port->if_contains("containerPort");
          own && !port->contains("hostPort"))
        port->insert({{"hostPort", json::value(*own)}});
}

// ---- resources
constexpr Field kResourceListFields[] = {
    {.name = "cpu", .type = FieldType::kQuantity},
    {.name = "memory", .type = FieldType::kQuantity},
    {.name = "ephemeral-storage", .type = FieldType::kQuantity},
};
const Message kResourceList{"ResourceList", kResourceListFields};
constexpr Field kResourcesFields[] = {
    part("limits", kResourceList),
    part("requests", kResourceList),
    later("claims"),
};
// Kubernetes: a limit without a request is the request too.
void fill_resources(json::object& resources) {
  const json::object* limits = find_object(resources, "limits");
  if (!limits || limits->empty())
    return;
  const json::object given = *limits;
  json::value& requests = resources["requests"];
  if (!requests.is_object())
    requests.emplace_object();
  for (const auto& [name, value] : given)
    requests.get_object().insert({{name, value}});
}
void check_resources(const json::object& resources, std::string_view path, Causes& causes) {
  for (const std::string_view name : {"cpu", "memory", "ephemeral-storage"}) {
    const std::string dotted(name);
    const std::string_view limit = find_string(resources, "limits." + dotted);
    const std::string_view request = find_string(resources, "requests." + dotted);
    if (limit.empty() || request.empty())
      continue;
    const auto most = parse_quantity_milli(limit), asked = parse_quantity_milli(request);
    if (most && asked && *asked > *most)
      causes.invalid(child_path(path, "requests"), json::string(request),
                     fmt::format("must be less than or equal to {} limit of {}", name, limit));
  }
}
const Message kResources{.name = "ResourceRequirements",
                         .fields = kResourcesFields,
                         .fill = fill_resources,
                         .check = check_resources};

// ---- security
constexpr Field kCapabilitiesFields[] = {
    {.name = "add", .list = ListType::kAtomic},
    {.name = "drop", .list = ListType::kAtomic},
};
const Message kCapabilities{"Capabilities", kCapabilitiesFields};
// A profile of the host is named by its path below the host's own folder of them.
std::string check_profile_path(const json::value& value) {
  const std::string_view path = value.get_string();
  if (path.empty() || path.starts_with('/'))
    return "must be a relative path";
  for (const std::string_view part : split(path, '/'))
    if (part == ".." || part.empty())
      return "must not contain '..' or empty parts";
  return {};
}
constexpr Field kSeccompFields[] = {
    {.name = "type", .required = true, .values = "RuntimeDefault|Unconfined|Localhost"},
    {.name = "localhostProfile", .check = check_profile_path},
};
void check_seccomp(const json::object& profile, std::string_view path, Causes& causes) {
  const bool local = find_string(profile, "type") == "Localhost";
  const bool named = !find_string(profile, "localhostProfile").empty();
  if (local && !named)
    causes.required(child_path(path, "localhostProfile"),
                    "must be set when seccomp type is Localhost");
  if (!local && named)
    causes.invalid(child_path(path, "localhostProfile"),
                   json::string(find_string(profile, "localhostProfile")),
                   "can only be set when seccomp type is Localhost");
}
const Message kSeccomp{.name = "SeccompProfile", .fields = kSeccompFields, .check = check_seccomp};
constexpr Field kSecurityFields[] = {
    {.name = "runAsUser", .type = FieldType::kInt64, .check = check_user_id},
    {.name = "runAsGroup", .type = FieldType::kInt64, .check = check_user_id},
    {.name = "runAsNonRoot", .type = FieldType::kBool},
    {.name = "readOnlyRootFilesystem", .type = FieldType::kBool},
    {.name = "allowPrivilegeEscalation", .type = FieldType::kBool},
    {.name = "privileged", .type = FieldType::kBool},
    part("capabilities", kCapabilities),
    part("seccompProfile", kSeccomp),
    later("appArmorProfile"),
    later("seLinuxOptions"),
    later("windowsOptions"),
    later("procMount", "Default"),
};
void check_security(const json::object& security, std::string_view path, Causes& causes) {
  const auto is = [&](std::string_view field, bool value) {
    const json::value* found = security.if_contains(field);
    return found && found->is_bool() && found->get_bool() == value;
  };
  if (is("privileged", true) && is("allowPrivilegeEscalation", false))
    causes.invalid(child_path(path, "allowPrivilegeEscalation"), false,
                   "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
}
const Message kSecurity{
    .name = "SecurityContext", .fields = kSecurityFields, .check = check_security};
constexpr Field kPodSecurityFields[] = {
    {.name = "runAsUser", .type = FieldType::kInt64, .check = check_user_id},
    {.name = "runAsGroup", .type = FieldType::kInt64, .check = check_user_id},
    {.name = "runAsNonRoot", .type = FieldType::kBool},
    {.name = "fsGroup", .type = FieldType::kInt64, .check = check_user_id},
    {.name = "fsGroupChangePolicy", .values = "Always|OnRootMismatch"},
    {.name = "supplementalGroups",
     .type = FieldType::kInt64,
     .list = ListType::kAtomic,
     .check = check_user_id},
    {.name = "supplementalGroupsPolicy", .values = "Merge|Strict"},
    later("sysctls"),
    part("seccompProfile", kSeccomp),
    later("appArmorProfile"),
    later("seLinuxOptions"),
    later("windowsOptions"),
};
const Message kPodSecurity{"PodSecurityContext", kPodSecurityFields};

// ---- containers
constexpr Field kContainerFields[] = {
    {.name = "name", .required = true, .check = check_dns_label},
    {.name = "image", .required = true},
    {.name = "command", .list = ListType::kAtomic},
    {.name = "args", .list = ListType::kAtomic},
    {.name = "workingDir"},
    {.name = "env",
     .type = FieldType::kMessage,
     .message = &kEnv,
     .list = ListType::kMap,
     .list_keys = "name"},
    {.name = "envFrom",
     .type = FieldType::kMessage,
     .message = &kEnvFrom,
     .list = ListType::kAtomic},
    {.name = "ports",
     .type = FieldType::kMessage,
     .message = &kContainerPort,
     .list = ListType::kMap,
     .list_keys = "containerPort,protocol"},
    {.name = "imagePullPolicy", .values = "Always|IfNotPresent|Never"},
    part("lifecycle", kLifecycle),
    {.name = "terminationMessagePath",
     .fallback = "\"/dev/termination-log\"",
     .check = check_absolute_path},
    {.name = "terminationMessagePolicy",
     .fallback = "\"File\"",
     .values = "File|FallbackToLogsOnError"},
    part("readinessProbe", kReadinessProbe),
    part("livenessProbe", kProbe),
    part("startupProbe", kProbe),
    part("resources", kResources),
    part("securityContext", kSecurity),
    later("resizePolicy"),
    {.name = "restartPolicy", .values = "Always"},  // of init containers: check_pod_spec
    {.name = "stdin", .type = FieldType::kBool},
    {.name = "stdinOnce", .type = FieldType::kBool},
    {.name = "tty", .type = FieldType::kBool},
    later("volumeDevices"),
    {.name = "volumeMounts",
     .type = FieldType::kMessage,
     .message = &kVolumeMount,
     .list = ListType::kMap,
     .list_keys = "mountPath",
     .duplicate = "must be unique"},
};
// Kubernetes: an image whose tag moves is asked for every time.
void fill_container(json::object& container) {
  if (container.contains("imagePullPolicy"))
    return;
  const std::string_view image = find_string(container, "image");
  const std::size_t slash = image.rfind('/');
  const std::string_view last = slash == image.npos ? image : image.substr(slash + 1);
  const std::size_t colon = last.find(':');
  const bool moves =
      last.find('@') == last.npos && (colon == last.npos || last.substr(colon + 1) == "latest");
  container["imagePullPolicy"] = moves ? "Always" : "IfNotPresent";
}
const Message kContainer{.name = "Container", .fields = kContainerFields, .fill = fill_container};

// ---- the pod
constexpr Field kPullSecretFields[] = {
    {.name = "name", .required = true, .check = check_dns_subdomain},
};
const Message kPullSecret{"LocalObjectReference", kPullSecretFields};
std::string check_deadline(const json::value& value) {
  constexpr std::int64_t kMost = INT32_MAX;
  return value.is_int64() && value.get_int64() >= 1 && value.get_int64() <= kMost
             ? ""
             : fmt::format("must be between 1 and {}, inclusive", kMost);
}
constexpr Field kPodSpecFields[] = {
    {.name = "containers",
     .type = FieldType::kMessage,
     .message = &kContainer,
     .list = ListType::kMap,
     .list_keys = "name",
     .required = true},
    {.name = "initContainers",
     .type = FieldType::kMessage,
     .message = &kContainer,
     .list = ListType::kMap,
     .list_keys = "name"},
    {.name = "restartPolicy", .fallback = "\"Always\"", .values = "Always|OnFailure|Never"},
    {.name = "terminationGracePeriodSeconds",
     .type = FieldType::kInt64,
     .fallback = "30",
     .check = check_not_negative},
    {.name = "activeDeadlineSeconds", .type = FieldType::kInt64, .check = check_deadline},
    {.name = "nodeName", .check = check_dns_subdomain},
    {.name = "nodeSelector", .type = FieldType::kStringMap},
    {.name = "hostname", .check = check_dns_label},
    {.name = "subdomain", .check = check_dns_label},
    {.name = "setHostnameAsFQDN", .type = FieldType::kBool},
    {.name = "hostAliases",
     .type = FieldType::kMessage,
     .message = &kHostAlias,
     .list = ListType::kMap,
     .list_keys = "ip"},
    // Without a cluster DNS, ClusterFirst is what the kubelet makes of it then: the host's.
    {.name = "dnsPolicy", .values = "ClusterFirst|ClusterFirstWithHostNet|Default|None"},
    part("dnsConfig", kDnsConfig),
    part("securityContext", kPodSecurity),
    // Of the taints of hosts that are short of something; there are no others.
    hints("tolerations", FieldType::kJson),
    later("affinity"),
    later("automountServiceAccountToken"),
    {.name = "enableServiceLinks", .type = FieldType::kBool},
    later("ephemeralContainers"),
    {.name = "hostIPC", .type = FieldType::kBool},
    {.name = "hostNetwork", .type = FieldType::kBool},
    {.name = "hostPID", .type = FieldType::kBool},
    later("hostUsers", "true"),
    {.name = "imagePullSecrets",
     .type = FieldType::kMessage,
     .message = &kPullSecret,
     .list = ListType::kAtomic},
    later("os"),
    later("overhead"),
    later("preemptionPolicy", "PreemptLowerPriority"),
    later("priority"),
    later("priorityClassName"),
    later("readinessGates"),
    later("resourceClaims"),
    later("resources"),
    later("runtimeClassName"),
    later("schedulerName", "default-scheduler"),
    later("schedulingGates"),
    later("serviceAccount", "default"),
    later("serviceAccountName", "default"),
    {.name = "shareProcessNamespace", .type = FieldType::kBool},
    later("topologySpreadConstraints"),
    {.name = "volumes",
     .type = FieldType::kMessage,
     .message = &kVolume,
     .list = ListType::kMap,
     .list_keys = "name"},
};
// In its host's network a container's port is the host's.
void fill_pod_spec(json::object& spec) {
  const json::value* host_network = spec.if_contains("hostNetwork");
  if (!host_network || *host_network != json::value(true))
    return;
  for (const std::string_view list : {"initContainers", "containers"})
    if (json::value* containers = spec.if_contains(list); containers && containers->is_array())
      for (json::value& container : containers->get_array())
        fill_host_ports(container);
}
constexpr Field kPodTemplateFields[] = {
    {.name = "metadata", .type = FieldType::kMessage, .message = &kTemplateMeta, .fallback = "{}"},
    part("spec", kPodSpec, true),
};
void check_template(const json::object& tmpl, std::string_view path, Causes& causes) {
  check_backoff(tmpl, path, causes);
  const std::string_view policy = find_string(tmpl, "spec.restartPolicy");
  if (!policy.empty() && policy != "Always")
    causes.not_supported(child_path(path, "spec.restartPolicy"), json::string(policy), "Always");
  if (const std::string_view node = find_string(tmpl, "spec.nodeName"); !node.empty())
    causes.not_yet(child_path(path, "spec.nodeName"), "a fixed host for all pods of a template");
}

constexpr Field kPodFields[] = {
    {.name = "apiVersion"},
    {.name = "kind"},
    part("metadata", kObjectMeta, true),
    part("spec", kPodSpec, true),
    hint("status", FieldType::kJson),
};

}  // namespace

const Message kPodSpec{
    .name = "PodSpec", .fields = kPodSpecFields, .fill = fill_pod_spec, .check = check_pod_spec};
const Message kPodTemplate{
    .name = "PodTemplateSpec", .fields = kPodTemplateFields, .check = check_template};
const Message kPod{.name = "Pod", .fields = kPodFields, .check = check_backoff};

}  // namespace shoal::api
