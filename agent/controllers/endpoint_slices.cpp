// SPDX-License-Identifier: Apache-2.0
// Service with a selector -> EndpointSlices (discovery.k8s.io/v1), for API clients. The data plane
// does not read them.
//
// A slice holds at most 100 endpoints that resolve the service's ports to the same numbers. An
// endpoint stays in the slice that it is in, so that one pod's change writes one slice.
#include "agent/api/service_facts.h"
#include "agent/controllers/controllers.h"
#include "agent/controllers/edit.h"
#include "agent/controllers/names.h"
#include "netplane/base/hash.h"

#include <algorithm>
#include <map>
#include <set>

namespace shoal::controllers {

namespace json = boost::json;

namespace {

constexpr std::size_t kEndpointsPerSliceMax = 100;
constexpr std::string_view kServiceName = "kubernetes.io/service-name";
constexpr std::string_view kManagedBy = "endpointslice.kubernetes.io/managed-by";
constexpr std::string_view kManager = "endpointslice-controller.shoal.dev";
constexpr std::string_view kHeadlessLabel = "service.kubernetes.io/headless";

// Endpoints that can share slices: one address family and the same resolved ports.
struct Group {
  std::string family;  // "IPv4", "IPv6"
  json::array ports;
  std::map<std::string, json::object> endpoints;  // by pod uid

  std::uint64_t hash() const { return hash64(family, hash_json(ports)); }
};

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

// The service's own labels, and by which the slice is found.
json::object slice_labels(const Object& service) {
  json::object out;
  if (const auto* own = view::labels(service))
    out = *own;
  for (const std::string_view reserved : {kServiceName, kManagedBy, kHeadlessLabel})
    out.erase(reserved);
  out[kServiceName] = service.name;
  out[kManagedBy] = kManager;
  if (api::is_headless(api::spec_of(service.body)))
    out[kHeadlessLabel] = "";
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

std::map<std::uint64_t, Group> wanted_groups(const World& world, const Object& service) {
  std::map<std::uint64_t, Group> out;
  const auto selector =
      api::LabelSelector::from_labels(api::find_object(service.body, "spec.selector"));
  for (const ObjectPtr& pod : world.view.pods_matching(service.ns, selector)) {
    const auto ip = view::pod_ip(*pod);
    if (!ip || view::is_finished(*pod) || view::node_of(*pod).empty())
      continue;
    Group group{ip->is_v4() ? "IPv4" : "IPv6", resolved_ports(service, *pod), {}};
    const std::uint64_t hash = group.hash();
    out.try_emplace(hash, std::move(group))
        .first->second.endpoints.emplace(pod->uid, endpoint_of(world, service, *pod, *ip));
  }
  return out;
}

std::uint64_t group_hash_of(const Object& slice) {
  const auto* ports = api::find_array(slice.body, "ports");
  return Group{
      std::string(api::find_string(slice.body, "addressType")), ports ? *ports : json::array(), {}}
      .hash();
}

// The endpoints that stay in a slice, in their order there; they leave `group`.
json::array keep_endpoints(const Object& slice, Group& group) {
  json::array out;
  const auto* present = api::find_array(slice.body, "endpoints");
  if (!present)
    return out;
  for (const json::value& entry : *present) {
    const std::string uid(entry.is_object() ? api::find_string(entry.get_object(), "targetRef.uid")
                                            : std::string_view());
    const auto found = group.endpoints.find(uid);
    if (found == group.endpoints.end() || out.size() >= kEndpointsPerSliceMax)
      continue;
    out.emplace_back(std::move(found->second));
    group.endpoints.erase(found);
  }
  return out;
}

void fill(json::array& endpoints, Group& group) {
  while (endpoints.size() < kEndpointsPerSliceMax && !group.endpoints.empty()) {
    endpoints.emplace_back(std::move(group.endpoints.begin()->second));
    group.endpoints.erase(group.endpoints.begin());
  }
}

class Slices {
public:
  Slices(const World& world, const Object& service, Plan& plan)
      : service_(service), plan_(plan), labels_(slice_labels(service)),
        groups_(wanted_groups(world, service)) {
    for (ObjectPtr& slice : world.view.slices_of(service.ns, service.name))
      if (view::label(*slice, kManagedBy) == kManager) {
        names_.insert(slice->name);
        present_.push_back(std::move(slice));
      }
  }

  void run() {
    update_present();
    for (auto& [hash, group] : groups_)
      while (!group.endpoints.empty() && !plan_.full())
        create(hash, group);
  }

private:
  void update_present() {
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
  bool is_stale(const Object& slice) const {
    const auto owner = view::controller_of(slice);
    return view::is_terminating(slice) || !owner || owner->uid != service_.uid;
  }

  void write(const Object& slice, json::array endpoints) {
    if (view::is_terminating(slice))
      return;
    if (endpoints.empty()) {
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

  void create(std::uint64_t hash, Group& group) {
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

  const Object& service_;
  Plan& plan_;
  const json::object labels_;
  std::map<std::uint64_t, Group> groups_;
  std::vector<ObjectPtr> present_;
  std::set<std::string> names_;
};

}  // namespace

Plan reconcile_service(const World& world, const Object& service) {
  Plan plan;
  if (view::is_terminating(service))
    return plan;
  if (view::has_selector(service) && api::has_cluster_ip(api::spec_of(service.body))) {
    Slices(world, service, plan).run();
    return plan;
  }
  // The selector was taken away, or the service is another name now: what it had made goes; slices
  // made by hand stay.
  for (const ObjectPtr& slice : world.view.slices_of(service.ns, service.name))
    if (view::label(*slice, kManagedBy) == kManager && !plan.full())
      plan.steps.push_back({Remove{view::ref_of(*slice), slice->uid, std::nullopt}, {}});
  return plan;
}

}  // namespace shoal::controllers
