// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/objects.h"

#include "agent/api/schema.h"

#include <fmt/format.h>

namespace shoal::fakes {

namespace json = boost::json;

store::ObjectPtr make_object(json::object body, store::Revision revision,
                             store::Revision create_revision) {
  auto object = std::make_shared<store::Object>();
  const api::Kind* kind =
      api::find_kind(api::find_string(body, "apiVersion"), api::find_string(body, "kind"));
  object->resource = kind ? kind->resource() : "unknown";
  json::object& metadata = body["metadata"].as_object();
  if (kind && kind->namespaced && !metadata.contains("namespace"))
    metadata["namespace"] = "default";
  object->name = api::find_string(body, "metadata.name");
  object->ns = api::find_string(body, "metadata.namespace");
  if (!metadata.contains("uid"))
    metadata["uid"] = "uid-" + object->name;
  metadata["resourceVersion"] = std::to_string(revision);
  object->uid = api::find_string(body, "metadata.uid");
  object->revision = revision;
  object->create_revision = create_revision ? create_revision : revision;
  object->body = std::move(body);
  return object;
}

store::ObjectPtr TestView::put(store::ObjectPtr object) {
  const auto before = view.get(object->resource, object->ns, object->name);
  view.apply({before ? store::ChangeKind::kModified : store::ChangeKind::kAdded, object, before});
  return object;
}

void TestView::remove(std::string_view resource, std::string_view ns, std::string_view name) {
  if (const auto before = view.get(resource, ns, name))
    view.apply({store::ChangeKind::kDeleted, before, before});
}

json::object pod(const PodSpec& spec) {
  json::object metadata{{"name", spec.name},
                        {"namespace", "default"},
                        {"labels", json::parse(spec.labels)},
                        {"creationTimestamp", spec.created}};
  if (!spec.owner.empty())
    metadata["ownerReferences"] = json::array{json::object{{"apiVersion", "apps/v1"},
                                                           {"kind", "ReplicaSet"},
                                                           {"name", spec.owner},
                                                           {"uid", "uid-" + spec.owner},
                                                           {"controller", true}}};
  if (spec.terminating)
    metadata["deletionTimestamp"] = "2026-01-01T00:01:00Z";
  json::object pod_spec{
      {"containers",
       json::array{json::object{
           {"name", "main"},
           {"image", "web:1"},
           {"ports", json::array{json::object{{"name", "http"}, {"containerPort", 8080}}}}}}}};
  json::object status{{"phase", spec.phase}};
  if (!spec.node.empty()) {
    pod_spec["nodeName"] = spec.node;
    status["conditions"] = json::array{json::object{{"type", "Ready"},
                                                    {"status", spec.ready ? "True" : "False"},
                                                    {"lastTransitionTime", spec.ready_since}}};
    status["containerStatuses"] = json::array{json::object{{"restartCount", spec.restarts}}};
  }
  if (!spec.ip.empty())
    status["podIP"] = spec.ip;
  if (spec.generation)
    status["shoalGeneration"] = spec.generation;
  return {{"apiVersion", "v1"},
          {"kind", "Pod"},
          {"metadata", metadata},
          {"spec", pod_spec},
          {"status", status}};
}

json::object node(std::string_view name, std::string_view cidr, std::string_view underlay,
                  bool ready) {
  return json_object(fmt::format(
      R"({{"apiVersion":"v1","kind":"Node","metadata":{{"name":"{0}","labels":{{"kubernetes.io/hostname":"{0}"}}}},
          "spec":{{"podCIDR":"{1}","podCIDRs":["{1}"]}},
          "status":{{"addresses":[{{"type":"InternalIP","address":"{2}"}}],
                     "conditions":[{{"type":"Ready","status":"{3}"}}]}}}})",
      name, cidr, underlay, ready ? "True" : "False"));
}

}  // namespace shoal::fakes
