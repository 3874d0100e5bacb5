// SPDX-License-Identifier: Apache-2.0
// Metadata, selectors and references: what all kinds share.
#include "agent/api/claims.h"
#include "agent/api/schema_tables.h"
#include "agent/api/selector.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>

namespace shoal::api {
namespace json = boost::json;
namespace {

constexpr std::size_t kAnnotationsBytesMax = 256 << 10;  // Kubernetes' total

constexpr Field kOwnerReferenceFields[] = {
    {.name = "apiVersion", .required = true},
    {.name = "kind", .required = true},
    {.name = "name", .required = true},
    {.name = "uid", .required = true},
    {.name = "controller", .type = FieldType::kBool},
    hint("blockOwnerDeletion", FieldType::kBool),  // deletion in the foreground is not there yet
};
const Message kOwnerReference{"OwnerReference", kOwnerReferenceFields};

constexpr Field kObjectMetaFields[] = {
    {.name = "name"},
    {.name = "generateName"},
    {.name = "namespace"},
    {.name = "labels", .type = FieldType::kStringMap},
    {.name = "annotations", .type = FieldType::kStringMap},
    {.name = "ownerReferences",
     .type = FieldType::kMessage,
     .message = &kOwnerReference,
     .list = ListType::kMap,
     .list_keys = "uid"},
    later("finalizers"),
    // The server's own: given values are replaced (uid and resourceVersion are compared first).
    hint("uid"),
    hint("resourceVersion"),
    hint("generation", FieldType::kInt64),
    hint("creationTimestamp", FieldType::kTime),
    hint("deletionTimestamp", FieldType::kTime),
    hint("deletionGracePeriodSeconds", FieldType::kInt64),
    hint("selfLink"),
    hints("managedFields", FieldType::kJson),
};

void check_meta_maps(const json::object& meta, std::string_view path, Causes& causes) {
  if (const json::object* labels = find_object(meta, "labels"))
    check_label_map(*labels, child_path(path, "labels"), causes);
  const json::object* annotations = find_object(meta, "annotations");
  if (!annotations)
    return;
  std::size_t bytes = 0;
  for (const auto& [key, value] : *annotations) {
    if (std::string problem = label_key_problem(key); !problem.empty())
      causes.invalid(child_path(path, "annotations"), json::string(key), problem);
    bytes += key.size() + (value.is_string() ? value.get_string().size() : 0);
  }
  if (bytes > kAnnotationsBytesMax)
    causes.add(child_path(path, "annotations"), "FieldValueTooLong",
               fmt::format("Too long: must have at most {} bytes", kAnnotationsBytesMax));
}

void check_meta(const json::object& meta, std::string_view path, Causes& causes) {
  if (find_string(meta, "name").empty() && find_string(meta, "generateName").empty())
    causes.required(child_path(path, "name"), "name or generateName is required");
  check_meta_maps(meta, path, causes);
}

// A claim has a finalizer, which is the server's own.
constexpr auto kClaimMetaFields = [] {
  std::array<Field, std::size(kObjectMetaFields)> fields{};
  std::ranges::copy(kObjectMetaFields, fields.begin());
  for (Field& field : fields)
    if (field.name == "finalizers")
      field = {.name = "finalizers", .list = ListType::kSet, .values = kClaimFinalizer};
  return fields;
}();

constexpr Field kTemplateMetaFields[] = {
    {.name = "labels", .type = FieldType::kStringMap},
    {.name = "annotations", .type = FieldType::kStringMap},
    // Kubernetes takes these in templates and makes nothing of them.
    hint("name"),
    hint("namespace"),
    hint("creationTimestamp", FieldType::kTime),
    later("finalizers"),
    later("ownerReferences"),
};

constexpr Field kRequirementFields[] = {
    {.name = "key", .required = true, .check = check_label_key},
    {.name = "operator", .required = true, .values = "In|NotIn|Exists|DoesNotExist"},
    {.name = "values", .list = ListType::kAtomic},
};
void check_requirement(const json::object& requirement, std::string_view path, Causes& causes) {
  const std::string_view op = find_string(requirement, "operator");
  const json::array* values = find_array(requirement, "values");
  const bool any = values && !values->empty();
  if ((op == "In" || op == "NotIn") && !any)
    causes.required(child_path(path, "values"),
                    "must be specified when `operator` is 'In' or 'NotIn'");
  if ((op == "Exists" || op == "DoesNotExist") && any)
    causes.add(child_path(path, "values"), "FieldValueForbidden",
               "Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
}
const Message kRequirement{
    .name = "LabelSelectorRequirement", .fields = kRequirementFields, .check = check_requirement};

constexpr Field kSelectorFields[] = {
    {.name = "matchLabels", .type = FieldType::kStringMap},
    {.name = "matchExpressions",
     .type = FieldType::kMessage,
     .message = &kRequirement,
     .list = ListType::kAtomic},
};

constexpr Field kObjectReferenceFields[] = {
    {.name = "apiVersion"}, {.name = "kind"}, {.name = "namespace"},
    {.name = "name"},       {.name = "uid"},  {.name = "resourceVersion"},
    {.name = "fieldPath"},
};

}  // namespace

void check_label_map(const json::object& labels, std::string_view path, Causes& causes) {
  for (const auto& [key, value] : labels) {
    if (std::string problem = label_key_problem(key); !problem.empty())
      causes.invalid(std::string(path), json::string(key), problem);
    if (value.is_string())
      if (std::string problem = label_value_problem(value.get_string()); !problem.empty())
        causes.invalid(std::string(path), value, problem);
  }
}

void check_selector(const json::object& selector, std::string_view path, Causes& causes) {
  if (const json::object* labels = find_object(selector, "matchLabels"))
    check_label_map(*labels, child_path(path, "matchLabels"), causes);
}

void check_workload_selector(const json::object& spec, std::string_view path, std::string_view kind,
                             Causes& causes) {
  const json::object* selector = find_object(spec, "selector");
  if (!selector)
    return;  // required: said by the table
  const Result<LabelSelector> parsed = LabelSelector::from_json(*selector);
  if (!parsed)
    return;
  if (parsed->selects_all()) {
    causes.invalid(child_path(path, "selector"), *selector,
                   fmt::format("empty selector is invalid for {}", kind));
    return;
  }
  const json::object* labels = find_object(spec, "template.metadata.labels");
  if (!parsed->matches(labels))
    causes.invalid(child_path(path, "template.metadata.labels"),
                   labels ? json::value(*labels) : json::value(json::object()),
                   "`selector` does not match template `labels`");
}

const Message kObjectMeta{.name = "ObjectMeta", .fields = kObjectMetaFields, .check = check_meta};
const Message kClaimMeta{.name = "ObjectMeta", .fields = kClaimMetaFields, .check = check_meta};
const Message kTemplateMeta{
    .name = "ObjectMeta", .fields = kTemplateMetaFields, .check = check_meta_maps};
const Message kSelector{
    .name = "LabelSelector", .fields = kSelectorFields, .check = check_selector};
const Message kObjectReference{.name = "ObjectReference", .fields = kObjectReferenceFields};

}  // namespace shoal::api
