// SPDX-License-Identifier: Apache-2.0
// Service with a selector -> EndpointSlices (discovery.k8s.io/v1) and its Endpoints object (v1),
// for API clients: the data plane does not read those. Service without one -> EndpointSlices that
// mirror an Endpoints object made by hand, which the data plane reads as it reads slices made by
// hand.
#include "agent/api/service_facts.h"
#include "agent/controllers/controllers.h"
#include "agent/controllers/endpoints.h"

namespace shoal::controllers {

namespace json = boost::json;

namespace {

json::array resolved_ports(const Object& service, const Object& pod) {
  json::array out;
  const auto* ports = api::find_array(service.body, "spec.ports");
  if (!ports)
    return out;
  for (const json::value& entry : *ports) {
    if (!entry.is_object())
      continue;
    const auto& port = entry.get_object();
    const auto number = view::target_port(pod, port);
    if (!number)
      continue;  // this pod does not have the named port
    const auto protocol = api::find_string(port, "protocol");
    json::object& resolved =
        out.emplace_back(json::object{{"name", api::find_string(port, "name")},
                                      {"port", static_cast<std::int64_t>(*number)},
                                      {"protocol", protocol.empty() ? "TCP" : protocol}})
            .get_object();
    if (const auto app = api::find_string(port, "appProtocol"); !app.empty())
      resolved["appProtocol"] = app;
  }
  return out;
}

// What spec.trafficDistribution asks of whoever balances by hints.
json::object hints_of(const Object& service, std::string_view node, std::string_view zone) {
  const auto wanted = api::find_string(service.body, "spec.trafficDistribution");
  json::object hints;
  if (!wanted.empty() && !zone.empty())
    hints["forZones"] = json::array{json::object{{"name", zone}}};
  if (wanted == "PreferSameNode")
    hints["forNodes"] = json::array{json::object{{"name", node}}};
  return hints;
}

// An object's own labels, and by which the slice is found.
json::object slice_labels(const Object& labelled, const Object& service, std::string_view manager) {
  json::object out = endpoints_labels(labelled, service);
  out[kServiceNameLabel] = service.name;
  out[kSliceManagerLabel] = manager;
  return out;
}

json::object endpoint_of(const World& world, const Object& service, const Object& pod,
                         const IpAddress& ip) {
  const auto* publish = api::find_path(service.body, "spec.publishNotReadyAddresses");
  const bool publish_all = publish && publish->is_bool() && publish->get_bool();
  const bool terminating = view::is_terminating(pod);
  const bool serving =
      view::condition_true(pod, "Ready") && world.members.alive(view::node_of(pod));
  const auto node_name = view::node_of(pod);
  const ObjectPtr node = world.view.get(view::kNodes, {}, node_name);
  const std::string_view zone = node ? view::node_zone(*node) : std::string_view();
  json::object out{
      {"addresses", json::array{ip.to_string()}},
      {"conditions", json::object{{"ready", (serving && !terminating) || publish_all},
                                  {"serving", serving},
                                  {"terminating", terminating}}},
      {"nodeName", node_name},
      {"targetRef",
       json::object{{"kind", "Pod"}, {"namespace", pod.ns}, {"name", pod.name}, {"uid", pod.uid}}}};
  if (!zone.empty())
    out["zone"] = zone;
  if (json::object hints = hints_of(service, node_name, zone); !hints.empty())
    out["hints"] = std::move(hints);
  return out;
}

EndpointGroups wanted_groups(const World& world, const Object& service,
                             const std::vector<IpFamily>& families) {
  EndpointGroups out;
  const auto selector =
      api::LabelSelector::from_labels(api::find_object(service.body, "spec.selector"));
  for (const ObjectPtr& pod : world.view.pods_matching(service.ns, selector)) {
    if (view::is_finished(*pod) || view::node_of(*pod).empty())
      continue;
    for (const IpFamily family : families) {
      const auto address = view::pod_address(*pod, family);
      if (!address)
        continue;
      EndpointGroup group{std::string(to_string(family)), resolved_ports(service, *pod), {}};
      const std::uint64_t hash = group.hash();
      out.try_emplace(hash, std::move(group))
          .first->second.endpoints.emplace(pod->uid,
                                           endpoint_of(world, service, *pod, address->ip));
    }
  }
  return out;
}

}  // namespace

Plan reconcile_service(const World& world, const Object& service) {
  Plan plan;
  if (view::is_terminating(service))
    return plan;
  EndpointGroups groups, mirrored;
  const bool by_selector =
      view::has_selector(service) && api::has_cluster_ip(api::spec_of(service.body));
  const std::vector<IpFamily> families = api::ip_families(api::spec_of(service.body));
  ObjectPtr by_hand;
  if (by_selector) {
    groups = wanted_groups(world, service, families);
    keep_endpoints_object(world, service, groups, to_string(families.front()), plan);
  } else if (api::has_cluster_ip(api::spec_of(service.body))) {
    by_hand = endpoints_to_mirror(world, service);
    if (by_hand)
      mirrored = groups_of_endpoints(*by_hand);
  }
  // Where a selector was taken away, or given, what the other way had made goes; slices made by
  // hand stay.
  SliceSet(world, service, kSliceManager, slice_labels(service, service, kSliceManager),
           std::move(groups), plan)
      .run(by_selector ? families : std::vector<IpFamily>());
  SliceSet(world, service, kMirrorManager,
           slice_labels(by_hand ? *by_hand : service, service, kMirrorManager), std::move(mirrored),
           plan)
      .run({});
  return plan;
}

}  // namespace shoal::controllers
