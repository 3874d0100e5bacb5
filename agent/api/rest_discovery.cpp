// SPDX-License-Identifier: Apache-2.0
// What the server serves, as clients ask for it: plain discovery (kubectl 1.20) and aggregated
// (1.26 and newer).
#include "agent/api/rest.h"
#include "agent/api/schema_tables.h"
#include "netplane/base/strings.h"

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>
#include <set>

namespace shoal::api {
namespace json = boost::json;
namespace {

// The Kubernetes whose shapes are served: kubectl warns when it is far from its own.
constexpr std::string_view kKubernetesMajor = "1";
constexpr std::string_view kKubernetesMinor = "32";
constexpr std::string_view kAggregatedType =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

json::array words(std::string_view joined) {
  json::array list;
  if (!joined.empty())
    for (const std::string_view word : split(joined, '|'))
      list.emplace_back(word);
  return list;
}

json::array verbs() {
  return {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"};
}
json::array status_verbs() { return {"get", "update"}; }

// What the daemon makes of the kernel's counters when it is asked (agent/daemon/usage_routes.cpp);
// nothing of it is stored.
constexpr std::string_view kMetricsGroup = "metrics.k8s.io";
constexpr std::string_view kMetricsVersion = "v1beta1";
struct MetricsKind {
  std::string_view plural;
  std::string_view kind;
  bool namespaced;
};
constexpr MetricsKind kMetricsKinds[] = {{"nodes", "NodeMetrics", false},
                                         {"pods", "PodMetrics", true}};
bool is_metrics(std::string_view group, std::string_view version) {
  return group == kMetricsGroup && version == kMetricsVersion;
}
json::array metrics_verbs() { return {"get", "list"}; }

bool has_status(const Kind& kind) { return kind.message->find("status") != nullptr; }

json::object resource_list(std::string_view group, std::string_view version) {
  json::array resources;
  std::string group_version;
  for (const Kind* kind : all_kinds()) {
    if (kind->group != group || kind->version != version)
      continue;
    group_version = kind->api_version();
    json::object entry{{"name", kind->plural},
                       {"singularName", kind->singular},
                       {"namespaced", kind->namespaced},
                       {"kind", kind->kind},
                       {"verbs", verbs()}};
    if (!kind->short_names.empty())
      entry["shortNames"] = words(kind->short_names);
    if (!kind->categories.empty())
      entry["categories"] = words(kind->categories);
    resources.push_back(std::move(entry));
    if (has_status(*kind))
      resources.push_back(json::object{{"name", fmt::format("{}/status", kind->plural)},
                                       {"singularName", ""},
                                       {"namespaced", kind->namespaced},
                                       {"kind", kind->kind},
                                       {"verbs", status_verbs()}});
  }
  if (is_metrics(group, version)) {
    group_version = fmt::format("{}/{}", group, version);
    for (const MetricsKind& kind : kMetricsKinds)
      resources.push_back(json::object{{"name", kind.plural},
                                       {"singularName", ""},
                                       {"namespaced", kind.namespaced},
                                       {"kind", kind.kind},
                                       {"verbs", metrics_verbs()}});
  }
  if (resources.empty())
    return {};
  return {{"kind", "APIResourceList"},
          {"apiVersion", "v1"},
          {"groupVersion", group_version},
          {"resources", std::move(resources)}};
}

json::object response_kind(const Kind& kind) {
  return {{"group", kind.group}, {"version", kind.version}, {"kind", kind.kind}};
}

json::object aggregated_version(std::string_view group, std::string_view version) {
  json::array resources;
  for (const Kind* kind : all_kinds()) {
    if (kind->group != group || kind->version != version)
      continue;
    json::object entry{{"resource", kind->plural},
                       {"responseKind", response_kind(*kind)},
                       {"scope", kind->namespaced ? "Namespaced" : "Cluster"},
                       {"singularResource", kind->singular},
                       {"verbs", verbs()}};
    if (!kind->short_names.empty())
      entry["shortNames"] = words(kind->short_names);
    if (!kind->categories.empty())
      entry["categories"] = words(kind->categories);
    if (has_status(*kind))
      entry["subresources"] = json::array{json::object{{"subresource", "status"},
                                                       {"responseKind", response_kind(*kind)},
                                                       {"verbs", status_verbs()}}};
    resources.push_back(std::move(entry));
  }
  if (is_metrics(group, version))
    for (const MetricsKind& kind : kMetricsKinds)
      resources.push_back(json::object{
          {"resource", kind.plural},
          {"responseKind", {{"group", group}, {"version", version}, {"kind", kind.kind}}},
          {"scope", kind.namespaced ? "Namespaced" : "Cluster"},
          {"singularResource", ""},
          {"verbs", metrics_verbs()}});
  return {{"version", version}, {"resources", std::move(resources)}, {"freshness", "Current"}};
}

std::set<std::pair<std::string_view, std::string_view>> group_versions(bool core) {
  std::set<std::pair<std::string_view, std::string_view>> found;
  for (const Kind* kind : all_kinds())
    if (kind->group.empty() == core)
      found.emplace(kind->group, kind->version);
  if (!core)
    found.emplace(kMetricsGroup, kMetricsVersion);
  return found;
}

json::object aggregated(bool core) {
  json::array items;
  for (const auto& [group, version] : group_versions(core)) {
    json::object metadata{{"creationTimestamp", nullptr}};
    if (!group.empty())
      metadata["name"] = group;
    items.push_back(json::object{{"metadata", std::move(metadata)},
                                 {"versions", json::array{aggregated_version(group, version)}}});
  }
  return {{"kind", "APIGroupDiscoveryList"},
          {"apiVersion", "apidiscovery.k8s.io/v2"},
          {"metadata", json::object()},
          {"items", std::move(items)}};
}

json::object group_entry(std::string_view group, std::string_view version) {
  const json::object preferred{{"groupVersion", fmt::format("{}/{}", group, version)},
                               {"version", version}};
  return {{"name", group}, {"versions", json::array{preferred}}, {"preferredVersion", preferred}};
}

json::object group_list() {
  json::array groups;
  for (const auto& [group, version] : group_versions(false))
    groups.push_back(group_entry(group, version));
  return {{"kind", "APIGroupList"}, {"apiVersion", "v1"}, {"groups", std::move(groups)}};
}

json::object core_versions() {
  return {{"kind", "APIVersions"},
          {"versions", json::array{"v1"}},
          {"serverAddressByClientCIDRs", json::array()}};
}

json::object version_info() {
  return {{"major", kKubernetesMajor},
          {"minor", kKubernetesMinor},
          {"gitVersion", fmt::format("v{}.{}.0+shoal", kKubernetesMajor, kKubernetesMinor)},
          {"gitCommit", ""},
          {"gitTreeState", ""},
          {"buildDate", "1970-01-01T00:00:00Z"},
          {"goVersion", ""},
          {"compiler", "g++"},
          {"platform", "linux/amd64"}};
}

void answer_health(Exchange& exchange, bool ready) {
  if (ready)
    exchange.reply_text(200, "ok");
  else
    exchange.reply_text(503, "this host has not received the cluster's state yet\n");
}

}  // namespace

bool answer_discovery(Exchange& exchange, const store::Replica& replica) {
  const Request& request = exchange.request();
  std::string_view path = request.path;
  if (path.size() > 1 && path.ends_with('/'))
    path.remove_suffix(1);
  const bool read = request.method == "GET" || request.method == "HEAD";
  if (!read)
    return false;
  const bool wants_aggregated =
      request.header("accept").find("as=APIGroupDiscoveryList") != std::string_view::npos &&
      request.header("accept").find("v=v2") != std::string_view::npos;
  if (path == "/version") {
    exchange.reply(200, version_info());
  } else if (path == "/livez") {
    answer_health(exchange, true);
  } else if (path == "/healthz" || path == "/readyz") {
    answer_health(exchange, replica.synced());
  } else if (path == "/api" || path == "/apis") {
    const bool core = path == "/api";
    if (wants_aggregated)
      exchange.reply_bytes(200, kAggregatedType, json::serialize(aggregated(core)));
    else
      exchange.reply(200, core ? core_versions() : group_list());
  } else if (path == "/api/v1") {
    exchange.reply(200, resource_list("", "v1"));
  } else if (path.starts_with("/apis/")) {
    const std::vector<std::string_view> parts = split(path.substr(6), '/');
    if (parts.size() > 2)
      return false;
    json::object found;
    if (parts.size() == 2) {
      found = resource_list(parts[0], parts[1]);
    } else {
      for (const auto& [group, version] : group_versions(false))
        if (group == parts[0]) {
          found = group_entry(group, version);
          found["kind"] = "APIGroup";
          found["apiVersion"] = "v1";
        }
    }
    if (found.empty())
      return false;
    exchange.reply(200, found);
  } else {
    return false;
  }
  return true;
}

}  // namespace shoal::api
