// SPDX-License-Identifier: Apache-2.0
// What holds between the fields of a pod's spec.
#include "agent/api/restart_backoff.h"
#include "agent/api/schema_tables.h"
#include "agent/api/selector.h"

#include <fmt/format.h>
#include <set>

namespace shoal::api {
namespace json = boost::json;
namespace {

// Containers of both lists, with their paths.
template <class Visit>
void each_container(const json::object& spec, std::string_view path, Visit visit) {
  for (const std::string_view list : {"initContainers", "containers"}) {
    const json::array* containers = find_array(spec, list);
    for (std::size_t i = 0; containers && i < containers->size(); ++i)
      if (const json::object* container = (*containers)[i].if_object())
        visit(*container, item_path(child_path(path, list), i), list == "initContainers");
  }
}

void duplicate(Causes& causes, std::string path, std::string_view value) {
  causes.add(std::move(path), "FieldValueDuplicate", fmt::format("Duplicate value: \"{}\"", value));
}

void forbidden(Causes& causes, std::string path, std::string_view why) {
  causes.add(std::move(path), "FieldValueForbidden", fmt::format("Forbidden: {}", why));
}

// Port names are each once in a container list, hostPorts in a pod.
void check_ports(const json::object& spec, std::string_view path, Causes& causes) {
  std::set<std::string> names, host_ports;
  each_container(spec, path, [&](const json::object& container, const std::string& at, bool init) {
    const json::array* ports = find_array(container, "ports");
    for (std::size_t p = 0; ports && p < ports->size(); ++p) {
      const json::object* port = (*ports)[p].if_object();
      if (!port)
        continue;
      const std::string here = item_path(child_path(at, "ports"), p);
      const std::string_view name = find_string(*port, "name");
      if (!name.empty() && !names.insert((init ? "i/" : "c/") + std::string(name)).second)
        duplicate(causes, child_path(here, "name"), name);
      const std::int64_t number = find_int(*port, "hostPort", 0);
      const std::string host = fmt::format("{}/{}/{}", find_string(*port, "protocol"),
                                           find_string(*port, "hostIP"), number);
      if (number != 0 && !host_ports.insert(host).second)
        duplicate(causes, child_path(here, "hostPort"), host);
    }
  });
}

// Names are one list's keys already; here both lists count. What only a container that stays can
// have is refused of one that ends.
void check_roles(const json::object& spec, std::string_view path, Causes& causes) {
  std::set<std::string_view> init_names;
  each_container(spec, path, [&](const json::object& container, const std::string& at, bool init) {
    const std::string_view name = find_string(container, "name");
    if (init)
      init_names.insert(name);
    else if (init_names.contains(name))
      duplicate(causes, child_path(at, "name"), name);
    const bool always = container.contains("restartPolicy");
    if (!init && always)
      forbidden(causes, child_path(at, "restartPolicy"), "may not be set for non-init containers");
    if (!init || always)
      return;
    for (const std::string_view field :
         {"lifecycle", "livenessProbe", "readinessProbe", "startupProbe"})
      if (container.contains(field))
        forbidden(causes, child_path(at, field),
                  "may not be set for init containers without restartPolicy=Always");
  });
}

bool is_set(const json::object& spec, std::string_view field) {
  const json::value* value = spec.if_contains(field);
  return value && value->is_bool() && value->get_bool();
}

// Kubernetes' words.
void check_namespaces(const json::object& spec, std::string_view path, Causes& causes) {
  if (is_set(spec, "shareProcessNamespace") && is_set(spec, "hostPID"))
    causes.invalid(child_path(path, "shareProcessNamespace"), true,
                   "ShareProcessNamespace and HostPID cannot both be enabled");
  if (!is_set(spec, "hostNetwork"))
    return;
  each_container(spec, path, [&](const json::object& container, const std::string& at, bool) {
    const json::array* ports = find_array(container, "ports");
    for (std::size_t p = 0; ports && p < ports->size(); ++p) {
      const json::object* port = (*ports)[p].if_object();
      const std::int64_t number = port ? find_int(*port, "containerPort", 0) : 0;
      if (port && find_int(*port, "hostPort", number) != number)
        causes.invalid(child_path(item_path(child_path(at, "ports"), p), "containerPort"), number,
                       "must match `hostPort` when `hostNetwork` is true");
    }
  });
}

}  // namespace

void check_backoff(const json::object& object, std::string_view path, Causes& causes) {
  const json::object* metadata = find_object(object, "metadata");
  const auto backoff = metadata ? restart_backoff(*metadata) : Result<RestartBackoff>();
  if (!backoff)
    causes.add(child_path(path, "metadata.annotations"), "FieldValueInvalid",
               "Invalid value: " + backoff.error().message());
}

void check_pod_spec(const json::object& spec, std::string_view path, Causes& causes) {
  if (const json::array* containers = find_array(spec, "containers");
      containers && containers->empty())
    causes.required(child_path(path, "containers"));
  check_ports(spec, path, causes);
  check_roles(spec, path, causes);
  each_container(spec, path, [&](const json::object& container, const std::string& at, bool) {
    check_container_mounts(spec, container, at, causes);
  });
  check_namespaces(spec, path, causes);
  check_pod_names(spec, path, causes);
  if (const json::object* selector = find_object(spec, "nodeSelector"))
    check_label_map(*selector, child_path(path, "nodeSelector"), causes);
}

}  // namespace shoal::api
