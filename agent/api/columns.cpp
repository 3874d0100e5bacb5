// SPDX-License-Identifier: Apache-2.0
// The columns that kubectl prints for each kind, under Kubernetes' own names.
#include "agent/api/claims.h"
#include "agent/api/pod_summary.h"
#include "agent/api/schema_tables.h"
#include "agent/api/selector.h"
#include "agent/api/service_facts.h"
#include "agent/api/time_text.h"

#include <fmt/format.h>

namespace shoal::api {
namespace json = boost::json;
namespace {

using store::Object;

constexpr std::size_t kListedEndpoints = 3;

json::value text_or(std::string_view text, std::string_view otherwise) {
  return json::string(text.empty() ? otherwise : text);
}

json::value name_cell(const Object& object, WallTime) { return json::string(object.name); }
json::value age_cell(const Object& object, WallTime now) {
  return json::string(age_of(find_string(object.body, "metadata.creationTimestamp"), now));
}

constexpr Column kName{.name = "Name", .type = "string", .format = "name", .cell = name_cell};
constexpr Column kAge{.name = "Age", .type = "string", .cell = age_cell};
constexpr Column text(std::string_view name, json::value (*cell)(const Object&, WallTime),
                      int priority = 0) {
  return {.name = name, .type = "string", .priority = priority, .cell = cell};
}
constexpr Column number(std::string_view name, json::value (*cell)(const Object&, WallTime)) {
  return {.name = name, .type = "integer", .cell = cell};
}

// Joins what `pick` finds in each element of a list.
template <class Pick>
std::string join(const json::array* items, std::string_view separator, Pick pick) {
  std::string joined;
  if (!items)
    return joined;
  for (const json::value& item : *items) {
    if (!item.is_object())
      continue;
    const std::string picked = pick(item.get_object());
    if (!picked.empty())
      joined += (joined.empty() ? "" : std::string(separator)) + picked;
  }
  return joined;
}

std::string labels_text(const json::object* labels) {
  std::string joined;
  if (labels)
    for (const auto& [key, value] : *labels)
      if (value.is_string())
        joined += fmt::format("{}{}={}", joined.empty() ? "" : ",", std::string_view(key),
                              std::string_view(value.get_string()));
  return joined;
}

std::string selector_text(const json::object& body) {
  std::string joined = labels_text(find_object(body, "spec.selector.matchLabels"));
  const std::string more =
      join(find_array(body, "spec.selector.matchExpressions"), ",", [](const json::object& e) {
        const std::string_view op = find_string(e, "operator"), key = find_string(e, "key");
        if (op == "Exists")
          return std::string(key);
        if (op == "DoesNotExist")
          return "!" + std::string(key);
        std::string values;
        if (const json::array* list = find_array(e, "values"))
          for (const json::value& v : *list)
            if (v.is_string())
              values += (values.empty() ? "" : ",") + std::string(v.get_string());
        return fmt::format("{} {} ({})", key, op == "In" ? "in" : "notin", values);
      });
  if (!more.empty())
    joined += (joined.empty() ? "" : ",") + more;
  return joined;
}

// ---- pods
constexpr Column kPods[] = {
    kName,
    text("Ready",
         [](const Object& pod, WallTime) -> json::value {
           const PodSummary s = summarize_pod(pod);
           return json::string(fmt::format("{}/{}", s.ready, s.containers));
         }),
    text("Status",
         [](const Object& pod, WallTime) -> json::value {
           return json::string(summarize_pod(pod).status);
         }),
    text("Restarts",
         [](const Object& pod, WallTime now) -> json::value {
           const PodSummary s = summarize_pod(pod);
           if (s.restarts == 0 || s.last_restart.empty())
             return json::string(std::to_string(s.restarts));
           return json::string(fmt::format("{} ({} ago)", s.restarts, age_of(s.last_restart, now)));
         }),
    kAge,
    text(
        "IP",
        [](const Object& pod, WallTime) {
          return text_or(find_string(pod.body, "status.podIP"), "<none>");
        },
        1),
    text(
        "Node",
        [](const Object& pod, WallTime) {
          return text_or(find_string(pod.body, "spec.nodeName"), "<none>");
        },
        1),
    text(
        "Nominated Node",
        [](const Object& pod, WallTime) {
          return text_or(find_string(pod.body, "status.nominatedNodeName"), "<none>");
        },
        1),
    text(
        "Readiness Gates", [](const Object&, WallTime) -> json::value { return "<none>"; }, 1),
};

// ---- workloads
json::value containers_cell(const Object& object, WallTime) {
  return json::string(
      join(find_array(object.body, "spec.template.spec.containers"), ",",
           [](const json::object& c) { return std::string(find_string(c, "name")); }));
}
json::value images_cell(const Object& object, WallTime) {
  return json::string(
      join(find_array(object.body, "spec.template.spec.containers"), ",",
           [](const json::object& c) { return std::string(find_string(c, "image")); }));
}
json::value selector_cell(const Object& object, WallTime) {
  return text_or(selector_text(object.body), "<none>");
}

constexpr Column kDeployments[] = {
    kName,
    text("Ready",
         [](const Object& d, WallTime) -> json::value {
           return json::string(fmt::format("{}/{}", find_int(d.body, "status.readyReplicas", 0),
                                           find_int(d.body, "spec.replicas", 1)));
         }),
    number("Up-to-date",
           [](const Object& d, WallTime) -> json::value {
             return find_int(d.body, "status.updatedReplicas", 0);
           }),
    number("Available",
           [](const Object& d, WallTime) -> json::value {
             return find_int(d.body, "status.availableReplicas", 0);
           }),
    kAge,
    text("Containers", containers_cell, 1),
    text("Images", images_cell, 1),
    text("Selector", selector_cell, 1),
};

constexpr Column kReplicaSets[] = {
    kName,
    number("Desired",
           [](const Object& r, WallTime) -> json::value {
             return find_int(r.body, "spec.replicas", 1);
           }),
    number("Current",
           [](const Object& r, WallTime) -> json::value {
             return find_int(r.body, "status.replicas", 0);
           }),
    number("Ready",
           [](const Object& r, WallTime) -> json::value {
             return find_int(r.body, "status.readyReplicas", 0);
           }),
    kAge,
    text("Containers", containers_cell, 1),
    text("Images", images_cell, 1),
    text("Selector", selector_cell, 1),
};

// ---- services
json::value external_ip_cell(const Object& service, WallTime) {
  const json::object& spec = spec_of(service.body);
  if (service_type(spec) == ServiceType::kExternalName)
    return text_or(find_string(spec, "externalName"), "<none>");
  std::string ips;
  if (service_type(spec) == ServiceType::kLoadBalancer)
    ips = join(find_array(service.body, "status.loadBalancer.ingress"), ",",
               [](const json::object& i) {
                 const std::string_view ip = find_string(i, "ip");
                 return std::string(ip.empty() ? find_string(i, "hostname") : ip);
               });
  if (const json::array* given = find_array(spec, "externalIPs"))
    for (const json::value& ip : *given)
      if (ip.is_string())
        ips += (ips.empty() ? "" : ",") + std::string(ip.get_string());
  if (!ips.empty())
    return json::string(ips);
  return service_type(spec) == ServiceType::kLoadBalancer ? "<pending>" : "<none>";
}

std::string service_port_text(const json::object& port) {
  const std::int64_t node_port = find_int(port, "nodePort", 0);
  return fmt::format("{}{}/{}", find_int(port, "port", 0),
                     node_port == 0 ? "" : fmt::format(":{}", node_port),
                     find_string(port, "protocol"));
}

constexpr Column kServices[] = {
    kName,
    text("Type",
         [](const Object& s, WallTime) { return text_or(find_string(s.body, "spec.type"), ""); }),
    text("Cluster-IP",
         [](const Object& s, WallTime) {
           return text_or(find_string(s.body, "spec.clusterIP"), "<none>");
         }),
    text("External-IP", external_ip_cell),
    text("Port(s)",
         [](const Object& s, WallTime) -> json::value {
           return text_or(join(find_array(s.body, "spec.ports"), ",", service_port_text), "<none>");
         }),
    kAge,
    text(
        "Selector",
        [](const Object& s, WallTime) {
          return text_or(labels_text(find_object(s.body, "spec.selector")), "<none>");
        },
        1),
};

// Each address at each port, as far as they fit.
json::value endpoints_cell(const Object& object, WallTime) {
  std::size_t count = 0;
  std::string list;
  const auto add = [&](const json::object& address, const json::object* port) {
    if (++count > kListedEndpoints)
      return;
    list += (list.empty() ? "" : ",") + std::string(find_string(address, "ip"));
    if (port)
      list += fmt::format(":{}", find_int(*port, "port", 0));
  };
  const json::array* subsets = find_array(object.body, "subsets");
  for (std::size_t i = 0; subsets && i < subsets->size(); ++i) {
    const json::object* subset = (*subsets)[i].if_object();
    const json::array* addresses = subset ? find_array(*subset, "addresses") : nullptr;
    const json::array* ports = subset ? find_array(*subset, "ports") : nullptr;
    for (std::size_t p = 0; addresses && p < (ports ? ports->size() : 1); ++p)
      for (const json::value& address : *addresses)
        if (address.is_object())
          add(address.get_object(), ports ? (*ports)[p].if_object() : nullptr);
  }
  if (count > kListedEndpoints)
    list += fmt::format(" + {} more...", count - kListedEndpoints);
  return text_or(list, "<none>");
}

constexpr Column kEndpointsTable[] = {
    kName,
    text("Endpoints", endpoints_cell),
    kAge,
};

constexpr Column kEndpointSlices[] = {
    kName,
    text("AddressType",
         [](const Object& s, WallTime) { return text_or(find_string(s.body, "addressType"), ""); }),
    text("Ports",
         [](const Object& s, WallTime) {
           return text_or(
               join(find_array(s.body, "ports"), ",",
                    [](const json::object& p) { return std::to_string(find_int(p, "port", 0)); }),
               "<unset>");
         }),
    text("Endpoints",
         [](const Object& s, WallTime) {
           std::size_t count = 0;
           std::string list =
               join(find_array(s.body, "endpoints"), ",", [&](const json::object& e) {
                 const json::array* addresses = find_array(e, "addresses");
                 if (!addresses || addresses->empty() || !addresses->front().is_string() ||
                     ++count > kListedEndpoints)
                   return std::string();
                 return std::string(addresses->front().get_string());
               });
           if (count > kListedEndpoints)
             list += fmt::format(" + {} more...", count - kListedEndpoints);
           return text_or(list, "<unset>");
         }),
    kAge,
};

// ---- nodes, namespaces
std::string node_address(const Object& node, std::string_view type) {
  return join(find_array(node.body, "status.addresses"), ",", [&](const json::object& a) {
    return std::string(find_string(a, "type") == type ? find_string(a, "address") : "");
  });
}

constexpr Column kNodes[] = {
    kName,
    text("Status",
         [](const Object& n, WallTime) -> json::value {
           std::string status = condition_true(n.body, "Ready") ? "Ready" : "NotReady";
           const json::value* off = find_path(n.body, "spec.unschedulable");
           if (off && off->is_bool() && off->get_bool())
             status += ",SchedulingDisabled";
           return json::string(status);
         }),
    text("Roles",
         [](const Object& n, WallTime) -> json::value {
           constexpr std::string_view kPrefix = "node-role.kubernetes.io/";
           std::string roles;
           if (const json::object* labels = labels_of(n.body))
             for (const auto& label : *labels)
               if (std::string_view key = label.key(); key.starts_with(kPrefix))
                 roles += (roles.empty() ? "" : ",") + std::string(key.substr(kPrefix.size()));
           return text_or(roles, "<none>");
         }),
    kAge,
    text("Version",
         [](const Object& n, WallTime) {
           return text_or(find_string(n.body, "status.nodeInfo.kubeletVersion"), "<unknown>");
         }),
    text(
        "Internal-IP",
        [](const Object& n, WallTime) { return text_or(node_address(n, "InternalIP"), "<none>"); },
        1),
    text(
        "External-IP",
        [](const Object& n, WallTime) { return text_or(node_address(n, "ExternalIP"), "<none>"); },
        1),
    text(
        "OS-Image",
        [](const Object& n, WallTime) {
          return text_or(find_string(n.body, "status.nodeInfo.osImage"), "<unknown>");
        },
        1),
    text(
        "Kernel-Version",
        [](const Object& n, WallTime) {
          return text_or(find_string(n.body, "status.nodeInfo.kernelVersion"), "<unknown>");
        },
        1),
    text(
        "Container-Runtime",
        [](const Object& n, WallTime) {
          return text_or(find_string(n.body, "status.nodeInfo.containerRuntimeVersion"),
                         "<unknown>");
        },
        1),
};

constexpr Column kNamespaces[] = {
    kName,
    text("Status", [](const Object& n,
                      WallTime) { return text_or(find_string(n.body, "status.phase"), "Active"); }),
    kAge,
};

// ---- configuration
std::int64_t entries(const json::object& body, std::string_view field) {
  const json::object* data = find_object(body, field);
  return data ? static_cast<std::int64_t>(data->size()) : 0;
}
json::value data_cell(const Object& object, WallTime) {
  return entries(object.body, "data") + entries(object.body, "binaryData");
}
constexpr Column kConfigMaps[] = {kName, text("Data", data_cell), kAge};
constexpr Column kSecrets[] = {
    kName,
    text("Type",
         [](const Object& s, WallTime) { return text_or(find_string(s.body, "type"), ""); }),
    text("Data", data_cell),
    kAge,
};

// ---- claims
constexpr Column kClaims[] = {
    kName,
    text("Status",
         [](const Object& c, WallTime) {
           return text_or(find_string(c.body, "metadata.deletionTimestamp").empty()
                              ? find_string(c.body, "status.phase")
                              : std::string_view("Terminating"),
                          "Pending");
         }),
    text("Volume",
         [](const Object& c, WallTime) -> json::value {
           const bool bound = find_string(c.body, "status.phase") == "Bound";
           return json::string(bound ? volume_name_of(c.body) : "");
         }),
    text("Capacity",
         [](const Object& c, WallTime) {
           return text_or(find_string(c.body, "status.capacity.storage"), "");
         }),
    text("Access Modes",
         [](const Object& c, WallTime) -> json::value {
           if (find_string(c.body, "status.phase") != "Bound")
             return json::string();
           return json::string(has_access_mode(c.body, "ReadWriteOncePod") ? "RWOP" : "RWO");
         }),
    text("StorageClass",
         [](const Object& c, WallTime) {
           return text_or(find_string(c.body, "spec.storageClassName"), "");
         }),
    text("VolumeAttributesClass",
         [](const Object&, WallTime) -> json::value { return json::string("<unset>"); }),
    kAge,
    text(
        "VolumeMode",
        [](const Object& c, WallTime) {
          return text_or(find_string(c.body, "spec.volumeMode"), "Filesystem");
        },
        1),
};

// ---- events
std::string_view first_of(const json::object& body, std::initializer_list<std::string_view> paths) {
  for (const std::string_view path : paths)
    if (const std::string_view found = find_string(body, path); !found.empty())
      return found;
  return {};
}

constexpr Column kEvents[] = {
    text("Last Seen",
         [](const Object& e, WallTime now) -> json::value {
           return json::string(age_of(first_of(e.body, {"lastTimestamp", "firstTimestamp",
                                                        "eventTime", "metadata.creationTimestamp"}),
                                      now));
         }),
    text("Type",
         [](const Object& e, WallTime) { return text_or(find_string(e.body, "type"), ""); }),
    text("Reason",
         [](const Object& e, WallTime) { return text_or(find_string(e.body, "reason"), ""); }),
    text("Object",
         [](const Object& e, WallTime) -> json::value {
           std::string kind(find_string(e.body, "involvedObject.kind"));
           for (char& c : kind)
             c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
           return json::string(kind + "/" +
                               std::string(find_string(e.body, "involvedObject.name")));
         }),
    text(
        "Subobject",
        [](const Object& e, WallTime) {
          return text_or(find_string(e.body, "involvedObject.fieldPath"), "");
        },
        1),
    text(
        "Source",
        [](const Object& e, WallTime) {
          return text_or(first_of(e.body, {"source.component", "reportingComponent"}), "");
        },
        1),
    text("Message",
         [](const Object& e, WallTime) { return text_or(find_string(e.body, "message"), ""); }),
    text(
        "First Seen",
        [](const Object& e, WallTime now) -> json::value {
          return json::string(age_of(
              first_of(e.body, {"firstTimestamp", "eventTime", "metadata.creationTimestamp"}),
              now));
        },
        1),
    text(
        "Count",
        [](const Object& e, WallTime) -> json::value {
          return json::string(std::to_string(find_int(e.body, "count", 1)));
        },
        1),
    Column{.name = "Name", .type = "string", .format = "name", .priority = 1, .cell = name_cell},
};

}  // namespace

constinit const std::span<const Column> kPodColumns = kPods;
constinit const std::span<const Column> kDeploymentColumns = kDeployments;
constinit const std::span<const Column> kReplicaSetColumns = kReplicaSets;
constinit const std::span<const Column> kServiceColumns = kServices;
constinit const std::span<const Column> kEndpointsColumns = kEndpointsTable;
constinit const std::span<const Column> kEndpointSliceColumns = kEndpointSlices;
constinit const std::span<const Column> kNodeColumns = kNodes;
constinit const std::span<const Column> kNamespaceColumns = kNamespaces;
constinit const std::span<const Column> kEventColumns = kEvents;
constinit const std::span<const Column> kConfigMapColumns = kConfigMaps;
constinit const std::span<const Column> kSecretColumns = kSecrets;
constinit const std::span<const Column> kPersistentVolumeClaimColumns = kClaims;

}  // namespace shoal::api
