// SPDX-License-Identifier: Apache-2.0
// PodSpec: what a host must know of a Pod object to run it, as a value. parse_pod reads an object
// that the API's schema has accepted; it holds every field that Shoal acts on. Pure.
#pragma once

#include "netplane/base/result.h"
#include "runtime/probe/probe.h"
#include "runtime/spec/container_config.h"

#include <boost/json/object.hpp>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::node {

enum class RestartPolicy : std::uint8_t { kAlways, kOnFailure, kNever };
enum class PullPolicy : std::uint8_t { kAlways, kIfNotPresent, kNever };

struct ReadinessProbe {
  runtime::ProbeTiming timing;
  bool http = false;  // otherwise TCP
  std::uint16_t port = 0;
  std::string path;
  std::vector<runtime::HttpHeader> headers;
  bool operator==(const ReadinessProbe&) const = default;
};

struct ContainerSpec {
  std::string name;
  std::string image;
  PullPolicy pull = PullPolicy::kIfNotPresent;
  std::vector<std::string> command;
  std::vector<std::string> args;
  std::vector<std::string> env;  // "K=V", with $(VAR) expanded
  std::string working_dir;
  std::optional<ReadinessProbe> readiness;
  runtime::ResourceLimits resources;
  std::optional<std::uint32_t> run_as_user;
  std::optional<std::uint32_t> run_as_group;
  bool run_as_non_root = false;
  bool read_only_rootfs = false;
  std::vector<std::string> capabilities_add;
  std::vector<std::string> capabilities_drop;
  bool operator==(const ContainerSpec&) const = default;
};

struct PodSpec {
  std::string ns;
  std::string name;
  std::string uid;
  std::string hostname;
  RestartPolicy restart = RestartPolicy::kAlways;
  std::vector<ContainerSpec> containers;
  std::string key() const { return ns + "/" + name; }
  bool operator==(const PodSpec&) const = default;
};

// What changes while a pod lives.
struct PodDeletion {
  bool requested = false;
  std::chrono::milliseconds grace{30'000};
  bool operator==(const PodDeletion&) const = default;
};

Result<PodSpec> parse_pod(const boost::json::object& body);
PodDeletion parse_deletion(const boost::json::object& body);

// Kubernetes' $(NAME): replaced from `env` ("K=V"; the last one of a name counts), $$(NAME) is a
// literal $(NAME), and what is not known stays as it is.
std::string expand(std::string_view text, const std::vector<std::string>& env);

}  // namespace shoal::node
