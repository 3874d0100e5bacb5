// SPDX-License-Identifier: Apache-2.0
// PodSpec: what a Pod object asks of the host it is bound to, as a value. Read from objects that
// the API has validated and filled with defaults; what cannot be read after all is an error that
// names the field. Pure.
#pragma once

#include "agent/node/action.h"
#include "agent/node/volume_spec.h"
#include "agent/store/replica.h"
#include "netplane/base/result.h"
#include "runtime/spec/container_config.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace shoal::node {

inline constexpr std::chrono::seconds kBackoffFirst{10};
inline constexpr std::chrono::seconds kBackoffMax{300};

enum class RestartPolicy : std::uint8_t { kAlways, kOnFailure, kNever };
enum class PullPolicy : std::uint8_t { kAlways, kIfNotPresent, kNever };

// kInit: runs once, to its end, before what stands behind it. kSidecar: an init container with
// restartPolicy Always; what stands behind it waits until it has started, and it ends last.
enum class Role : std::uint8_t { kMain, kInit, kSidecar };

struct ContainerPort {
  std::string name;
  std::uint16_t port = 0;
  std::string protocol;
  bool operator==(const ContainerPort&) const = default;
};

struct ProbeSpec {
  Action action;
  runtime::ProbeTiming timing;
  // Of a container that this probe ends; none: the pod's.
  std::optional<std::chrono::seconds> grace;
  bool operator==(const ProbeSpec&) const = default;
};

// What a variable's value is taken from (env.h).
struct EnvSource {
  enum class Kind : std::uint8_t { kConfigMap, kSecret, kField, kResource };
  Kind kind = Kind::kConfigMap;
  std::string name;  // of the object
  std::string key;   // in it; a field's path; a resource
  std::string container;
  std::string divisor;
  bool optional = false;
  bool operator==(const EnvSource&) const = default;
};
struct EnvVar {
  std::string name;
  std::string value;
  std::optional<EnvSource> from;
  bool operator==(const EnvVar&) const = default;
};
// All keys of a ConfigMap or a Secret.
struct EnvFrom {
  std::string prefix;
  bool secret = false;
  std::string name;
  bool optional = false;
  bool operator==(const EnvFrom&) const = default;
};

struct ContainerSpec {
  std::string name;
  Role role = Role::kMain;
  std::string image;
  PullPolicy pull = PullPolicy::kIfNotPresent;
  std::vector<std::string> command;  // not expanded yet, like args
  std::vector<std::string> args;
  std::vector<EnvVar> env;
  std::vector<EnvFrom> env_from;  // before env
  std::string working_dir;        // empty: the image's
  bool open_stdin = false;        // else /dev/null
  bool stdin_once = false;        // closed when the first who is attached ends it
  bool tty = false;
  std::vector<ContainerPort> ports;
  std::optional<Action> post_start;
  std::optional<Action> pre_stop;
  std::string termination_log = "/dev/termination-log";  // in the container
  bool termination_from_log = false;                     // of one that failed and left none
  std::optional<ProbeSpec> startup;                      // the other two begin when it has passed
  std::optional<ProbeSpec> liveness;
  std::optional<ProbeSpec> readiness;
  runtime::ResourceLimits limits;
  std::optional<std::int64_t> storage_limit;  // ephemeral-storage: what it writes, and its log
  std::string storage_limit_text;             // as its author wrote it
  std::int64_t storage_request = 0;
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
  std::vector<VolumeMount> mounts;
  bool operator==(const ContainerSpec&) const = default;
};

struct HostAlias {
  std::string ip;
  std::vector<std::string> names;
  bool operator==(const HostAlias&) const = default;
};

struct DnsConfig {
  std::vector<std::string> nameservers;
  std::vector<std::string> searches;
  std::vector<std::string> options;  // "ndots:5", "rotate"
  bool operator==(const DnsConfig&) const = default;
};

struct PodSpec {
  std::string ns;
  std::string name;
  std::string uid;
  std::string hostname;
  std::string subdomain;
  bool hostname_is_fqdn = false;
  std::vector<HostAlias> host_aliases;
  bool dns_none = false;    // nothing of the host's
  bool share_pids = false;  // shareProcessNamespace
  bool host_pids = false;   // hostPID
  bool host_ipc = false;
  bool host_network = false;
  DnsConfig dns;
  RestartPolicy restart = RestartPolicy::kAlways;
  std::chrono::seconds grace{30};
  std::chrono::milliseconds backoff_first = kBackoffFirst;
  std::chrono::milliseconds backoff_max = kBackoffMax;
  std::optional<std::chrono::seconds> active_deadline;
  std::int64_t priority = 0;
  bool deleting = false;  // metadata.deletionTimestamp is set
  std::vector<VolumeSpec> volumes;
  std::optional<std::uint32_t> fs_group;           // owns the volumes
  bool fs_group_on_root_mismatch = false;          // those of claims only when the root has another
  std::vector<std::uint32_t> supplemental_groups;  // of every process, fs_group among them
  bool service_links = true;                       // variables of the namespace's Services
  std::vector<std::string> pull_secrets;           // names of Secrets with logins for registries
  bool image_groups = true;               // and those that the image's /etc/group gives its user
  std::vector<ContainerSpec> containers;  // in the order of their start: init containers first
  bool operator==(const PodSpec&) const = default;

  // Its containers have no pid namespaces of their own.
  bool shares_pids() const { return share_pids || host_pids; }
  bool has_init() const { return !containers.empty() && containers[0].role != Role::kMain; }
  // When a container is started again: not always as the pod's policy is.
  RestartPolicy restart_of(std::size_t container) const;
  std::string full_name() const { return name.empty() ? uid : ns + "/" + name; }
};

Result<PodSpec> read_pod(const store::Object& pod);

// Kubernetes' $(NAME) in command, args and env values: replaced by what `find` has for the name.
// $$(NAME) is a literal $(NAME), and a name that is not known stays as it is.
std::string expand(std::string_view text,
                   const std::function<const std::string*(const std::string& name)>& find);

}  // namespace shoal::node
