// SPDX-License-Identifier: Apache-2.0
#include "agent/cli/kinds.h"

#include "agent/cli/client.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <fmt/format.h>

namespace shoal::cli {
namespace {

constexpr Kind kKinds[] = {
    {"Namespace", "v1", "namespaces", "namespace", "ns", false},
    {"Node", "v1", "nodes", "node", "no", false},
    {"Pod", "v1", "pods", "pod", "po", true},
    {"Service", "v1", "services", "service", "svc", true},
    {"Endpoints", "v1", "endpoints", "endpoints", "ep", true},
    {"Event", "v1", "events", "event", "ev", true},
    {"Deployment", "apps/v1", "deployments", "deployment", "deploy", true},
    {"ReplicaSet", "apps/v1", "replicasets", "replicaset", "rs", true},
    {"EndpointSlice", "discovery.k8s.io/v1", "endpointslices", "endpointslice", "eps", true},
    {"ConfigMap", "v1", "configmaps", "configmap", "cm", true},
    {"Secret", "v1", "secrets", "secret", "secret", true},
    {"PersistentVolumeClaim", "v1", "persistentvolumeclaims", "persistentvolumeclaim", "pvc", true},
};

std::string_view group_of(std::string_view api_version) {
  const std::size_t slash = api_version.find('/');
  return slash == std::string_view::npos ? std::string_view() : api_version.substr(0, slash);
}

std::string known() {
  std::vector<std::string_view> names;
  for (const Kind& kind : kKinds)
    names.push_back(kind.resource);
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

std::string Kind::full_name() const {
  const std::string_view group = group_of(api_version);
  return group.empty() ? std::string(singular) : fmt::format("{}.{}", singular, group);
}

std::string Kind::path(std::string_view ns, std::string_view name) const {
  std::string out =
      fmt::format("/{}/{}", group_of(api_version).empty() ? "api" : "apis", api_version);
  if (namespaced && !ns.empty())
    out += fmt::format("/namespaces/{}", percent_encode(ns));
  out += fmt::format("/{}", resource);
  if (!name.empty())
    out += fmt::format("/{}", percent_encode(name));
  return out;
}

std::span<const Kind> kinds() { return kKinds; }

Result<const Kind*> find_kind(std::string_view text) {
  const std::string wanted = to_lower(text);
  for (const Kind& kind : kKinds) {
    const std::string_view group = group_of(kind.api_version);
    const auto is = [&](std::string_view name) {
      return wanted == name || (!group.empty() && wanted == fmt::format("{}.{}", name, group));
    };
    if (is(kind.resource) || is(kind.singular) || std::ranges::any_of(split(kind.aliases, ' '), is))
      return &kind;
  }
  return fail(Errc::kInvalid, fmt::format("\"{}\" is not a kind that Shoal serves; there is {}",
                                          printable(text), known()));
}

Result<std::vector<const Kind*>> find_kinds(std::string_view text) {
  std::vector<const Kind*> out;
  for (const std::string_view part : split(text, ','))
    out.push_back(SHOAL_TRY(find_kind(part)));
  return out;
}

Result<const Kind*> find_manifest_kind(std::string_view api_version, std::string_view kind) {
  for (const Kind& candidate : kKinds) {
    if (candidate.kind != kind)
      continue;
    if (candidate.api_version == api_version)
      return &candidate;
    return fail(Errc::kInvalid, fmt::format("{} is served as {}, not {}", kind,
                                            candidate.api_version, printable(api_version)));
  }
  return fail(Errc::kUnsupported,
              fmt::format("Shoal does not act on kind \"{}\" ({}) yet; there is {}",
                          printable(kind), printable(api_version), known()));
}

}  // namespace shoal::cli
