// SPDX-License-Identifier: Apache-2.0
// The environment that a container is started with, from its pod's spec and what that refers to:
// other objects, the pod itself, its resources, the Services of its namespace. As Kubernetes has
// it, order and names of variables included. Pure.
#pragma once

#include "agent/node/pod_spec.h"
#include "agent/store/replica.h"
#include "agent/view/requests.h"

#include <expected>
#include <functional>
#include <string>
#include <vector>

namespace shoal::node {

// Members of a Pod's container.env and envFrom that the API has validated.
std::vector<EnvVar> read_env(const boost::json::object& container);
std::vector<EnvFrom> read_env_from(const boost::json::object& container);

// What the variables may refer to.
struct EnvFacts {
  store::ObjectPtr pod;
  std::vector<IpAddress> pod_ips;   // IPv4 first
  std::vector<IpAddress> host_ips;  // IPv4 first
  std::string node_name;
  view::Requests allocatable;  // of this host: what a container without a limit has
  // "configmaps" or "secrets" of the pod's namespace, by name; null when there is none.
  std::function<store::ObjectPtr(std::string_view resource, std::string_view name)> find;
  std::vector<store::ObjectPtr> services;  // of the pod's namespace
};

// "NAME=VALUE", the names each once. What is missing and not optional is an error in kubelet's
// words: the container waits with CreateContainerConfigError.
std::expected<std::vector<std::string>, std::string>
container_env(const PodSpec& pod, std::size_t container, const EnvFacts& facts);

// One field of the pod as text: "metadata.name", "metadata.labels['app']", ...
std::string field_value(const PodSpec& pod, const EnvFacts& facts, std::string_view path);
// A container's resource in units of the source's divisor; own: of which, where it names none.
std::string resource_value(const PodSpec& pod, std::size_t own, const EnvFacts& facts,
                           const EnvSource& source);

// Kubernetes' variables of a Service that has a cluster IP: {NAME}_SERVICE_HOST, _SERVICE_PORT, and
// those of Docker's links.
std::vector<std::string> service_env(const store::Object& service);

}  // namespace shoal::node
