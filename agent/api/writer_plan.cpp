// SPDX-License-Identifier: Apache-2.0
#include "agent/api/writer_plan.h"

#include "agent/api/claims.h"
#include "agent/api/drain_timeout.h"
#include "agent/api/pod_security.h"
#include "agent/api/selector.h"
#include "agent/api/time_text.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace shoal::api {
namespace json = boost::json;
namespace {

using store::ObjectPtr;

constexpr std::string_view kNameAlphabet = "bcdfghjklmnpqrstvwxz2456789";  // Kubernetes': no words
constexpr std::size_t kGeneratedDigits = 5;
constexpr std::size_t kGeneratedBaseMax = 58;

// What the server owns in metadata: taken from the stored object on every update.
constexpr std::string_view kServerMeta[] = {"uid",
                                            "creationTimestamp",
                                            "generation",
                                            "deletionTimestamp",
                                            "deletionGracePeriodSeconds",
                                            "generateName"};

ApiError conflict(const Kind& kind, std::string_view name, std::string_view why) {
  return {409,
          "Conflict",
          fmt::format("Operation cannot be fulfilled on {} \"{}\": {}", kind.resource(), name, why),
          {}};
}

json::object& metadata_of(json::object& body) {
  json::value& metadata = body["metadata"];
  if (!metadata.is_object())
    metadata.emplace_object();
  return metadata.get_object();
}

// The object as the store has it: without resourceVersion, and with its own status, not the one
// that its host reports.
struct Stored {
  store::Event event;
  json::object body;
};
std::optional<Stored> stored_of(const store::Replica& replica, const std::string& key) {
  std::optional<store::Event> event = replica.value(key);
  if (!event || !event->value)
    return std::nullopt;
  boost::system::error_code error;
  json::value body = json::parse(*event->value, error);
  if (error || !body.is_object())
    return std::nullopt;
  return Stored{std::move(*event), std::move(body.get_object())};
}

std::expected<Stored, ApiError> present(const WriterEnv& env, const Kind& kind, std::string_view ns,
                                        std::string_view name) {
  std::optional<Stored> stored =
      stored_of(env.replica, store::object_key(kind.resource(), ns, name));
  if (!stored)
    return std::unexpected(not_found_error(kind, name));
  return std::move(*stored);
}

std::expected<void, ApiError> check_identity(const Kind& kind, const Stored& stored,
                                             std::string_view name, std::string_view uid,
                                             std::string_view revision) {
  if (!uid.empty() && uid != find_string(stored.body, "metadata.uid"))
    return std::unexpected(
        conflict(kind, name,
                 fmt::format("Precondition failed: UID in precondition: {}, UID in object meta: {}",
                             uid, find_string(stored.body, "metadata.uid"))));
  if (!revision.empty() && revision != std::to_string(stored.event.revision))
    return std::unexpected(conflict(kind, name,
                                    "the object has been modified; please apply your changes to "
                                    "the latest version and try again"));
  return {};
}

std::string scope_of(const Kind& kind, const json::object& body) {
  if (!kind.namespaced)
    return {};
  const std::string_view ns = find_string(body, "metadata.namespace");
  return std::string(ns.empty() ? "default" : ns);
}

// Its namespace says what a pod may ask for.
std::expected<void, ApiError> check_pod_security(const json::object& pod, std::string_view ns_name,
                                                 const json::object& ns) {
  const json::object* spec = find_object(pod, "spec");
  const PodSecurityLevel level = pod_security_level(ns);
  const auto violations = spec ? pod_security_violations(*spec, level) : std::vector<std::string>{};
  if (violations.empty())
    return {};
  const std::string mend =
      level == PodSecurityLevel::kUnlabelled
          ? fmt::format("; to allow it, label the namespace: {}=privileged", kPodSecurityLabel)
          : "";
  return std::unexpected(
      ApiError{403,
               "Forbidden",
               fmt::format("pods \"{}\" is forbidden: violates PodSecurity \"{}\" of namespace {}: "
                           "{}{}",
                           find_string(pod, "metadata.name"), to_string(level), ns_name,
                           fmt::join(violations, ", "), mend),
               {}});
}

// A new object's namespace must be there when the transaction commits, and not on its way out.
std::expected<void, ApiError> hold_namespace(const WriterEnv& env, const Kind& kind,
                                             std::string_view ns, const json::object& body,
                                             store::Txn& txn) {
  if (!kind.namespaced)
    return {};
  const std::string key = store::object_key("namespaces", {}, ns);
  const std::optional<Stored> stored = stored_of(env.replica, key);
  if (!stored)
    return std::unexpected(
        ApiError{404, "NotFound", fmt::format("namespaces \"{}\" not found", ns), {}});
  if (!find_string(stored->body, "metadata.deletionTimestamp").empty())
    return std::unexpected(ApiError{
        403,
        "Forbidden",
        fmt::format("{} \"{}\" is forbidden: unable to create new content in namespace {} because "
                    "it is being terminated",
                    kind.resource(), find_string(body, "metadata.name"), ns),
        {}});
  txn.compares.push_back({key, stored->event.revision});
  return kind.kind == "Pod" ? check_pod_security(body, ns, stored->body)
                            : std::expected<void, ApiError>();
}

json::value initial_status(const Kind& kind) {
  if (kind.kind == "Pod")
    return json::object{{"phase", "Pending"}};
  if (kind.kind == "Namespace")
    return json::object{{"phase", "Active"}};
  if (kind.kind == "PersistentVolumeClaim")
    return json::object{{"phase", "Pending"}};
  if (kind.message->find("status"))
    return json::object{};
  return nullptr;
}

// Equal but for metadata and status: then the generation stays.
bool same_desire(const json::object& a, const json::object& b) {
  const auto covered = [](const json::object& one, const json::object& other) {
    for (const auto& [name, value] : one) {
      if (name == "metadata" || name == "status")
        continue;
      const json::value* found = other.if_contains(name);
      if (!found || *found != value)
        return false;
    }
    return true;
  };
  return covered(a, b) && covered(b, a);
}

// What the server wrote into a claim, and whoever writes the claim as he knows it leaves out.
void keep_claim_meta(const json::object& before, json::object& meta) {
  meta["finalizers"] = json::array{kClaimFinalizer};
  const std::string_view node = selected_node(before);
  if (node.empty())
    return;
  json::value& annotations = meta["annotations"];
  if (!annotations.is_object())
    annotations.emplace_object();
  annotations.get_object().insert({{kSelectedNode, node}});
}

// The admitted new body against the stored one; the end of update and patch.
PlanResult finish_update(const WriterEnv& env, const Kind& kind, const Stored& stored,
                         json::object body) {
  const std::string ns = scope_of(kind, stored.body);
  const std::string_view name = find_string(stored.body, "metadata.name");
  if (kind.kind == "Service")
    carry_over(stored.body, body);
  fill_defaults(kind, body);
  json::object& meta = metadata_of(body);
  const json::object& old_meta = stored.body.at("metadata").get_object();
  for (const std::string_view field : kServerMeta)
    if (const json::value* value = old_meta.if_contains(field))
      meta[field] = *value;
    else
      meta.erase(field);
  for (const std::string_view field : {"resourceVersion", "managedFields", "selfLink"})
    meta.erase(field);
  if (kind.kind == "PersistentVolumeClaim")
    keep_claim_meta(stored.body, meta);
  if (const json::value* status = stored.body.if_contains("status"))
    body["status"] = *status;
  if (auto valid = validate(kind, body); !valid)
    return std::unexpected(std::move(valid.error()));
  // What an earlier build stored lacks the defaults of later fields: that is no change.
  json::object before = stored.body;
  fill_defaults(kind, before);
  if (auto valid = validate_update(kind, before, body); !valid)
    return std::unexpected(std::move(valid.error()));

  WritePlan plan;
  plan.key = store::object_key(kind.resource(), ns, name);
  if (kind.kind == "Service") {
    if (auto done = plan_allocations(env, kind, &stored.body, body, plan); !done)
      return std::unexpected(std::move(done.error()));
    stamp_zero_weights(&stored.body, body, env.clock.wall());
    plan.warnings = weight_warnings(env.replica, ns, body);
  }
  if (!same_desire(before, body))
    metadata_of(body)["generation"] = find_int(stored.body, "metadata.generation", 0) + 1;
  if (body == stored.body) {
    plan.last = env.replica.get(kind.resource(), ns, name);
    plan.txn = {};
    return plan;
  }
  plan.txn.compares.push_back({plan.key, stored.event.revision});
  plan.txn.ops.push_back({plan.key, json::serialize(body)});
  return plan;
}

}  // namespace

std::string make_uid(Random& random) {
  std::uint8_t bytes[16];
  random.fill(bytes);
  bytes[6] = static_cast<std::uint8_t>((bytes[6] & 0x0f) | 0x40);
  bytes[8] = static_cast<std::uint8_t>((bytes[8] & 0x3f) | 0x80);
  const std::string digits = hex(std::string_view(reinterpret_cast<const char*>(bytes), 16));
  return fmt::format("{}-{}-{}-{}-{}", digits.substr(0, 8), digits.substr(8, 4),
                     digits.substr(12, 4), digits.substr(16, 4), digits.substr(20));
}

void merge_json(json::value& target, const json::value& patch) {
  if (!patch.is_object()) {
    target = patch;
    return;
  }
  if (!target.is_object())
    target.emplace_object();
  for (const auto& [name, value] : patch.get_object()) {
    if (value.is_null())
      target.get_object().erase(name);
    else
      merge_json(target.get_object()[name], value);
  }
}

PlanResult plan_create(const WriterEnv& env, const Kind& kind, const json::object& admitted) {
  json::object body = admitted;
  json::object& meta = metadata_of(body);
  const std::string ns = scope_of(kind, body);
  std::string name(find_string(body, "metadata.name"));
  if (name.empty()) {
    name = find_string(body, "metadata.generateName").substr(0, kGeneratedBaseMax);
    for (std::size_t i = 0; i < kGeneratedDigits; ++i)
      name += kNameAlphabet[env.random.below(kNameAlphabet.size())];
  }
  if (!find_string(body, "metadata.resourceVersion").empty())
    return std::unexpected(
        bad_request("resourceVersion should not be set on objects to be created"));
  for (const std::string_view field : {"resourceVersion", "managedFields", "selfLink",
                                       "deletionTimestamp", "deletionGracePeriodSeconds"})
    meta.erase(field);
  meta["name"] = name;
  if (kind.namespaced)
    meta["namespace"] = ns;
  meta["uid"] = make_uid(env.random);
  meta["creationTimestamp"] = rfc3339(env.clock.wall());
  meta["generation"] = 1;
  if (kind.kind == "PersistentVolumeClaim")
    meta["finalizers"] = json::array{kClaimFinalizer};
  if (json::value status = initial_status(kind); !status.is_null())
    body["status"] = std::move(status);
  if (auto valid = validate(kind, body); !valid)
    return std::unexpected(std::move(valid.error()));

  WritePlan plan;
  plan.key = store::object_key(kind.resource(), ns, name);
  if (auto held = hold_namespace(env, kind, ns, body, plan.txn); !held)
    return std::unexpected(std::move(held.error()));
  if (env.replica.value(plan.key))
    return std::unexpected(ApiError{
        409, "AlreadyExists", fmt::format("{} \"{}\" already exists", kind.resource(), name), {}});
  if (kind.kind == "Service") {
    if (auto done = plan_allocations(env, kind, nullptr, body, plan); !done)
      return std::unexpected(std::move(done.error()));
    stamp_zero_weights(nullptr, body, env.clock.wall());
    plan.warnings = weight_warnings(env.replica, ns, body);
  }
  plan.txn.compares.push_back({plan.key, 0});
  plan.txn.ops.push_back({plan.key, json::serialize(body)});
  return plan;
}

PlanResult plan_update(const WriterEnv& env, const Kind& kind, const json::object& body) {
  const std::string_view name = find_string(body, "metadata.name");
  auto stored = present(env, kind, scope_of(kind, body), name);
  if (!stored)
    return std::unexpected(std::move(stored.error()));
  if (auto same = check_identity(kind, *stored, name, find_string(body, "metadata.uid"),
                                 find_string(body, "metadata.resourceVersion"));
      !same)
    return std::unexpected(std::move(same.error()));
  json::object complete = body;
  if (kind.namespaced)
    metadata_of(complete)["namespace"] = scope_of(kind, body);
  return finish_update(env, kind, *stored, std::move(complete));
}

PlanResult plan_status(const WriterEnv& env, const Kind& kind, const json::object& body) {
  const std::string_view name = find_string(body, "metadata.name");
  const std::string ns = scope_of(kind, body);
  auto stored = present(env, kind, ns, name);
  if (!stored)
    return std::unexpected(std::move(stored.error()));
  if (auto same = check_identity(kind, *stored, name, find_string(body, "metadata.uid"),
                                 find_string(body, "metadata.resourceVersion"));
      !same)
    return std::unexpected(std::move(same.error()));
  const bool bound = kind.kind == "Node" || !find_string(stored->body, "spec.nodeName").empty();
  if (kind.status_by_host && bound)
    return std::unexpected(ApiError{
        405,
        "MethodNotAllowed",
        fmt::format("the status of {} \"{}\" is reported by its host and cannot be written",
                    kind.resource(), name),
        {}});
  const json::value* given = body.if_contains("status");
  json::object status = given && given->is_object() ? given->get_object() : json::object();
  if (kind.kind == "Service")
    settle_load_balancer_status(stored->body, status);
  WritePlan plan;
  plan.key = store::object_key(kind.resource(), ns, name);
  json::object changed = stored->body;
  changed["status"] = std::move(status);
  if (changed == stored->body) {
    plan.last = env.replica.get(kind.resource(), ns, name);
    return plan;
  }
  plan.txn.compares.push_back({plan.key, stored->event.revision});
  plan.txn.ops.push_back({plan.key, json::serialize(changed)});
  return plan;
}

PlanResult plan_merge_patch(const WriterEnv& env, const Kind& kind, std::string_view ns,
                            std::string_view name, const json::object& patch) {
  auto stored = present(env, kind, ns, name);
  if (!stored)
    return std::unexpected(std::move(stored.error()));
  if (auto same = check_identity(kind, *stored, name, find_string(patch, "metadata.uid"),
                                 find_string(patch, "metadata.resourceVersion"));
      !same)
    return std::unexpected(std::move(same.error()));
  json::value merged = stored->body;
  merge_json(merged, patch);
  json::object& body = merged.get_object();
  if (find_string(body, "metadata.name") != name ||
      (kind.namespaced && find_string(body, "metadata.namespace") != ns) ||
      find_string(body, "kind") != kind.kind ||
      find_string(body, "apiVersion") != kind.api_version())
    return std::unexpected(bad_request(
        "a patch may not change apiVersion, kind, metadata.name or metadata.namespace"));
  if (auto checked = check_document(kind, body); !checked)
    return std::unexpected(std::move(checked.error()));
  return finish_update(env, kind, *stored, std::move(body));
}

}  // namespace shoal::api
