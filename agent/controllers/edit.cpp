// SPDX-License-Identifier: Apache-2.0
#include "agent/controllers/edit.h"

namespace shoal::controllers {

namespace json = boost::json;

json::object& sub_object(json::object& parent, std::string_view key) {
  json::value& member = parent[key];
  if (!member.is_object())
    member.emplace_object();
  return member.get_object();
}

namespace {

json::object* find_condition(json::array& conditions, std::string_view type) {
  for (json::value& entry : conditions)
    if (entry.is_object() && api::find_string(entry.get_object(), "type") == type)
      return &entry.get_object();
  return nullptr;
}

}  // namespace

bool set_condition(json::array& conditions, std::string_view type, std::string_view status,
                   std::string_view reason, std::string_view message, WallTime now, bool touch) {
  json::object* present = find_condition(conditions, type);
  if (!present) {
    conditions.emplace_back(json::object{{"type", type}});
    present = &conditions.back().get_object();
  }
  const bool same_status = api::find_string(*present, "status") == status;
  const bool same = same_status && api::find_string(*present, "reason") == reason &&
                    api::find_string(*present, "message") == message;
  if (same && !touch)
    return false;
  if (!same_status)
    (*present)["lastTransitionTime"] = rfc3339(now);
  if (touch || present->contains("lastUpdateTime"))
    (*present)["lastUpdateTime"] = rfc3339(now);
  (*present)["status"] = status;
  (*present)["reason"] = reason;
  (*present)["message"] = message;
  return !same;
}

json::array conditions_of(const Object& object) {
  const auto* list = api::find_array(object.body, "status.conditions");
  return list ? *list : json::array();
}

json::object with_status(const Object& object, json::object status) {
  json::object body = object.body;
  sub_object(body, "metadata").erase("resourceVersion");
  body["status"] = std::move(status);
  return body;
}

namespace {

Update with_owner(const Object& child, const Object& owner) {
  json::object body = child.body;
  json::value& owners = sub_object(body, "metadata")["ownerReferences"];
  if (!owners.is_array())
    owners.emplace_array();
  owners.get_array().emplace_back(view::controller_ref(owner));
  return {std::move(body)};
}

Update without_owner(const Object& child, const Object& owner) {
  json::object body = child.body;
  json::object& metadata = sub_object(body, "metadata");
  json::array kept;
  if (const auto* owners = api::find_array(child.body, "metadata.ownerReferences"))
    for (const json::value& entry : *owners)
      if (!entry.is_object() || api::find_string(entry.get_object(), "uid") != owner.uid)
        kept.push_back(entry);
  if (kept.empty())
    metadata.erase("ownerReferences");
  else
    metadata["ownerReferences"] = std::move(kept);
  return {std::move(body)};
}

}  // namespace

std::vector<ObjectPtr> claim_children(const Object& owner, std::vector<ObjectPtr> owned,
                                      const std::vector<ObjectPtr>& orphans,
                                      const api::LabelSelector& selector, Plan& plan) {
  std::erase_if(owned, [&](const ObjectPtr& child) {
    const auto controller = view::controller_of(*child);
    if (!controller || controller->uid != owner.uid)
      return true;
    if (selector.matches(view::labels(*child)))
      return false;
    if (!view::is_terminating(*child) && !plan.full())
      plan.steps.push_back({without_owner(*child, owner), {}});
    return true;
  });
  for (const ObjectPtr& orphan : orphans) {
    if (plan.full())
      break;
    if (view::is_terminating(*orphan) || view::is_finished(*orphan) ||
        !selector.matches(view::labels(*orphan)))
      continue;
    plan.steps.push_back({with_owner(*orphan, owner), {}});
    owned.push_back(orphan);
  }
  return owned;
}

}  // namespace shoal::controllers
