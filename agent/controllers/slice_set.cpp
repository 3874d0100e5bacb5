// SPDX-License-Identifier: Apache-2.0
#include "agent/controllers/slice_set.h"

#include "agent/controllers/names.h"
#include "netplane/base/hash.h"

#include <algorithm>

namespace shoal::controllers {

namespace json = boost::json;

namespace {

constexpr std::size_t kEndpointsPerSliceMax = 100;

std::uint64_t group_hash_of(const Object& slice) {
  const auto* ports = api::find_array(slice.body, "ports");
  return EndpointGroup{
      std::string(api::find_string(slice.body, "addressType")), ports ? *ports : json::array(), {}}
      .hash();
}

// The endpoints that stay in a slice, in their order there; they leave `group`.
json::array keep_endpoints(const Object& slice, EndpointGroup& group) {
  json::array out;
  const auto* present = api::find_array(slice.body, "endpoints");
  if (!present)
    return out;
  for (const json::value& entry : *present) {
    const auto found = entry.is_object() ? group.endpoints.find(endpoint_id(entry.get_object()))
                                         : group.endpoints.end();
    if (found == group.endpoints.end() || out.size() >= kEndpointsPerSliceMax)
      continue;
    out.emplace_back(std::move(found->second));
    group.endpoints.erase(found);
  }
  return out;
}

void fill(json::array& endpoints, EndpointGroup& group) {
  while (endpoints.size() < kEndpointsPerSliceMax && !group.endpoints.empty()) {
    endpoints.emplace_back(std::move(group.endpoints.begin()->second));
    group.endpoints.erase(group.endpoints.begin());
  }
}

}  // namespace

std::uint64_t EndpointGroup::hash() const { return hash64(family, hash_json(ports)); }

std::string endpoint_id(const json::object& endpoint) {
  if (const auto uid = api::find_string(endpoint, "targetRef.uid"); !uid.empty())
    return std::string(uid);
  const auto* addresses = api::find_array(endpoint, "addresses");
  return addresses && !addresses->empty() && addresses->front().is_string()
             ? std::string(addresses->front().get_string())
             : std::string();
}

SliceSet::SliceSet(const World& world, const Object& service, std::string_view manager,
                   json::object labels, EndpointGroups groups, Plan& plan)
    : service_(service), plan_(plan), labels_(std::move(labels)), groups_(std::move(groups)) {
  for (ObjectPtr& slice : world.view.slices_of(service.ns, service.name))
    if (view::label(*slice, kSliceManagerLabel) == manager) {
      names_.insert(slice->name);
      present_.push_back(std::move(slice));
    }
}

// One of those that are there stays, empty.
bool SliceSet::keep_empty(std::string_view family) {
  for (const ObjectPtr& slice : present_)
    if (!is_stale(*slice) && api::find_string(slice->body, "addressType") == family) {
      kept_empty_.insert(slice.get());
      return true;
    }
  return false;
}

void SliceSet::run(const std::vector<IpFamily>& placeholders) {
  std::vector<std::string> missing;
  for (const IpFamily wanted : placeholders) {
    const std::string_view family = to_string(wanted);
    const bool has_group = std::any_of(groups_.begin(), groups_.end(), [&](const auto& group) {
      return group.second.family == family;
    });
    if (!has_group && !keep_empty(family))
      missing.emplace_back(family);
  }
  update_present();
  for (auto& [hash, group] : groups_)
    while (!group.endpoints.empty() && !plan_.full())
      create(hash, group);
  for (const std::string& family : missing) {
    if (plan_.full())
      return;
    EndpointGroup none{family, {}, {}};
    create(none.hash(), none);
  }
}

void SliceSet::update_present() {
  std::vector<json::array> contents;
  for (const ObjectPtr& slice : present_) {
    const auto found = groups_.find(group_hash_of(*slice));
    contents.push_back(found == groups_.end() || is_stale(*slice)
                           ? json::array()
                           : keep_endpoints(*slice, found->second));
  }
  // Newcomers go where there is room, once it is known who stays.
  for (std::size_t i = 0; i < present_.size(); ++i)
    if (const auto found = groups_.find(group_hash_of(*present_[i]));
        found != groups_.end() && !is_stale(*present_[i]))
      fill(contents[i], found->second);
  for (std::size_t i = 0; i < present_.size() && !plan_.full(); ++i)
    write(*present_[i], std::move(contents[i]));
}

// Of an earlier life of the service: garbage collection takes it.
bool SliceSet::is_stale(const Object& slice) const {
  const auto owner = view::controller_of(slice);
  return view::is_terminating(slice) || !owner || owner->uid != service_.uid;
}

void SliceSet::write(const Object& slice, json::array endpoints) {
  if (view::is_terminating(slice))
    return;
  if (endpoints.empty() && !kept_empty_.contains(&slice)) {
    plan_.steps.push_back({Remove{view::ref_of(slice), slice.uid, std::nullopt}, {}});
    return;
  }
  const auto* before = api::find_array(slice.body, "endpoints");
  const auto* labels = view::labels(slice);
  if (before && *before == endpoints && labels && *labels == labels_)
    return;
  json::object body = slice.body;
  body["endpoints"] = std::move(endpoints);
  body["metadata"].as_object()["labels"] = labels_;
  plan_.steps.push_back({Update{std::move(body)}, {}});
}

void SliceSet::create(std::uint64_t hash, EndpointGroup& group) {
  std::string name;
  for (std::uint64_t number = 0; name.empty() || !names_.insert(name).second; ++number)
    name = child_name(service_.name, name_suffix(hash64(service_.uid, hash + number), 5));
  json::array endpoints;
  fill(endpoints, group);
  plan_.steps.push_back(
      {Create{json::object{
           {"apiVersion", "discovery.k8s.io/v1"},
           {"kind", "EndpointSlice"},
           {"metadata",
            json::object{{"name", name},
                         {"namespace", service_.ns},
                         {"labels", labels_},
                         {"ownerReferences", json::array{view::controller_ref(service_)}}}},
           {"addressType", group.family},
           {"endpoints", std::move(endpoints)},
           {"ports", group.ports}}},
       {}});
}

}  // namespace shoal::controllers
