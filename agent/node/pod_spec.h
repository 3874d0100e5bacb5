// SPDX-License-Identifier: Apache-2.0
// PodSpec: what a Pod object asks of the host it is bound to, as a value. Read from objects that
// the API has validated and filled with defaults; what cannot be read after all is an error that
// names the field. Pure.
#pragma once

#include "agent/store/replica.h"
#include "netplane/base/result.h"
#include "runtime/probe/probe.h"
#include "runtime/spec/container_config.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace shoal::node {

enum class RestartPolicy : std::uint8_t { kAlways, kOnFailure, kNever };
enum class PullPolicy : std::uint8_t { kAlways, kIfNotPresent, kNever };

struct ContainerPort {
  std::string name;
  std::uint16_t port = 0;
  std::string protocol;
  bool operator==(const ContainerPort&) const = default;
};

struct ReadinessProbe {
  enum class Kind : std::uint8_t { kHttp, kTcp };
  Kind kind = Kind::kTcp;
  std::uint16_t port = 0;  // named ports are resolved
  std::string path;
  std::vector<runtime::HttpHeader> headers;
  runtime::ProbeTiming timing;
  bool operator==(const ReadinessProbe&) const = default;
};

struct ContainerSpec {
  std::string name;
  std::string image;
  PullPolicy pull = PullPolicy::kIfNotPresent;
  std::vector<std::string> command;
  std::vector<std::string> args;
  std::vector<std::string> env;  // "K=V"
  std::string working_dir;       // empty: the image's
  std::vector<ContainerPort> ports;
  std::optional<ReadinessProbe> readiness;
  runtime::ResourceLimits limits;
  std::optional<std::uint32_t> run_as_user;
  std::optional<std::uint32_t> run_as_group;
  bool run_as_non_root = false;
  bool read_only_rootfs = false;
  std::vector<std::string> capabilities_add;
  std::vector<std::string> capabilities_drop;
  bool privilege_escalation = false;  // no_new_privs is left off
  bool privileged = false;
  bool seccomp = true;
  std::string seccomp_profile;  // of the host, below its seccomp folder; empty: the default one
  bool operator==(const ContainerSpec&) const = default;
};

struct PodSpec {
  std::string ns;
  std::string name;
  std::string uid;
  std::string hostname;
  RestartPolicy restart = RestartPolicy::kAlways;
  std::chrono::seconds grace{30};
  bool deleting = false;                           // metadata.deletionTimestamp is set
  std::optional<std::uint32_t> fs_group;           // owns the volumes
  std::vector<std::uint32_t> supplemental_groups;  // of every process, fs_group among them
  bool image_groups = true;  // and those that the image's /etc/group gives its user
  std::vector<ContainerSpec> containers;
  bool operator==(const PodSpec&) const = default;

  std::string full_name() const { return name.empty() ? uid : ns + "/" + name; }
};

Result<PodSpec> read_pod(const store::Object& pod);

// Kubernetes' $(NAME) in command, args and env values: replaced from `env` ("K=V"; the last one of
// a name counts).
// $$(NAME) is a literal $(NAME), and a name that is not known stays as it is.
std::string expand(std::string_view text, const std::vector<std::string>& env);

}  // namespace shoal::node
