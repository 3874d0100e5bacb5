// SPDX-License-Identifier: Apache-2.0
#include "netplane/base/strings.h"
#include "runtime/spec/capabilities.h"
#include "runtime/spec/container_config.h"
#include "runtime/spec/json_writer.h"
#include "runtime/spec/seccomp.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <unordered_map>

namespace shoal::runtime {
namespace {

constexpr std::int64_t kCpuPeriodUs = 100'000;
constexpr std::int64_t kCpuQuotaUsMin = 1'000;
constexpr std::int64_t kCpuSharesMin = 2;
constexpr std::int64_t kCpuSharesMax = 262'144;

// What shows or changes the host rather than the container.
constexpr std::array kMaskedPaths = std::to_array<std::string_view>(
    {"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys",
     "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list",
     "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware"});
constexpr std::array kReadonlyPaths = std::to_array<std::string_view>(
    {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"});

// Devices a container may open; -1 is any minor number.
struct Device {
  char type;
  int major;
  int minor;
  std::string_view access;
};
constexpr std::array kDevices = std::to_array<Device>({
    {'c', 1, 3, "rwm"},     // null
    {'c', 1, 5, "rwm"},     // zero
    {'c', 1, 7, "rwm"},     // full
    {'c', 1, 8, "rwm"},     // random
    {'c', 1, 9, "rwm"},     // urandom
    {'c', 5, 0, "rwm"},     // tty
    {'c', 5, 2, "rwm"},     // ptmx
    {'c', 136, -1, "rwm"},  // pts/*
});

bool has_nul(std::string_view text) { return text.find('\0') != std::string_view::npos; }

Result<> check(const ContainerConfig& config) {
  const auto absolute = [](std::string_view path) {
    return path.starts_with('/') && !has_nul(path);
  };
  if (!absolute(config.rootfs))
    return fail(Errc::kInvalid, "rootfs must be an absolute path");
  if (config.args.empty() || config.args.front().empty())
    return fail(Errc::kInvalid, "no command to run: neither the image nor the pod names one");
  if (!absolute(config.cwd))
    return fail(Errc::kInvalid,
                fmt::format("workingDir '{}' must be an absolute path", printable(config.cwd)));
  if (!absolute(config.cgroups_path))
    return fail(Errc::kInvalid, "cgroups_path must be an absolute path");
  if (!config.pid_namespace.empty() && !absolute(config.pid_namespace))
    return fail(Errc::kInvalid, "pid_namespace must be an absolute path");
  for (const std::string& arg : config.args)
    if (has_nul(arg))
      return fail(Errc::kInvalid, "an argument holds a NUL byte");
  for (const std::string& entry : config.env)
    if (has_nul(entry) || entry.find('=') == 0 || entry.find('=') == std::string::npos)
      return fail(Errc::kInvalid,
                  fmt::format("env entry '{}' is not NAME=VALUE", printable(entry)));
  for (const BindMount& mount : config.mounts)
    if (!absolute(mount.source) || !absolute(mount.destination))
      return fail(Errc::kInvalid,
                  fmt::format("mount '{}' at '{}': both must be absolute paths",
                              printable(mount.source), printable(mount.destination)));
  const auto positive = [](const std::optional<std::int64_t>& value) {
    return !value || *value > 0;
  };
  const ResourceLimits& limits = config.resources;
  if (!positive(limits.memory_bytes) || !positive(limits.cpu_milli) ||
      !positive(limits.cpu_request_milli) || !positive(limits.pids))
    return fail(Errc::kInvalid, "a resource limit must be above 0");
  return {};
}

void write_process(JsonWriter& json, const ContainerConfig& config,
                   const std::vector<std::string>& capabilities, bool terminal) {
  json.begin_object();
  json.member("terminal", terminal);
  json.key("user").begin_object().member("uid", config.user.uid).member("gid", config.user.gid);
  json.key("additionalGids").begin_array();
  for (const std::uint32_t gid : config.user.additional_gids)
    json.value(gid);
  json.end_array().end_object();
  json.member("args", config.args).member("env", config.env).member("cwd", config.cwd);
  // No inheritable and no ambient ones: a user other than root gets none by exec.
  json.key("capabilities").begin_object();
  for (const char* set : {"bounding", "effective", "permitted"})
    json.member(set, capabilities);
  json.end_object();
  const std::uint64_t nofile = std::min(config.nofile, config.nofile_hard);
  json.key("rlimits").begin_array().begin_object();
  json.member("type", "RLIMIT_NOFILE").member("hard", nofile).member("soft", nofile);
  json.end_object().end_array();
  json.member("noNewPrivileges", config.no_new_privileges && !config.privileged);
  if (config.oom_score_adj)
    json.member("oomScoreAdj", std::int64_t{*config.oom_score_adj});
  json.end_object();
}

void write_mount(JsonWriter& json, std::string_view destination, std::string_view type,
                 std::string_view source, const std::vector<std::string>& options) {
  json.begin_object().member("destination", destination).member("type", type);
  json.member("source", source).member("options", options).end_object();
}

std::vector<std::string> bind_options(const BindMount& mount) {
  std::vector<std::string> options{"rbind"};
  options.emplace_back(mount.propagation == Propagation::kNone       ? "rprivate"
                       : mount.propagation == Propagation::kFromHost ? "rslave"
                                                                     : "rshared");
  options.emplace_back(mount.read_only ? "ro" : "rw");
  if (mount.read_only && mount.recursive_read_only)
    options.emplace_back("rro");
  return options;
}

// What the mounts of the host become in the container's namespace before any is bound: the OCI
// runtime would cut them all off from the host.
std::string_view rootfs_propagation(const ContainerConfig& config) {
  Propagation most = Propagation::kNone;
  for (const BindMount& mount : config.mounts)
    most = std::max(most, mount.propagation);
  return most == Propagation::kNone ? "" : most == Propagation::kFromHost ? "rslave" : "rshared";
}

void write_mounts(JsonWriter& json, const ContainerConfig& config) {
  json.key("mounts").begin_array();
  write_mount(json, "/proc", "proc", "proc", {"nosuid", "noexec", "nodev"});
  write_mount(json, "/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"});
  write_mount(json, "/dev/pts", "devpts", "devpts",
              {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"});
  write_mount(json, "/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"});
  if (config.host_ipc)
    write_mount(json, "/dev/shm", "bind", "/dev/shm", {"rbind", "nosuid", "noexec", "nodev", "rw"});
  else
    write_mount(json, "/dev/shm", "tmpfs", "shm",
                {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"});
  const char* access = config.privileged ? "rw" : "ro";
  write_mount(json, "/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", access});
  if (config.cgroup_v2)
    write_mount(json, "/sys/fs/cgroup", "cgroup", "cgroup",
                {"nosuid", "noexec", "nodev", "relatime", access});
  for (const BindMount& mount : config.mounts)
    write_mount(json, mount.destination, "bind", mount.source, bind_options(mount));
  json.end_array();
}

void write_device_rules(JsonWriter& json, bool privileged) {
  json.key("devices").begin_array();
  json.begin_object().member("allow", privileged).member("access", "rwm").end_object();
  for (const Device& device : kDevices) {
    if (privileged)
      break;
    json.begin_object().member("allow", true).member("type", std::string_view(&device.type, 1));
    json.member("major", device.major);
    if (device.minor >= 0)
      json.member("minor", device.minor);
    json.member("access", device.access).end_object();
  }
  json.end_array();
}

void write_device_nodes(JsonWriter& json, const std::vector<DeviceNode>& devices) {
  json.key("devices").begin_array();
  for (const DeviceNode& device : devices) {
    json.begin_object().member("path", device.path);
    json.member("type", std::string_view(&device.type, 1));
    json.member("major", device.major).member("minor", device.minor);
    json.member("fileMode", device.mode).member("uid", device.uid).member("gid", device.gid);
    json.end_object();
  }
  json.end_array();
}

void write_resources(JsonWriter& json, const ContainerConfig& config) {
  const ResourceLimits& limits = config.resources;
  json.key("resources").begin_object();
  write_device_rules(json, config.privileged);
  if (limits.memory_bytes)
    json.key("memory").begin_object().member("limit", *limits.memory_bytes).end_object();
  if (limits.cpu_milli || limits.cpu_request_milli) {
    json.key("cpu").begin_object();
    if (limits.cpu_request_milli)
      json.member("shares", std::clamp(*limits.cpu_request_milli * 1024 / 1000, kCpuSharesMin,
                                       kCpuSharesMax));
    if (limits.cpu_milli)
      json.member("quota", std::max(*limits.cpu_milli * kCpuPeriodUs / 1000, kCpuQuotaUsMin))
          .member("period", kCpuPeriodUs);
    json.end_object();
  }
  if (limits.pids)
    json.key("pids").begin_object().member("limit", *limits.pids).end_object();
  json.end_object();
}

void write_texts(JsonWriter& json, std::string_view name, std::span<const std::string_view> texts) {
  json.key(name).begin_array();
  for (const std::string_view text : texts)
    json.value(text);
  json.end_array();
}

void write_linux(JsonWriter& json, const ContainerConfig& config) {
  json.key("linux").begin_object();
  // Network, IPC and UTS are the pod's: inherited from the shim that runs the OCI runtime.
  json.key("namespaces").begin_array();
  if (!config.host_pids) {
    json.begin_object().member("type", "pid");
    if (!config.pid_namespace.empty())
      json.member("path", config.pid_namespace);
    json.end_object();
  }
  json.begin_object().member("type", "mount").end_object();
  if (config.cgroup_v2)
    json.begin_object().member("type", "cgroup").end_object();
  json.end_array();
  json.member("cgroupsPath", config.cgroups_path);
  if (const std::string_view propagation = rootfs_propagation(config); !propagation.empty())
    json.member("rootfsPropagation", propagation);
  write_resources(json, config);
  if (config.privileged) {
    write_device_nodes(json, config.devices);
    json.end_object();
    return;
  }
  if (config.seccomp && !config.seccomp_profile.empty()) {
    json.key("seccomp").raw(config.seccomp_profile);
  } else if (config.seccomp) {
    json.key("seccomp").raw(default_seccomp_profile());
  }
  write_texts(json, "maskedPaths", kMaskedPaths);
  write_texts(json, "readonlyPaths", kReadonlyPaths);
  json.end_object();
}

}  // namespace

Result<std::string> oci_spec(const ContainerConfig& config) {
  SHOAL_TRY(check(config));
  const auto capabilities = capability_names(SHOAL_TRY(effective_capabilities(config)));
  JsonWriter json;
  json.begin_object();
  json.member("ociVersion", "1.0.2");
  json.key("process");
  write_process(json, config, capabilities, config.terminal);
  json.key("root").begin_object();
  json.member("path", config.rootfs).member("readonly", config.rootfs_read_only);
  json.end_object();
  write_mounts(json, config);
  write_linux(json, config);
  json.end_object();
  return json.text();
}

Result<std::string> oci_process(const ContainerConfig& config) {
  SHOAL_TRY(check(config));
  JsonWriter json;
  write_process(json, config, capability_names(SHOAL_TRY(effective_capabilities(config))), false);
  return json.text();
}

Result<std::vector<std::string>> process_args(const std::vector<std::string>& entrypoint,
                                              const std::vector<std::string>& cmd,
                                              const std::vector<std::string>& command,
                                              const std::vector<std::string>& args) {
  std::vector<std::string> all = command.empty() ? entrypoint : command;
  // A command without args drops the image's cmd too: it was written for the image's entrypoint.
  const std::vector<std::string>& rest = !args.empty() || !command.empty() ? args : cmd;
  all.insert(all.end(), rest.begin(), rest.end());
  if (all.empty())
    return fail(Errc::kInvalid, "no command to run: neither the image nor the pod names one");
  return all;
}

std::vector<std::string> merge_env(const std::vector<std::string>& image,
                                   const std::vector<std::string>& container) {
  std::vector<std::string> merged;
  std::unordered_map<std::string, std::size_t> by_name;
  const auto put = [&](const std::string& entry) {
    const auto [at, fresh] = by_name.try_emplace(entry.substr(0, entry.find('=')), merged.size());
    if (fresh)
      merged.push_back(entry);
    else
      merged[at->second] = entry;
  };
  put("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
  for (const std::string& entry : image)
    put(entry);
  for (const std::string& entry : container)
    put(entry);
  return merged;
}

}  // namespace shoal::runtime
