// SPDX-License-Identifier: Apache-2.0
#include "runtime/spec/capabilities.h"

#include "netplane/base/strings.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>

namespace shoal::runtime {
namespace {

// In the kernel's order (capabilities(7)); the names the default set holds are marked.
struct Capability {
  std::string_view name;
  bool by_default = false;
};
constexpr std::array kCapabilities = std::to_array<Capability>({
    {"CHOWN", true},
    {"DAC_OVERRIDE", true},
    {"DAC_READ_SEARCH"},
    {"FOWNER", true},
    {"FSETID", true},
    {"KILL", true},
    {"SETGID", true},
    {"SETUID", true},
    {"SETPCAP", true},
    {"LINUX_IMMUTABLE"},
    {"NET_BIND_SERVICE", true},
    {"NET_BROADCAST"},
    {"NET_ADMIN"},
    {"NET_RAW", true},
    {"IPC_LOCK"},
    {"IPC_OWNER"},
    {"SYS_MODULE"},
    {"SYS_RAWIO"},
    {"SYS_CHROOT", true},
    {"SYS_PTRACE"},
    {"SYS_PACCT"},
    {"SYS_ADMIN"},
    {"SYS_BOOT"},
    {"SYS_NICE"},
    {"SYS_RESOURCE"},
    {"SYS_TIME"},
    {"SYS_TTY_CONFIG"},
    {"MKNOD", true},
    {"LEASE"},
    {"AUDIT_WRITE", true},
    {"AUDIT_CONTROL"},
    {"SETFCAP", true},
    {"MAC_OVERRIDE"},
    {"MAC_ADMIN"},
    {"SYSLOG"},
    {"WAKE_ALARM"},
    {"BLOCK_SUSPEND"},
    {"AUDIT_READ"},
    {"PERFMON"},
    {"BPF"},
    {"CHECKPOINT_RESTORE"},
});
static_assert(kCapabilities.size() <= 64);

std::string_view without_cap(std::string_view name) {
  return name.starts_with("CAP_") ? name.substr(4) : name;
}

Result<std::uint64_t> named_capabilities(const std::vector<std::string>& names,
                                         std::string_view field) {
  std::uint64_t set = 0;
  for (const std::string& name : names) {
    bool known = name == "ALL";
    for (std::size_t i = 0; i < kCapabilities.size(); ++i)
      if (name == "ALL" || kCapabilities[i].name == without_cap(name)) {
        set |= std::uint64_t{1} << i;
        known = true;
      }
    if (!known)
      return fail(Errc::kInvalid,
                  fmt::format("{}: unknown capability '{}'", field, printable(name)));
  }
  return set;
}

std::uint64_t every_capability() { return (std::uint64_t{1} << kCapabilities.size()) - 1; }

std::uint64_t default_capabilities() {
  std::uint64_t set = 0;
  for (std::size_t i = 0; i < kCapabilities.size(); ++i)
    if (kCapabilities[i].by_default)
      set |= std::uint64_t{1} << i;
  return set;
}

}  // namespace

Result<std::uint64_t> effective_capabilities(const ContainerConfig& config) {
  const std::uint64_t bound = config.capability_bound & every_capability();
  if (config.privileged)
    return bound;
  const auto add = SHOAL_TRY(named_capabilities(config.capabilities_add, "capabilities.add"));
  const auto drop = SHOAL_TRY(named_capabilities(config.capabilities_drop, "capabilities.drop"));
  const auto all_of = [](const std::vector<std::string>& names) {
    return std::ranges::find(names, "ALL") != names.end();
  };
  const std::uint64_t within = all_of(config.capabilities_add) ? bound : every_capability();
  return within & (all_of(config.capabilities_drop) ? add : (default_capabilities() | add) & ~drop);
}

std::vector<std::string> capability_names(std::uint64_t set) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < kCapabilities.size(); ++i)
    if ((set >> i & 1) != 0)
      names.push_back(fmt::format("CAP_{}", kCapabilities[i].name));
  return names;
}

}  // namespace shoal::runtime
