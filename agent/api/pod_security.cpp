// SPDX-License-Identifier: Apache-2.0
#include "agent/api/pod_security.h"

#include "agent/api/selector.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <functional>

namespace shoal::api {
namespace json = boost::json;
namespace {

constexpr std::string_view kLevelNames[] = {"", "privileged", "baseline", "restricted"};

// Capabilities that baseline lets a container add: those it has anyway.
constexpr std::string_view kBaselineCapabilities[] = {
    "AUDIT_WRITE",      "CHOWN",   "DAC_OVERRIDE", "FOWNER",  "FSETID", "KILL",      "MKNOD",
    "NET_BIND_SERVICE", "SETFCAP", "SETGID",       "SETPCAP", "SETUID", "SYS_CHROOT"};
// Those with which a container has its host: as good as being privileged.
constexpr std::string_view kHostCapabilities[] = {"ALL",        "BPF",      "DAC_READ_SEARCH",
                                                  "SYS_ADMIN",  "SYS_BOOT", "SYS_MODULE",
                                                  "SYS_PTRACE", "SYS_RAWIO"};
constexpr std::string_view kRestrictedVolumes[] = {
    "configMap", "csi",   "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
    "projected", "secret"};

struct Containers {
  std::vector<const json::object*> all;
  explicit Containers(const json::object& spec) {
    for (const std::string_view field : {"initContainers", "containers", "ephemeralContainers"})
      if (const json::array* list = find_array(spec, field))
        for (const json::value& value : *list)
          if (const json::object* container = value.if_object())
            all.push_back(container);
  }
};

bool flag(const json::object& object, std::string_view path) {
  const json::value* value = find_path(object, path);
  return value && value->is_bool() && value->get_bool();
}

std::string without_cap(const json::value& name) {
  const std::string_view text = name.is_string() ? std::string_view(name.get_string()) : "";
  return std::string(text.starts_with("CAP_") ? text.substr(4) : text);
}

template <std::size_t N>
bool contains(const std::string_view (&list)[N], std::string_view value) {
  return std::ranges::find(list, value) != std::end(list);
}

class Checker {
public:
  explicit Checker(const json::object& spec) : spec_(spec), containers_(spec) {}

  using Offends = std::function<bool(const json::object& container)>;

  void host_namespaces() {
    std::vector<std::string> set;
    for (const std::string_view field : {"hostNetwork", "hostPID", "hostIPC"})
      if (flag(spec_, field))
        set.push_back(fmt::format("{}=true", field));
    if (!set.empty())
      out_.push_back(fmt::format("host namespaces ({})", fmt::join(set, ", ")));
  }

  void privileged() {
    named("privileged", "must not set securityContext.privileged=true",
          [](const json::object& c) { return flag(c, "securityContext.privileged"); });
  }

  void host_capabilities() {
    named("capabilities over the host",
          "must not include those in securityContext.capabilities.add", [](const json::object& c) {
            const json::array* add = find_array(c, "securityContext.capabilities.add");
            return add && std::ranges::any_of(*add, [](const json::value& name) {
                     return contains(kHostCapabilities, without_cap(name));
                   });
          });
  }

  void host_paths() {
    volumes("hostPath volumes", [](std::string_view type) { return type == "hostPath"; });
  }

  void baseline() {
    host_namespaces();
    privileged();
    named("non-default capabilities",
          "must not include other than the default ones in securityContext.capabilities.add",
          [](const json::object& c) { return adds_other_than(c, kBaselineCapabilities); });
    host_paths();
    named("hostPort", "uses hostPorts", [](const json::object& c) {
      const json::array* ports = find_array(c, "ports");
      return ports && std::ranges::any_of(*ports, [](const json::value& port) {
               return port.is_object() && find_int(port.get_object(), "hostPort", 0) != 0;
             });
    });
    named("procMount", "must not set securityContext.procMount to other than \"Default\"",
          [](const json::object& c) {
            const std::string_view mount = find_string(c, "securityContext.procMount");
            return !mount.empty() && mount != "Default";
          });
    seccomp(false);
  }

  void restricted() {
    baseline();
    volumes("restricted volume types",
            [](std::string_view type) { return !contains(kRestrictedVolumes, type); });
    named("allowPrivilegeEscalation != false",
          "must set securityContext.allowPrivilegeEscalation=false", [](const json::object& c) {
            const json::value* set = find_path(c, "securityContext.allowPrivilegeEscalation");
            return !set || !set->is_bool() || set->get_bool();
          });
    named("unrestricted capabilities",
          "must set securityContext.capabilities.drop=[\"ALL\"], and add none but "
          "NET_BIND_SERVICE",
          [](const json::object& c) {
            constexpr std::string_view kOne[] = {"NET_BIND_SERVICE"};
            const json::array* drop = find_array(c, "securityContext.capabilities.drop");
            return !drop || std::ranges::find(*drop, json::value("ALL")) == drop->end() ||
                   adds_other_than(c, kOne);
          });
    const bool pod_non_root = flag(spec_, "securityContext.runAsNonRoot");
    named("runAsNonRoot != true", "must set securityContext.runAsNonRoot=true",
          [pod_non_root](const json::object& c) {
            const json::value* set = find_path(c, "securityContext.runAsNonRoot");
            return set ? !(set->is_bool() && set->get_bool()) : !pod_non_root;
          });
    const auto root = [](const json::object& of) {
      return find_int(of, "securityContext.runAsUser", -1) == 0;
    };
    if (root(spec_))
      out_.emplace_back("runAsUser=0 (pod must not set runAsUser=0)");
    named("runAsUser=0", "must not set runAsUser=0", root);
    seccomp(true);
  }

  std::vector<std::string> take() { return std::move(out_); }

private:
  template <std::size_t N>
  static bool adds_other_than(const json::object& container, const std::string_view (&allowed)[N]) {
    const json::array* add = find_array(container, "securityContext.capabilities.add");
    return add && std::ranges::any_of(*add, [&](const json::value& name) {
             return !contains(allowed, without_cap(name));
           });
  }

  void named(std::string_view what, std::string_view must, const Offends& offends) {
    std::vector<std::string> names;
    for (const json::object* container : containers_.all)
      if (offends(*container))
        names.push_back(fmt::format("\"{}\"", find_string(*container, "name")));
    if (!names.empty())
      out_.push_back(fmt::format("{} (container{} {} {})", what, names.size() == 1 ? "" : "s",
                                 fmt::join(names, ", "), must));
  }

  void volumes(std::string_view what, bool (*offends)(std::string_view type)) {
    std::vector<std::string> names;
    const json::array* list = find_array(spec_, "volumes");
    for (std::size_t i = 0; list && i < list->size(); i++) {
      const json::object* volume = (*list)[i].if_object();
      if (!volume)
        continue;
      for (const auto& [type, source] : *volume)
        if (type != "name" && offends(std::string_view(type)))
          names.push_back(fmt::format("\"{}\"", find_string(*volume, "name")));
    }
    if (!names.empty())
      out_.push_back(fmt::format("{} (volume{} {})", what, names.size() == 1 ? "" : "s",
                                 fmt::join(names, ", ")));
  }

  // `required`: it must be set, by the container or for the whole pod.
  void seccomp(bool required) {
    const std::string_view of_pod = find_string(spec_, "securityContext.seccompProfile.type");
    if (of_pod == "Unconfined")
      out_.emplace_back("seccompProfile (pod must not set securityContext.seccompProfile.type to "
                        "\"Unconfined\")");
    named("seccompProfile",
          required ? "must set securityContext.seccompProfile.type to \"RuntimeDefault\" or "
                     "\"Localhost\""
                   : "must not set securityContext.seccompProfile.type to \"Unconfined\"",
          [&](const json::object& c) {
            const std::string_view own = find_string(c, "securityContext.seccompProfile.type");
            return own == "Unconfined" || (required && own.empty() && of_pod.empty());
          });
  }

  const json::object& spec_;
  Containers containers_;
  std::vector<std::string> out_;
};

}  // namespace

PodSecurityLevel pod_security_level(const json::object& ns) {
  const json::object* labels = find_object(ns, "metadata.labels");
  const json::value* label = labels ? labels->if_contains(kPodSecurityLabel) : nullptr;
  if (!label || !label->is_string())
    return PodSecurityLevel::kUnlabelled;
  const auto at = std::ranges::find(kLevelNames, std::string_view(label->get_string()));
  return at == std::end(kLevelNames) || at == std::begin(kLevelNames)
             ? PodSecurityLevel::kRestricted
             : static_cast<PodSecurityLevel>(at - std::begin(kLevelNames));
}

std::string_view to_string(PodSecurityLevel level) {
  return level == PodSecurityLevel::kUnlabelled ? "unlabelled"
                                                : kLevelNames[static_cast<std::size_t>(level)];
}

std::vector<std::string> pod_security_violations(const json::object& pod_spec,
                                                 PodSecurityLevel level) {
  Checker checker(pod_spec);
  switch (level) {
  case PodSecurityLevel::kUnlabelled:
    checker.host_namespaces();
    checker.privileged();
    checker.host_capabilities();
    checker.host_paths();
    break;
  case PodSecurityLevel::kPrivileged:
    break;
  case PodSecurityLevel::kBaseline:
    checker.baseline();
    break;
  case PodSecurityLevel::kRestricted:
    checker.restricted();
    break;
  }
  return checker.take();
}

}  // namespace shoal::api
