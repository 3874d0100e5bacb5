// SPDX-License-Identifier: Apache-2.0
#include "agent/controllers/endpoints.h"

#include "agent/api/service_facts.h"
#include "agent/controllers/edit.h"

namespace shoal::controllers {

namespace json = boost::json;

namespace {

constexpr std::size_t kAddressesMax = 1000;  // upstream's, for both ways
constexpr std::string_view kOverCapacity = "endpoints.kubernetes.io/over-capacity";
constexpr std::string_view kEndpointsManagerLabel = "endpoints.kubernetes.io/managed-by";
constexpr std::string_view kEndpointsManager = "endpoint-controller";
constexpr std::string_view kSkipMirror = "endpointslice.kubernetes.io/skip-mirror";
constexpr std::string_view kLeaderAnnotation = "control-plane.alpha.kubernetes.io/leader";

bool is_condition(const json::object& endpoint, std::string_view name) {
  const auto* conditions = api::find_object(endpoint, "conditions");
  const auto* value = conditions ? conditions->if_contains(name) : nullptr;
  return value && value->is_bool() && value->get_bool();
}

// ---- groups -> subsets

json::object address_of(const json::object& endpoint) {
  json::object out{{"ip", endpoint.at("addresses").as_array().front()}};
  for (const std::string_view field : {"nodeName", "targetRef"})
    if (const auto* value = endpoint.if_contains(field))
      out[field] = *value;
  return out;
}

json::array subset_ports(const json::array& ports) {
  json::array out;
  for (const json::value& port : ports) {
    json::object shown = port.as_object();
    if (api::find_string(shown, "name").empty())
      shown.erase("name");
    out.push_back(std::move(shown));
  }
  return out;
}

struct Subsets {
  json::array list;
  bool truncated = false;
};

// Ready endpoints first: they are what a full object must not lose.
Subsets subsets_of(const EndpointGroups& groups, std::string_view family) {
  Subsets out;
  std::size_t room = kAddressesMax;
  std::map<std::uint64_t, json::object> by_group;
  for (const bool ready : {true, false})
    for (const auto& [hash, group] : groups) {
      if (group.family != family)
        continue;
      for (const auto& [id, endpoint] : group.endpoints) {
        const bool is_ready = is_condition(endpoint, "ready");
        if (is_ready != ready || (!is_ready && is_condition(endpoint, "terminating")))
          continue;
        if (room == 0) {
          out.truncated = true;
          continue;
        }
        --room;
        json::value& list = by_group[hash][ready ? "addresses" : "notReadyAddresses"];
        if (!list.is_array())
          list.emplace_array();
        list.get_array().push_back(address_of(endpoint));
      }
    }
  for (auto& [hash, subset] : by_group) {
    if (json::array ports = subset_ports(groups.at(hash).ports); !ports.empty())
      subset["ports"] = std::move(ports);
    out.list.push_back(std::move(subset));
  }
  return out;
}

// ---- subsets -> groups

json::array group_ports(const json::object& subset) {
  json::array out;
  const auto* ports = api::find_array(subset, "ports");
  if (!ports)
    return out;
  for (const json::value& entry : *ports) {
    if (!entry.is_object())
      continue;
    const auto& port = entry.get_object();
    const auto protocol = api::find_string(port, "protocol");
    json::object& shown =
        out.emplace_back(json::object{{"name", api::find_string(port, "name")},
                                      {"port", api::find_int(port, "port", 0)},
                                      {"protocol", protocol.empty() ? "TCP" : protocol}})
            .get_object();
    if (const auto app = api::find_string(port, "appProtocol"); !app.empty())
      shown["appProtocol"] = app;
  }
  return out;
}

json::object mirrored_endpoint(const json::object& address, bool ready) {
  json::object out{{"addresses", json::array{api::find_string(address, "ip")}},
                   {"conditions", json::object{{"ready", ready}}}};
  for (const std::string_view field : {"hostname", "nodeName", "targetRef"})
    if (const auto* value = address.if_contains(field))
      out[field] = *value;
  return out;
}

void add_mirrored(const json::object& address, bool ready, const json::array& ports,
                  EndpointGroups& out) {
  const auto ip = IpAddress::parse(api::find_string(address, "ip"));
  if (!ip)
    return;  // the API refuses these
  EndpointGroup group{std::string(to_string(ip->family())), ports, {}};
  const std::uint64_t hash = group.hash();
  EndpointGroup& into = out.try_emplace(hash, std::move(group)).first->second;
  if (into.endpoints.size() >= kAddressesMax)
    return;
  json::object endpoint = mirrored_endpoint(address, ready);
  std::string id = endpoint_id(endpoint);
  into.endpoints.emplace(std::move(id), std::move(endpoint));
}

}  // namespace

json::object endpoints_labels(const Object& labelled, const Object& service) {
  json::object out;
  if (const auto* own = view::labels(labelled))
    out = *own;
  for (const std::string_view reserved :
       {kServiceNameLabel, kSliceManagerLabel, kHeadlessLabel, kEndpointsManagerLabel, kSkipMirror})
    out.erase(reserved);
  if (api::is_headless(api::spec_of(service.body)))
    out[kHeadlessLabel] = "";
  return out;
}

void keep_endpoints_object(const World& world, const Object& service, const EndpointGroups& groups,
                           std::string_view family, Plan& plan) {
  if (plan.full())
    return;
  Subsets subsets = subsets_of(groups, family);
  json::object labels = endpoints_labels(service, service);
  labels[kEndpointsManagerLabel] = kEndpointsManager;
  const ObjectPtr present = world.view.get(view::kEndpoints, service.ns, service.name);
  json::object body = present ? present->body
                              : json::object{{"apiVersion", "v1"},
                                             {"kind", "Endpoints"},
                                             {"metadata", json::object{{"name", service.name},
                                                                       {"namespace", service.ns}}}};
  json::object& metadata = sub_object(body, "metadata");
  metadata["labels"] = std::move(labels);
  metadata["ownerReferences"] = json::array{view::controller_ref(service)};
  json::object& annotations = sub_object(metadata, "annotations");
  if (subsets.truncated)
    annotations[kOverCapacity] = "truncated";
  else
    annotations.erase(kOverCapacity);
  if (annotations.empty())
    metadata.erase("annotations");
  body["subsets"] = std::move(subsets.list);
  if (!present)
    plan.steps.push_back({Create{std::move(body)}, {}});
  else if (body != present->body)
    plan.steps.push_back({Update{std::move(body)}, {}});
}

ObjectPtr endpoints_to_mirror(const World& world, const Object& service) {
  ObjectPtr endpoints = world.view.get(view::kEndpoints, service.ns, service.name);
  const bool wanted = endpoints && !view::is_terminating(*endpoints) &&
                      view::label(*endpoints, kSkipMirror) != "true" &&
                      view::annotation(*endpoints, kLeaderAnnotation).empty();
  return wanted ? endpoints : nullptr;
}

EndpointGroups groups_of_endpoints(const Object& endpoints) {
  EndpointGroups out;
  const auto* subsets = api::find_array(endpoints.body, "subsets");
  if (!subsets)
    return out;
  for (const json::value& entry : *subsets) {
    if (!entry.is_object())
      continue;
    const json::array ports = group_ports(entry.get_object());
    for (const bool ready : {true, false}) {
      const auto* list =
          api::find_array(entry.get_object(), ready ? "addresses" : "notReadyAddresses");
      if (!list)
        continue;
      for (const json::value& address : *list)
        if (address.is_object())
          add_mirrored(address.get_object(), ready, ports, out);
    }
  }
  return out;
}

}  // namespace shoal::controllers
