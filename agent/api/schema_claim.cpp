// SPDX-License-Identifier: Apache-2.0
// PersistentVolumeClaim: see claims.h for what becomes of one. The storage that it requests says
// what its pods need and bounds nothing: a folder has no size of its own.
#include "agent/api/claims.h"
#include "agent/api/quantity.h"
#include "agent/api/schema_tables.h"
#include "agent/api/selector.h"

#include <algorithm>

namespace shoal::api {
namespace json = boost::json;
namespace {

constexpr Field kStorageFields[] = {{.name = "storage", .type = FieldType::kQuantity}};
const Message kStorage{"ResourceList", kStorageFields};
constexpr Field kResourcesFields[] = {part("requests", kStorage), later("limits")};
const Message kResources{"VolumeResourceRequirements", kResourcesFields};

constexpr Field kClaimSpecFields[] = {
    {.name = "accessModes",
     .list = ListType::kAtomic,
     .values = "ReadWriteOnce|ReadWriteOncePod",
     .values_later = "ReadOnlyMany|ReadWriteMany"},
    part("resources", kResources),
    {.name = "storageClassName", .fallback = "\"shoal-local\"", .values = "shoal-local"},
    {.name = "volumeMode",
     .fallback = "\"Filesystem\"",
     .values = "Filesystem",
     .values_later = "Block"},
    later("dataSource"),
    later("dataSourceRef"),
    later("selector"),
    later("volumeAttributesClassName"),
    later("volumeName"),
};
void check_claim_spec(const json::object& spec, std::string_view path, Causes& causes) {
  const json::array* modes = find_array(spec, "accessModes");
  if (!modes || modes->empty())
    causes.required(child_path(path, "accessModes"), "at least 1 access mode is required");
  else if (modes->size() > 1 &&
           std::ranges::find(*modes, json::value("ReadWriteOncePod")) != modes->end())
    causes.add(child_path(path, "accessModes"), "FieldValueForbidden",
               "Forbidden: may not use ReadWriteOncePod with other access modes");
  const std::string at = child_path(path, "resources[storage]");
  const std::string_view storage = find_string(spec, "resources.requests.storage");
  if (storage.empty())
    causes.required(at);
  else if (const auto bytes = parse_quantity(storage); bytes && *bytes == 0)
    causes.invalid(at, json::string(storage), "must be greater than zero");
  // "" is Kubernetes' word for a volume that somebody made by hand.
  if (const json::value* name = spec.if_contains("storageClassName");
      name && *name == json::value(""))
    causes.not_supported(child_path(path, "storageClassName"), *name, kLocalStorageClass);
}
const Message kClaimSpec{
    .name = "PersistentVolumeClaimSpec", .fields = kClaimSpecFields, .check = check_claim_spec};

constexpr Field kClaimFields[] = {
    {.name = "apiVersion"},
    {.name = "kind"},
    part("metadata", kClaimMeta, true),
    part("spec", kClaimSpec, true),
    hint("status", FieldType::kJson),
};

}  // namespace

void compare_claims(const json::object& before, const json::object& after, Causes& causes) {
  if (*find_object(before, "spec") != *find_object(after, "spec"))
    causes.add("spec", "FieldValueForbidden",
               "Forbidden: spec is immutable after creation: claims cannot be resized yet");
  const std::string_view node = selected_node(before);
  if (!node.empty() && selected_node(after) != node)
    causes.invalid(child_path("metadata.annotations", kSelectedNode),
                   json::string(selected_node(after)),
                   "field is immutable: the claim's folder is on that host and never moves");
}

const Message kPersistentVolumeClaim{"PersistentVolumeClaim", kClaimFields};

}  // namespace shoal::api
