// SPDX-License-Identifier: Apache-2.0
// The store's values as JSON, for transactions that travel between hosts.
#include "agent/api/selector.h"
#include "agent/api/txn_forward.h"
#include "netplane/base/strings.h"

#include <fmt/format.h>

namespace shoal::api {
namespace json = boost::json;
using store::Event;
using store::Revision;
using store::Txn;
using store::TxnResult;

namespace {

std::unexpected<Error> bad(std::string_view what) {
  return fail(Errc::kCorrupt, fmt::format("transaction message: {}", what));
}

Result<const json::object*> object_of(const json::value& value, std::string_view what) {
  if (const json::object* object = value.if_object())
    return object;
  return bad(fmt::format("{} is not an object", what));
}

Result<std::string> string_of(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  if (!value || !value->is_string())
    return bad(fmt::format("\"{}\" is not a string", name));
  return std::string(value->get_string());
}

// Revisions are 64 bits: Boost.JSON gives small ones as int64.
Result<Revision> revision_of(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  if (value && value->is_int64() && value->get_int64() >= 0)
    return static_cast<Revision>(value->get_int64());
  if (value && value->is_uint64())
    return value->get_uint64();
  return bad(fmt::format("\"{}\" is not a revision", name));
}

Result<std::optional<std::string>> optional_value(const json::object& object) {
  if (!object.contains("value"))
    return std::optional<std::string>();
  return std::optional<std::string>(SHOAL_TRY(string_of(object, "value")));
}

json::array events_to_json(const std::vector<Event>& events) {
  json::array list;
  for (const Event& event : events)
    list.push_back(to_json(event));
  return list;
}

Result<std::vector<Event>> events_from_json(const json::object& object, std::string_view name) {
  std::vector<Event> events;
  const json::array* list = find_array(object, name);
  if (!list)
    return bad(fmt::format("\"{}\" is not a list", name));
  for (const json::value& item : *list)
    events.push_back(SHOAL_TRY(event_from_json(item)));
  return events;
}

}  // namespace

json::object to_json(const Event& event) {
  json::object object{{"key", event.key}};
  if (event.value)
    object["value"] = *event.value;
  object["create_revision"] = event.create_revision;
  object["revision"] = event.revision;
  return object;
}

Result<Event> event_from_json(const json::value& value) {
  const json::object& object = *SHOAL_TRY(object_of(value, "an event"));
  Event event;
  event.key = SHOAL_TRY(string_of(object, "key"));
  event.value = SHOAL_TRY(optional_value(object));
  event.create_revision = SHOAL_TRY(revision_of(object, "create_revision"));
  event.revision = SHOAL_TRY(revision_of(object, "revision"));
  return event;
}

json::object to_json(const Txn& txn) {
  json::array compares, ops;
  for (const store::Compare& compare : txn.compares)
    compares.push_back(json::object{{"key", compare.key}, {"mod_revision", compare.mod_revision}});
  for (const store::Op& op : txn.ops) {
    json::object item{{"key", op.key}};
    if (op.value)
      item["value"] = *op.value;
    ops.push_back(std::move(item));
  }
  return {{"compares", std::move(compares)}, {"ops", std::move(ops)}};
}

Result<Txn> txn_from_json(const json::value& value) {
  const json::object& object = *SHOAL_TRY(object_of(value, "a transaction"));
  Txn txn;
  const json::array* compares = find_array(object, "compares");
  const json::array* ops = find_array(object, "ops");
  if (!compares || !ops)
    return bad("\"compares\" and \"ops\" must be lists");
  for (const json::value& item : *compares) {
    const json::object& compare = *SHOAL_TRY(object_of(item, "a comparison"));
    txn.compares.push_back(
        {SHOAL_TRY(string_of(compare, "key")), SHOAL_TRY(revision_of(compare, "mod_revision"))});
  }
  for (const json::value& item : *ops) {
    const json::object& op = *SHOAL_TRY(object_of(item, "an operation"));
    std::string key = SHOAL_TRY(string_of(op, "key"));
    txn.ops.push_back({std::move(key), SHOAL_TRY(optional_value(op))});
  }
  return txn;
}

json::object to_json(const TxnResult& result) {
  json::array lost;
  for (const std::string& key : result.lost)
    lost.emplace_back(key);
  return {{"committed", result.committed},
          {"revision", result.revision},
          {"events", events_to_json(result.events)},
          {"lost", std::move(lost)},
          {"present", events_to_json(result.present)}};
}

Result<TxnResult> txn_result_from_json(const json::value& value) {
  const json::object& object = *SHOAL_TRY(object_of(value, "a result"));
  TxnResult result;
  const json::value* committed = object.if_contains("committed");
  if (!committed || !committed->is_bool())
    return bad("\"committed\" is not a boolean");
  result.committed = committed->get_bool();
  result.revision = SHOAL_TRY(revision_of(object, "revision"));
  result.events = SHOAL_TRY(events_from_json(object, "events"));
  result.present = SHOAL_TRY(events_from_json(object, "present"));
  const json::array* lost = find_array(object, "lost");
  if (!lost)
    return bad("\"lost\" is not a list");
  for (const json::value& key : *lost) {
    if (!key.is_string())
      return bad("a lost key is not a string");
    result.lost.emplace_back(key.get_string());
  }
  return result;
}

json::object to_json(const store::Snapshot& snapshot) {
  return {{"revision", snapshot.revision}, {"values", events_to_json(snapshot.values)}};
}

Result<store::Snapshot> snapshot_from_json(const json::value& value) {
  const json::object& object = *SHOAL_TRY(object_of(value, "a snapshot"));
  store::Snapshot snapshot;
  snapshot.revision = SHOAL_TRY(revision_of(object, "revision"));
  snapshot.values = SHOAL_TRY(events_from_json(object, "values"));
  return snapshot;
}

}  // namespace shoal::api
