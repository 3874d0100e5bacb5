// SPDX-License-Identifier: Apache-2.0
// One Service: its ports as the data plane balances them.
#include "agent/api/weights.h"
#include "agent/desired/desired.h"
#include "agent/view/facts.h"

#include <algorithm>
#include <fmt/format.h>
#include <set>

namespace shoal::desired {

namespace json = boost::json;
using store::Object;
using store::ObjectPtr;

std::string_view reason_of(FindingKind kind) {
  switch (kind) {
  case FindingKind::kGroupWithoutReady:
    return "WeightGroupNotReady";
  case FindingKind::kGroupSelectsNothing:
    return "WeightGroupEmpty";
  case FindingKind::kNoReadyBackend:
    return "NoReadyBackend";
  case FindingKind::kBadWeights:
    return "InvalidWeights";
  case FindingKind::kBadEndpoint:
    return "InvalidEndpoint";
  }
  return "?";
}

namespace {

// A pod as a backend of its service, before ports are known.
struct Candidate {
  ObjectPtr pod;
  model::Backend backend;
};

class Compute {
public:
  Compute(const view::View& view, const view::Members& members, const Object& service)
      : view_(view), members_(members), service_(service) {}

  ServiceResult run() {
    read_weights();
    const auto addresses = frontend_addresses();
    const auto* ports = api::find_array(service_.body, "spec.ports");
    if (!ports || addresses.empty())
      return std::move(result_);
    const bool by_selector = view::has_selector(service_);
    if (by_selector)
      select_pods();
    for (const json::value& entry : *ports)
      if (entry.is_object())
        add_port(entry.get_object(), addresses, by_selector);
    find_gaps(by_selector);
    std::sort(result_.findings.begin(), result_.findings.end());
    return std::move(result_);
  }

private:
  void note(FindingKind kind, std::string message) {
    result_.findings.push_back({service_.ns, service_.name, kind, std::move(message)});
  }

  void read_weights() {
    auto weights = api::service_weights(service_.body);
    if (weights)
      weights_ = std::move(*weights);
    else
      note(FindingKind::kBadWeights,
           fmt::format("{}: {}; connections are shared evenly", api::kWeightsAnnotation,
                       weights.error().message()));
  }

  std::vector<std::pair<IpAddress, model::FrontendKind>> frontend_addresses() {
    std::vector<std::pair<IpAddress, model::FrontendKind>> out;
    const auto add = [&](std::string_view text, model::FrontendKind kind) {
      const auto ip = IpAddress::parse(text);
      if (!ip)
        return false;
      for (const auto& [known, known_kind] : out)
        if (known == *ip)
          return false;
      out.emplace_back(*ip, kind);
      return true;
    };
    if (const auto* list = api::find_array(service_.body, "spec.clusterIPs"))
      for (const json::value& entry : *list)
        if (entry.is_string())
          add(entry.get_string(), model::FrontendKind::kClusterIp);
    add(api::find_string(service_.body, "spec.clusterIP"), model::FrontendKind::kClusterIp);
    if (api::find_string(service_.body, "spec.type") == "LoadBalancer")
      if (const auto* list = api::find_array(service_.body, "status.loadBalancer.ingress"))
        for (const json::value& entry : *list)
          if (entry.is_object() &&
              add(api::find_string(entry.get_object(), "ip"), model::FrontendKind::kLoadBalancer))
            result_.vips.push_back(out.back().first);
    return out;
  }

  void select_pods() {
    const auto selector =
        api::LabelSelector::from_labels(api::find_object(service_.body, "spec.selector"));
    for (ObjectPtr& pod : view_.pods_matching(service_.ns, selector)) {
      const api::LabelWeight* group = api::weight_group_of(weights_, view::labels(*pod));
      if (group)
        selected_groups_.insert(group->group());
      const auto ip = view::pod_ip(*pod);
      if (!ip || view::is_finished(*pod) || view::node_of(*pod).empty())
        continue;
      const bool ready = view::is_ready(*pod, members_);
      Candidate candidate;
      candidate.backend.ip = *ip;
      candidate.backend.generation = view::lease_generation(*pod);
      candidate.backend.state =
          ready ? model::BackendState::kReady : model::BackendState::kTerminating;
      candidate.backend.group = group ? group->group() : std::string();
      candidate.backend.host = view::node_of(*pod);
      candidate.backend.pod = pod->ns + "/" + pod->name;
      if (ready) {
        any_ready_ = true;
        ready_groups_.insert(candidate.backend.group);
      }
      candidate.pod = std::move(pod);
      candidates_.push_back(std::move(candidate));
    }
  }

  void add_port(const json::object& spec,
                const std::vector<std::pair<IpAddress, model::FrontendKind>>& addresses,
                bool by_selector) {
    const std::int64_t number = api::find_int(spec, "port", 0);
    const auto protocol = api::find_string(spec, "protocol");
    const auto proto = parse_l4_proto(protocol.empty() ? "TCP" : protocol);
    if (number < 1 || number > 65535 || !proto)
      return;  // the API refuses these
    model::ServicePort port;
    port.ns = service_.ns;
    port.name = service_.name;
    port.port_name = api::find_string(spec, "name");
    port.proto = *proto;
    for (const auto& [ip, kind] : addresses)
      port.frontends.push_back({ip, static_cast<std::uint16_t>(number), *proto, kind});
    for (const api::LabelWeight& weight : weights_)
      port.groups.push_back({weight.group(), weight.weight});
    if (by_selector)
      add_pod_backends(spec, port);
    else
      add_slice_backends(spec, port);
    std::sort(port.backends.begin(), port.backends.end());
    port.backends.erase(std::unique(port.backends.begin(), port.backends.end()),
                        port.backends.end());
    result_.ports.push_back(std::move(port));
  }

  void add_pod_backends(const json::object& spec, model::ServicePort& port) const {
    for (const Candidate& candidate : candidates_) {
      const auto number = view::target_port(*candidate.pod, spec);
      if (!number)
        continue;  // a named port that this pod does not have
      port.backends.push_back(candidate.backend);
      port.backends.back().port = *number;
    }
  }

  // ---- services without a selector
  void add_slice_backends(const json::object& spec, model::ServicePort& port) {
    for (const ObjectPtr& slice : view_.slices_of(service_.ns, service_.name)) {
      if (view::is_terminating(*slice))
        continue;
      const auto number = slice_port(*slice, api::find_string(spec, "name"), port.proto);
      const auto* endpoints = api::find_array(slice->body, "endpoints");
      if (!number || !endpoints)
        continue;
      for (const json::value& entry : *endpoints)
        if (entry.is_object())
          add_endpoint(*slice, entry.get_object(), *number, port);
    }
  }

  static std::optional<std::uint16_t> slice_port(const Object& slice, std::string_view name,
                                                 L4Proto proto) {
    const auto* ports = api::find_array(slice.body, "ports");
    if (!ports)
      return std::nullopt;
    for (const json::value& entry : *ports) {
      if (!entry.is_object() || api::find_string(entry.get_object(), "name") != name)
        continue;
      const auto protocol = api::find_string(entry.get_object(), "protocol");
      const std::int64_t number = api::find_int(entry.get_object(), "port", 0);
      if ((protocol.empty() ? "TCP" : protocol) == to_string(proto) && number >= 1 &&
          number <= 65535)
        return static_cast<std::uint16_t>(number);
    }
    return std::nullopt;
  }

  static bool condition(const json::object& endpoint, std::string_view name, bool otherwise) {
    const auto* conditions = api::find_object(endpoint, "conditions");
    const auto* value = conditions ? conditions->if_contains(name) : nullptr;
    return value && value->is_bool() ? value->get_bool() : otherwise;
  }

  void add_endpoint(const Object& slice, const json::object& endpoint, std::uint16_t number,
                    model::ServicePort& port) {
    // discovery/v1: an absent `ready` means ready.
    const bool ready = condition(endpoint, "ready", true);
    if (!ready && !condition(endpoint, "terminating", false))
      return;
    const auto node = api::find_string(endpoint, "nodeName");
    if (ready && !node.empty() && view_.get(view::kNodes, {}, node) && !members_.alive(node))
      return;
    const auto* addresses = api::find_array(endpoint, "addresses");
    // Addresses of one endpoint are the same backend: the first counts.
    const auto text = addresses && !addresses->empty() && addresses->front().is_string()
                          ? std::string_view(addresses->front().get_string())
                          : std::string_view();
    const auto ip = IpAddress::parse(text);
    if (!ip || ip->is_unspecified() || ip->is_loopback() || ip->is_multicast()) {
      note(FindingKind::kBadEndpoint,
           fmt::format("EndpointSlice {}: \"{}\" cannot be a backend", slice.name, text));
      return;
    }
    any_ready_ |= ready;
    model::Backend backend;
    backend.ip = *ip;
    backend.port = number;
    backend.state = ready ? model::BackendState::kReady : model::BackendState::kTerminating;
    backend.host = node;
    port.backends.push_back(std::move(backend));
  }

  // ---- what the owner should know
  void find_gaps(bool by_selector) {
    if (!any_ready_)
      note(FindingKind::kNoReadyBackend, "no ready backend: connections are refused");
    if (!by_selector)
      return;
    for (const api::LabelWeight& weight : weights_) {
      const std::string group = weight.group();
      if (!selected_groups_.contains(group))
        note(FindingKind::kGroupSelectsNothing,
             fmt::format("{}: no pod of this service has the label {}", api::kWeightsAnnotation,
                         group));
      else if (weight.weight > 0 && !ready_groups_.contains(group) && any_ready_)
        note(FindingKind::kGroupWithoutReady,
             fmt::format("{}: group {} has no ready pod; its share goes to the other groups",
                         api::kWeightsAnnotation, group));
    }
  }

  const view::View& view_;
  const view::Members& members_;
  const Object& service_;
  std::vector<api::LabelWeight> weights_;
  std::vector<Candidate> candidates_;
  std::set<std::string> selected_groups_;
  std::set<std::string> ready_groups_;
  bool any_ready_ = false;
  ServiceResult result_;
};

}  // namespace

ServiceResult compute_service(const view::View& view, const view::Members& members,
                              const Object& service) {
  return Compute(view, members, service).run();
}

}  // namespace shoal::desired
