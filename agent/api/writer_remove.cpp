// SPDX-License-Identifier: Apache-2.0
// Deletions, and Events (which come and go by themselves).
#include "agent/api/claims.h"
#include "agent/api/selector.h"
#include "agent/api/time_text.h"
#include "agent/api/writer_plan.h"
#include "netplane/base/hash.h"
#include "netplane/base/strings.h"

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

namespace shoal::api {
namespace json = boost::json;
namespace {

using store::ObjectPtr;
using namespace std::chrono_literals;

constexpr Duration kEventLife = 1h;          // as Kubernetes keeps them
constexpr std::size_t kEventsMax = 1000;     // a namespace
constexpr std::size_t kEventsSweptMax = 16;  // with each new one
constexpr std::size_t kEventMessageMax = 1024;

// The stored form of an object as the replica shows it.
json::object stored_body(const store::Replica& replica, const std::string& key) {
  const std::optional<store::Event> event = replica.value(key);
  boost::system::error_code error;
  json::value body = json::parse(*event->value, error);
  return std::move(body.get_object());
}

std::optional<std::string> content_of(const store::Replica& replica, std::string_view ns) {
  for (const Kind* kind : all_kinds())
    if (kind->namespaced)
      if (const auto objects = replica.list(kind->resource(), ns); !objects.empty())
        return fmt::format("{}/{}", kind->resource(), objects.front()->name);
  return std::nullopt;
}

void mark_deleted(const WriterEnv& env, json::object& body, std::int64_t grace_s) {
  json::object& meta = body["metadata"].get_object();
  meta["deletionTimestamp"] = rfc3339(env.clock.wall() + std::chrono::seconds(grace_s));
  meta["deletionGracePeriodSeconds"] = grace_s;
  meta["generation"] = find_int(body, "metadata.generation", 0) + 1;
}

// First marked, so that nothing new is put in; gone once this replica has everything that was in it
// before the mark and finds it empty.
PlanResult plan_remove_namespace(const WriterEnv& env, WritePlan plan, const ObjectPtr& object) {
  if (object->name == "default" || object->name == "kube-system")
    return std::unexpected(ApiError{
        403,
        "Forbidden",
        fmt::format("namespaces \"{0}\" is forbidden: {0} cannot be deleted", object->name),
        {}});
  const bool marked = !find_string(object->body, "metadata.deletionTimestamp").empty();
  if (!marked) {
    json::object body = stored_body(env.replica, plan.key);
    mark_deleted(env, body, 0);
    body["status"] = json::object{{"phase", "Terminating"}};
    plan.txn.ops.push_back({plan.key, json::serialize(body)});
    return plan;
  }
  if (env.replica.revision() >= object->revision && !content_of(env.replica, object->name))
    plan.txn.ops.push_back({plan.key, std::nullopt});
  else
    plan.txn = {};  // its contents are still going: asked again by the namespace controller
  return plan;
}

// First marked, so that no pod begins to use it; gone once no pod does.
PlanResult plan_remove_claim(const WriterEnv& env, WritePlan plan, const ObjectPtr& object) {
  if (find_string(object->body, "metadata.deletionTimestamp").empty()) {
    json::object body = stored_body(env.replica, plan.key);
    mark_deleted(env, body, 0);
    plan.txn.ops.push_back({plan.key, json::serialize(body)});
    return plan;
  }
  const auto pods = env.replica.list("pods", object->ns);
  const bool held = std::ranges::any_of(
      pods, [&](const ObjectPtr& pod) { return holds_claim(pod->body, object->name); });
  if (env.replica.revision() >= object->revision && !held)
    plan.txn.ops.push_back({plan.key, std::nullopt});
  else
    plan.txn = {};  // asked again by the claims' controller
  return plan;
}

// Nothing: remove it now. Otherwise the grace that its host is to be given.
std::optional<std::int64_t> grace_of(const ObjectPtr& pod, std::optional<std::int64_t> asked) {
  const std::int64_t grace =
      asked ? *asked : find_int(pod->body, "spec.terminationGracePeriodSeconds", 30);
  const std::string_view phase = find_string(pod->body, "status.phase");
  const bool ended = phase == "Succeeded" || phase == "Failed";
  if (find_string(pod->body, "spec.nodeName").empty() || ended || grace <= 0)
    return std::nullopt;
  return grace;
}

void sweep_events(const WriterEnv& env, std::string_view ns, store::Txn& txn) {
  const std::vector<ObjectPtr> events = env.replica.list("events", ns);
  const WallTime now = env.clock.wall();
  std::vector<std::pair<WallTime, ObjectPtr>> by_age;
  for (const ObjectPtr& event : events)
    by_age.emplace_back(parse_time(find_string(event->body, "lastTimestamp")).value_or(WallTime{}),
                        event);
  std::sort(by_age.begin(), by_age.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  std::size_t left = by_age.size();
  for (const auto& [last, event] : by_age) {
    if (txn.ops.size() > kEventsSweptMax || (now - last < kEventLife && left < kEventsMax))
      return;
    const std::string key = store::object_key("events", ns, event->name);
    const bool mine = std::any_of(txn.ops.begin(), txn.ops.end(),
                                  [&](const store::Op& op) { return op.key == key; });
    if (mine)
      continue;
    txn.ops.push_back({key, std::nullopt});
    --left;
  }
}

}  // namespace

PlanResult plan_remove(const WriterEnv& env, const Kind& kind, std::string_view ns,
                       std::string_view name, const Preconditions& preconditions,
                       std::optional<std::int64_t> grace_seconds) {
  const ObjectPtr object = env.replica.get(kind.resource(), ns, name);
  if (!object)
    return std::unexpected(not_found_error(kind, name));
  const bool other_life = preconditions.uid && *preconditions.uid != object->uid;
  if (other_life || (preconditions.revision && *preconditions.revision != object->revision))
    return std::unexpected(ApiError{
        409,
        "Conflict",
        fmt::format("Operation cannot be fulfilled on {} \"{}\": Precondition failed: {}",
                    kind.resource(), name,
                    other_life ? fmt::format("UID in precondition: {}, UID in object meta: {}",
                                             *preconditions.uid, object->uid)
                               : fmt::format("ResourceVersion in precondition: {}, in object "
                                             "meta: {}",
                                             *preconditions.revision, object->revision)),
        {}});
  WritePlan plan;
  plan.key = store::object_key(kind.resource(), ns, name);
  plan.last = object;
  plan.txn.compares.push_back({plan.key, object->revision});
  if (kind.kind == "Namespace")
    return plan_remove_namespace(env, std::move(plan), object);
  if (kind.kind == "PersistentVolumeClaim")
    return plan_remove_claim(env, std::move(plan), object);
  if (kind.kind == "Pod") {
    if (const std::optional<std::int64_t> grace = grace_of(object, grace_seconds)) {
      const bool marked = !find_string(object->body, "metadata.deletionTimestamp").empty();
      const std::int64_t present = find_int(object->body, "metadata.deletionGracePeriodSeconds", 0);
      if (marked && *grace >= present) {  // a second deletion may only shorten the grace
        plan.txn = {};
        return plan;
      }
      json::object body = stored_body(env.replica, plan.key);
      mark_deleted(env, body, *grace);
      plan.txn.ops.push_back({plan.key, json::serialize(body)});
      return plan;
    }
  }
  plan.txn.ops.push_back({plan.key, std::nullopt});
  if (kind.kind == "Service")
    free_allocations(object->body, plan.txn);
  return plan;
}

PlanResult plan_event(const WriterEnv& env, const store::Object& about, std::string_view type,
                      std::string_view reason, std::string_view message,
                      std::string_view component) {
  const std::string ns = about.ns.empty() ? "default" : about.ns;
  const std::string now = rfc3339(env.clock.wall());
  // The same happening has the same name, whichever host sees it.
  const std::string text = printable(message, kEventMessageMax);
  const std::uint64_t hash = hash64(fmt::format("{}\n{}\n{}\n{}", about.uid, type, reason, text));
  const std::string name = fmt::format("{}.{:016x}", about.name.substr(0, 200), hash);
  WritePlan plan;
  plan.key = store::object_key("events", ns, name);
  json::object body;
  if (const std::optional<store::Event> event = env.replica.value(plan.key)) {
    body = stored_body(env.replica, plan.key);
    body["count"] = find_int(body, "count", 1) + 1;
    body["lastTimestamp"] = now;
    plan.txn.compares.push_back({plan.key, event->revision});
  } else {
    const Kind* kind = find_kind_by_resource(about.resource);
    body = json::object{
        {"apiVersion", "v1"},
        {"kind", "Event"},
        {"metadata", json::object{{"name", name},
                                  {"namespace", ns},
                                  {"uid", make_uid(env.random)},
                                  {"creationTimestamp", now}}},
        {"involvedObject", json::object{{"apiVersion", kind ? kind->api_version() : ""},
                                        {"kind", kind ? kind->kind : std::string_view{}},
                                        {"namespace", about.ns},
                                        {"name", about.name},
                                        {"uid", about.uid},
                                        {"resourceVersion", std::to_string(about.revision)}}},
        {"reason", reason},
        {"message", text},
        {"type", type},
        {"source", json::object{{"component", component}}},
        {"reportingComponent", component},
        {"firstTimestamp", now},
        {"lastTimestamp", now},
        {"count", 1}};
    plan.txn.compares.push_back({plan.key, 0});
  }
  plan.txn.ops.push_back({plan.key, json::serialize(body)});
  sweep_events(env, ns, plan.txn);
  return plan;
}

}  // namespace shoal::api
