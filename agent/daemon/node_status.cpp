// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/node_status.h"

#include "agent/daemon/options.h"
#include "agent/images/disk_use.h"
#include "agent/view/facts.h"
#include "netplane/base/fs.h"
#include "netplane/base/process.h"
#include "netplane/base/strings.h"

#include <boost/json.hpp>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

namespace shoal::daemon {
namespace {

namespace json = boost::json;

using node::Pressure;

std::string_view pressure_message(Pressure::Kind kind, bool is) {
  switch (kind) {
  case Pressure::Kind::kMemory:
    return is ? "kubelet has insufficient memory available"
              : "kubelet has sufficient memory available";
  case Pressure::Kind::kDisk:
    return is ? "kubelet has disk pressure" : "kubelet has no disk pressure";
  case Pressure::Kind::kPids:
    return is ? "kubelet has insufficient PID available" : "kubelet has sufficient PID available";
  }
  return "?";
}

constexpr int kPodsMax = 250;  // a /24 less what is reserved, and room for quarantine

std::string os_image() {
  const auto text = read_file("/etc/os-release", 65536);
  if (!text)
    return "Linux";
  for (const std::string_view line : split(*text, '\n')) {
    constexpr std::string_view kKey = "PRETTY_NAME=";
    if (!line.starts_with(kKey))
      continue;
    std::string_view value = trim(line.substr(kKey.size()));
    if (value.size() >= 2 && value.front() == '"' && value.back() == '"')
      value = value.substr(1, value.size() - 2);
    return std::string(value);
  }
  return "Linux";
}

// Whole CPUs and mebibytes are written as such.
json::object resources(std::int64_t cpu_milli, std::int64_t memory_bytes, std::int64_t disk_bytes) {
  json::object out{{"cpu", cpu_milli % 1000 == 0 ? std::to_string(cpu_milli / 1000)
                                                 : fmt::format("{}m", cpu_milli)},
                   {"memory", fmt::format("{}Ki", memory_bytes / 1024)},
                   {"pods", std::to_string(kPodsMax)}};
  if (disk_bytes > 0)
    out["ephemeral-storage"] = fmt::format("{}Ki", disk_bytes / 1024);
  return out;
}

}  // namespace

NodeResources node_resources(std::int64_t kept_cpu_milli, std::int64_t kept_memory_bytes,
                             const std::filesystem::path& state_dir, unsigned kept_disk_percent) {
  struct sysinfo info{};
  ::sysinfo(&info);
  NodeResources out;
  out.cpu_milli = std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)) * 1000;
  out.memory_bytes = static_cast<std::int64_t>(info.totalram) * info.mem_unit;
  out.pods_cpu_milli = std::max(out.cpu_milli - kept_cpu_milli, out.cpu_milli / 2);
  out.pods_memory_bytes = std::max(out.memory_bytes - kept_memory_bytes, out.memory_bytes / 2);
  if (const auto disk = images::disk_use(state_dir)) {
    out.disk_bytes = static_cast<std::int64_t>(disk->capacity_bytes);
    out.pods_disk_bytes = out.disk_bytes - out.disk_bytes / 100 * kept_disk_percent;
  }
  return out;
}

std::string_view condition_of(Pressure::Kind kind) {
  switch (kind) {
  case Pressure::Kind::kMemory:
    return "MemoryPressure";
  case Pressure::Kind::kDisk:
    return "DiskPressure";
  case Pressure::Kind::kPids:
    return "PIDPressure";
  }
  return "?";
}

std::string_view pressure_reason(Pressure::Kind kind, bool is) {
  switch (kind) {
  case Pressure::Kind::kMemory:
    return is ? "KubeletHasInsufficientMemory" : "KubeletHasSufficientMemory";
  case Pressure::Kind::kDisk:
    return is ? "KubeletHasDiskPressure" : "KubeletHasNoDiskPressure";
  case Pressure::Kind::kPids:
    return is ? "KubeletHasInsufficientPID" : "KubeletHasSufficientPID";
  }
  return "?";
}

json::object node_status(const NodeFacts& facts) {
  const NodeResources& have = facts.resources;
  utsname kernel{};
  ::uname(&kernel);
  json::object ready{{"type", "Ready"},
                     {"status", facts.ready ? "True" : "False"},
                     {"reason", facts.ready ? "AgentReady" : "AgentNotReady"},
                     {"message", facts.message},
                     {"lastTransitionTime", rfc3339(facts.ready_since)}};
  json::array conditions;
  for (const PressureFacts& one : facts.pressure)
    conditions.push_back(json::object{{"type", condition_of(one.kind)},
                                      {"status", one.is ? "True" : "False"},
                                      {"reason", pressure_reason(one.kind, one.is)},
                                      {"message", pressure_message(one.kind, one.is)},
                                      {"lastTransitionTime", rfc3339(one.since)}});
  conditions.push_back(std::move(ready));
  json::array addresses;
  for (const IpAddress& address : facts.addresses)
    addresses.push_back({{"type", "InternalIP"}, {"address", address.to_string()}});
  addresses.push_back({{"type", "Hostname"}, {"address", facts.name}});
  return {
      {"addresses", std::move(addresses)},
      {"conditions", std::move(conditions)},
      {"capacity", resources(have.cpu_milli, have.memory_bytes, have.disk_bytes)},
      {"allocatable", resources(have.pods_cpu_milli, have.pods_memory_bytes, have.pods_disk_bytes)},
      {"nodeInfo",
       {{"architecture", "amd64"},
        {"operatingSystem", "linux"},
        {"osImage", os_image()},
        {"kernelVersion", kernel.release},
        {"bootID", boot_id().value_or("")},
        {"machineID", ""},
        {"systemUUID", ""},
        {"containerRuntimeVersion", fmt::format("shoal://{} ({})", kVersion, facts.runtime)},
        {"kubeletVersion", fmt::format("v1.32.0+shoal-{}", kVersion)},
        {"kubeProxyVersion", facts.answers ? view::kProxyAnswers : ""}}}};
}

}  // namespace shoal::daemon
