// SPDX-License-Identifier: Apache-2.0
// The registry of kinds.
#include "agent/api/schema.h"

#include "agent/api/schema_tables.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <array>

namespace shoal::api {
namespace {

constexpr std::string_view kByName = "metadata.name|metadata.namespace";

const Kind kNamespaceKind{.group = "",
                          .version = "v1",
                          .kind = "Namespace",
                          .plural = "namespaces",
                          .singular = "namespace",
                          .short_names = "ns",
                          .categories = "",
                          .namespaced = false,
                          .message = &kNamespace,
                          .columns = kNamespaceColumns,
                          .field_selectors = "metadata.name|status.phase"};
const Kind kNodeKind{.group = "",
                     .version = "v1",
                     .kind = "Node",
                     .plural = "nodes",
                     .singular = "node",
                     .short_names = "no",
                     .categories = "",
                     .namespaced = false,
                     .status_by_host = true,
                     .message = &kNode,
                     .columns = kNodeColumns,
                     .field_selectors = "metadata.name|spec.unschedulable"};
const Kind kPodKind{.group = "",
                    .version = "v1",
                    .kind = "Pod",
                    .plural = "pods",
                    .singular = "pod",
                    .short_names = "po",
                    .categories = "all",
                    .status_by_host = true,
                    .message = &kPod,
                    .columns = kPodColumns,
                    .field_selectors =
                        "metadata.name|metadata.namespace|spec.nodeName|spec.restartPolicy|"
                        "status.phase|status.podIP"};
const Kind kServiceKind{.group = "",
                        .version = "v1",
                        .kind = "Service",
                        .plural = "services",
                        .singular = "service",
                        .short_names = "svc",
                        .categories = "all",
                        .message = &kService,
                        .columns = kServiceColumns,
                        .field_selectors =
                            "metadata.name|metadata.namespace|spec.clusterIP|spec.type"};
const Kind kEndpointsKind{.group = "",
                          .version = "v1",
                          .kind = "Endpoints",
                          .plural = "endpoints",
                          .singular = "endpoints",
                          .short_names = "ep",
                          .categories = "",
                          .message = &kEndpoints,
                          .columns = kEndpointsColumns,
                          .field_selectors = kByName};
const Kind kEventKind{.group = "",
                      .version = "v1",
                      .kind = "Event",
                      .plural = "events",
                      .singular = "event",
                      .short_names = "ev",
                      .categories = "",
                      .message = &kEvent,
                      .columns = kEventColumns,
                      .field_selectors =
                          "metadata.name|metadata.namespace|involvedObject.kind|"
                          "involvedObject.namespace|involvedObject.name|involvedObject.uid|"
                          "involvedObject.apiVersion|involvedObject.resourceVersion|"
                          "involvedObject.fieldPath|reason|reportingComponent|source|type"};
const Kind kDeploymentKind{.group = "apps",
                           .version = "v1",
                           .kind = "Deployment",
                           .plural = "deployments",
                           .singular = "deployment",
                           .short_names = "deploy",
                           .categories = "all",
                           .message = &kDeployment,
                           .columns = kDeploymentColumns,
                           .field_selectors = kByName};
const Kind kReplicaSetKind{.group = "apps",
                           .version = "v1",
                           .kind = "ReplicaSet",
                           .plural = "replicasets",
                           .singular = "replicaset",
                           .short_names = "rs",
                           .categories = "all",
                           .message = &kReplicaSet,
                           .columns = kReplicaSetColumns,
                           .field_selectors = "metadata.name|metadata.namespace|status.replicas"};
const Kind kEndpointSliceKind{.group = "discovery.k8s.io",
                              .version = "v1",
                              .kind = "EndpointSlice",
                              .plural = "endpointslices",
                              .singular = "endpointslice",
                              .short_names = "",
                              .categories = "",
                              .message = &kEndpointSlice,
                              .columns = kEndpointSliceColumns,
                              .field_selectors = kByName};

const Kind kConfigMapKind{.group = "",
                          .version = "v1",
                          .kind = "ConfigMap",
                          .plural = "configmaps",
                          .singular = "configmap",
                          .short_names = "cm",
                          .categories = "",
                          .message = &kConfigMap,
                          .columns = kConfigMapColumns,
                          .field_selectors = kByName};
const Kind kSecretKind{.group = "",
                       .version = "v1",
                       .kind = "Secret",
                       .plural = "secrets",
                       .singular = "secret",
                       .short_names = "",
                       .categories = "",
                       .message = &kSecret,
                       .columns = kSecretColumns,
                       .field_selectors = "metadata.name|metadata.namespace|type"};

const Kind kClaimKind{.group = "",
                      .version = "v1",
                      .kind = "PersistentVolumeClaim",
                      .plural = "persistentvolumeclaims",
                      .singular = "persistentvolumeclaim",
                      .short_names = "pvc",
                      .categories = "",
                      .message = &kPersistentVolumeClaim,
                      .columns = kPersistentVolumeClaimColumns,
                      .field_selectors = kByName};

constexpr std::array<const Kind*, 12> kKinds = {
    &kNamespaceKind,     &kNodeKind,      &kPodKind,        &kServiceKind,
    &kEndpointsKind,     &kEventKind,     &kDeploymentKind, &kReplicaSetKind,
    &kEndpointSliceKind, &kConfigMapKind, &kSecretKind,     &kClaimKind};

template <class Predicate>
const Kind* find_if(Predicate predicate) {
  const auto* found =
      std::find_if(kKinds.begin(), kKinds.end(), [&](const Kind* k) { return predicate(*k); });
  return found == kKinds.end() ? nullptr : *found;
}

}  // namespace

const Field* Message::find(std::string_view field) const {
  const auto found =
      std::find_if(fields.begin(), fields.end(), [&](const Field& f) { return f.name == field; });
  return found == fields.end() ? nullptr : &*found;
}

std::string Kind::resource() const {
  return group.empty() ? std::string(plural) : std::string(plural) + "." + std::string(group);
}

std::string Kind::api_version() const {
  return group.empty() ? std::string(version) : std::string(group) + "/" + std::string(version);
}

std::span<const Kind* const> all_kinds() { return kKinds; }

const Kind* find_kind(std::string_view api_version, std::string_view kind) {
  return find_if([&](const Kind& k) { return k.kind == kind && k.api_version() == api_version; });
}

const Kind* find_kind_by_plural(std::string_view group, std::string_view version,
                                std::string_view plural) {
  return find_if([&](const Kind& k) {
    return k.group == group && k.version == version && k.plural == plural;
  });
}

const Kind* find_kind_by_resource(std::string_view resource) {
  return find_if([&](const Kind& k) { return k.resource() == resource; });
}

const Kind* find_kind_by_word(std::string_view word) {
  const std::string lower = to_lower(word);
  return find_if([&](const Kind& k) {
    return k.plural == lower || k.singular == lower || k.resource() == lower ||
           one_of(lower, k.short_names);
  });
}

bool one_of(std::string_view value, std::string_view choices) {
  if (choices.empty())
    return false;
  const std::vector<std::string_view> list = split(choices, '|');
  return std::find(list.begin(), list.end(), value) != list.end();
}

}  // namespace shoal::api
