// SPDX-License-Identifier: Apache-2.0
// One Service: its ports as the data plane balances them on this host.
//
// Who is balanced over what (Kubernetes' rules): internalTrafficPolicy is for inside clients of the
// ClusterIP, externalTrafficPolicy for outside clients of all other addresses; inside clients of
// those use every backend. trafficDistribution is for inside clients: outside ones get the same
// ring on every host, so that an address can move to another host. Where the answers are the same
// there is one ServicePort, otherwise one for each. Each of its families is balanced by itself,
// among its pods' addresses of that family.
#include "agent/api/service_facts.h"
#include "agent/api/weights.h"
#include "agent/desired/desired.h"
#include "agent/desired/scope.h"
#include "agent/view/facts.h"

#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <set>

namespace shoal::desired {

namespace json = boost::json;
using model::BackendState;
using model::Clients;
using model::FrontendKind;
using store::Object;
using store::ObjectPtr;

namespace {

// A pod as an endpoint of its service, before ports and family are known.
struct Candidate {
  ObjectPtr pod;
  bool in_host_network = false;
  std::vector<model::PodAddress> addresses;
  Endpoint endpoint;
};

// Who serves one family, over all ports.
struct Served {
  bool ready = false, serving = false;
  std::set<std::string> ready_hosts, serving_hosts;  // where a policy asks for them
  std::set<IpAddress> ready_here;
  bool any() const { return ready || serving; }
};

struct Address {
  IpAddress ip;
  FrontendKind kind;
};

std::uint16_t port_number(const json::object& spec, std::string_view name) {
  const std::int64_t number = api::find_int(spec, name, 0);
  return number >= 1 && number <= 65535 ? static_cast<std::uint16_t>(number) : std::uint16_t{0};
}

class Compute {
public:
  Compute(const Scene& scene, const Object& service)
      : scene_(scene), view_(scene.view), service_(service), spec_(api::spec_of(service.body)),
        publish_all_(is_true("publishNotReadyAddresses")),
        internal_local_(api::is_local(spec_, "internalTrafficPolicy")),
        external_local_(api::is_local(spec_, "externalTrafficPolicy")),
        families_(api::ip_families(spec_)),
        distribution_(parse_distribution(api::find_string(spec_, "trafficDistribution"))) {}

  Part run() {
    part_.created = service_.create_revision;
    const auto* ports = api::find_array(spec_, "ports");
    if (ports)
      find_addresses();
    if (addresses_.empty())
      return std::move(part_);  // headless, or another name: nothing is balanced
    read_weights();
    read_source_ranges();
    const bool by_selector = view::has_selector(service_);
    if (by_selector)
      select_pods();
    for (const json::value& entry : *ports)
      if (entry.is_object())
        for (const IpFamily family : families_)
          add_port(entry.get_object(), by_selector, family);
    tell_where_backends_are();
    find_gaps(by_selector);
    std::sort(part_.findings.begin(), part_.findings.end());
    return std::move(part_);
  }

private:
  void note(FindingKind kind, std::string message, bool local = false) {
    part_.findings.push_back({view::ref_of(service_), kind, std::move(message), local});
  }

  bool is_true(std::string_view field) const {
    const json::value* value = spec_.if_contains(field);
    return value && value->is_bool() && value->get_bool();
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

  void read_source_ranges() {
    if (api::service_type(spec_) != api::ServiceType::kLoadBalancer)
      return;
    if (auto ranges = api::load_balancer_source_ranges(service_.body))
      source_ranges_ = std::move(*ranges);  // the API refuses others
  }

  // ---- addresses
  bool add_address(std::string_view text, FrontendKind kind) {
    const auto ip = IpAddress::parse(text);
    const auto known = [&](const Address& address) { return address.ip == *ip; };
    if (!ip || std::any_of(addresses_.begin(), addresses_.end(), known))
      return false;
    // A host's own address is not the service's alone, whoever wrote it there.
    if (kind != FrontendKind::kClusterIp && scene_.host_addresses.contains(*ip))
      kind = FrontendKind::kNodePort;
    addresses_.push_back({*ip, kind});
    return true;
  }

  void find_addresses() {
    if (!api::has_cluster_ip(spec_) || api::is_headless(spec_))
      return;
    if (const auto* list = api::find_array(spec_, "clusterIPs"))
      for (const json::value& entry : *list)
        if (entry.is_string())
          add_address(entry.get_string(), FrontendKind::kClusterIp);
    add_address(api::find_string(spec_, "clusterIP"), FrontendKind::kClusterIp);
    if (api::service_type(spec_) == api::ServiceType::kLoadBalancer)
      find_ingress();
    if (const auto* list = api::find_array(spec_, "externalIPs"))
      for (const json::value& entry : *list)
        if (entry.is_string() && add_address(entry.get_string(), FrontendKind::kExternalIp))
          contestable_.insert(addresses_.back().ip);
  }

  void find_ingress() {
    const auto* list = api::find_array(service_.body, "status.loadBalancer.ingress");
    const bool own = api::is_own_load_balancer(spec_);
    if (!list)
      return;
    for (const json::value& entry : *list) {
      // ipMode Proxy: what answers there ends the connection, and pods should go through it too.
      if (!entry.is_object() || api::find_string(entry.get_object(), "ipMode") == "Proxy" ||
          !add_address(api::find_string(entry.get_object(), "ip"), FrontendKind::kLoadBalancer))
        continue;
      if (addresses_.back().kind != FrontendKind::kLoadBalancer)
        continue;  // a host's own: it answers for that itself
      if (own)
        part_.vips.push_back({addresses_.back().ip, external_local_, {}, {}});  // hosts: later
      else
        contestable_.insert(addresses_.back().ip);
    }
  }

  // ---- pods
  BackendState state_of(const Object& pod) const {
    if (view::is_ready(pod, scene_.members))
      return BackendState::kReady;
    if (!scene_.members.alive(view::node_of(pod)))
      return BackendState::kTerminating;
    if (publish_all_)
      return BackendState::kReady;
    return view::is_terminating(pod) && view::condition_true(pod, "Ready")
               ? BackendState::kServing
               : BackendState::kTerminating;
  }

  void select_pods() {
    const auto selector = api::LabelSelector::from_labels(api::find_object(spec_, "selector"));
    for (ObjectPtr& pod : view_.pods_matching(service_.ns, selector)) {
      const api::LabelWeight* group = api::weight_group_of(weights_, view::labels(*pod));
      if (group)
        selected_groups_.insert(group->group());
      Candidate candidate;
      candidate.addresses = view::pod_addresses(*pod);
      if (candidate.addresses.empty() || view::is_finished(*pod) || view::node_of(*pod).empty())
        continue;
      model::Backend& backend = candidate.endpoint.backend;
      backend.state = state_of(*pod);
      backend.group = group ? group->group() : std::string();
      backend.host = view::node_of(*pod);
      backend.pod = pod->ns + "/" + pod->name;
      candidate.endpoint.node = view::node_of(*pod);
      candidate.endpoint.zone = zone_of(candidate.endpoint.node);
      if (backend.state == BackendState::kReady)
        ready_groups_.insert(backend.group);
      candidate.in_host_network = view::in_host_network(*pod);
      candidate.pod = std::move(pod);
      candidates_.push_back(std::move(candidate));
    }
  }

  std::string_view zone_of(std::string_view node) const {
    const Host* host = scene_.host(node);
    return host ? std::string_view(host->zone) : std::string_view();
  }

  std::vector<Endpoint> pod_endpoints(const json::object& port_spec, IpFamily family) const {
    std::vector<Endpoint> out;
    std::map<SocketAddress, std::size_t> of_hosts;  // in out
    for (const Candidate& candidate : candidates_) {
      const auto number = view::target_port(*candidate.pod, port_spec);
      if (!number)
        continue;  // a named port that this pod does not have
      for (const auto& [ip, generation] : candidate.addresses) {
        if (ip.family() != family)
          continue;
        // Two pods at one address and port are one backend: the readier one's.
        if (candidate.in_host_network) {
          const auto [at, fresh] = of_hosts.try_emplace({ip, *number}, out.size());
          if (!fresh) {
            BackendState& state = out[at->second].backend.state;
            state = std::min(state, candidate.endpoint.backend.state);
            continue;
          }
        }
        out.push_back(candidate.endpoint);
        out.back().backend.ip = ip;
        out.back().backend.generation = generation;
        out.back().backend.port = *number;
      }
    }
    return out;
  }

  // ---- services without a selector
  std::vector<Endpoint> slice_endpoints(const json::object& port_spec, L4Proto proto,
                                        IpFamily family) {
    std::vector<Endpoint> out;
    for (const ObjectPtr& slice : view_.slices_of(service_.ns, service_.name)) {
      if (view::is_terminating(*slice) ||
          api::find_string(slice->body, "addressType") != to_string(family))
        continue;
      const std::uint16_t number = slice_port(*slice, api::find_string(port_spec, "name"), proto);
      const auto* endpoints = api::find_array(slice->body, "endpoints");
      if (number == 0 || !endpoints)
        continue;
      out.reserve(out.size() + endpoints->size());
      for (const json::value& entry : *endpoints)
        if (entry.is_object())
          add_endpoint(*slice, entry.get_object(), number, family, out);
    }
    return out;
  }

  static std::uint16_t slice_port(const Object& slice, std::string_view name, L4Proto proto) {
    const auto* ports = api::find_array(slice.body, "ports");
    if (!ports)
      return 0;
    for (const json::value& entry : *ports) {
      if (!entry.is_object() || api::find_string(entry.get_object(), "name") != name)
        continue;
      const auto protocol = api::find_string(entry.get_object(), "protocol");
      const std::uint16_t number = port_number(entry.get_object(), "port");
      if ((protocol.empty() ? "TCP" : protocol) == to_string(proto) && number != 0)
        return number;
    }
    return 0;
  }

  // What an endpoint of a slice says, read in one pass.
  struct SliceEndpoint {
    std::string_view address, node, zone;
    std::optional<bool> ready, serving, terminating;
  };

  static std::string_view text_in(const json::value& value) {
    const json::string* text = value.if_string();
    return text ? std::string_view(*text) : std::string_view();
  }

  static SliceEndpoint read_endpoint(const json::object& endpoint) {
    SliceEndpoint out;
    for (const auto& [key, value] : endpoint) {
      if (key == "addresses") {
        // Addresses of one endpoint are the same backend: the first counts.
        const json::array* addresses = value.if_array();
        if (addresses && !addresses->empty())
          out.address = text_in(addresses->front());
      } else if (key == "nodeName") {
        out.node = text_in(value);
      } else if (key == "zone") {
        out.zone = text_in(value);
      } else if (key == "conditions" && value.is_object()) {
        for (const auto& [name, holds] : value.get_object())
          if (auto* condition = name == "ready"         ? &out.ready
                                : name == "serving"     ? &out.serving
                                : name == "terminating" ? &out.terminating
                                                        : nullptr;
              condition && holds.is_bool())
            *condition = holds.get_bool();
      }
    }
    return out;
  }

  // discovery/v1: an absent `ready` means ready, an absent `serving` the same as `ready`.
  static BackendState state_of(const SliceEndpoint& endpoint, const Host* host) {
    if (host && !host->alive)
      return BackendState::kTerminating;
    const bool ready = endpoint.ready.value_or(true);
    if (ready)
      return BackendState::kReady;
    return endpoint.serving.value_or(ready) && endpoint.terminating.value_or(false)
               ? BackendState::kServing
               : BackendState::kTerminating;
  }

  void add_endpoint(const Object& slice, const json::object& json_endpoint, std::uint16_t number,
                    IpFamily family, std::vector<Endpoint>& out) {
    const SliceEndpoint read = read_endpoint(json_endpoint);
    const auto ip = IpAddress::parse(read.address);
    if (!ip || ip->family() != family || ip->is_unspecified() || ip->is_loopback() ||
        ip->is_multicast()) {
      note(FindingKind::kBadEndpoint,
           fmt::format("EndpointSlice {}: \"{}\" cannot be a backend", slice.name, read.address));
      return;
    }
    const Host* host = read.node.empty() ? nullptr : scene_.host(read.node);
    Endpoint& endpoint = out.emplace_back();
    endpoint.backend.ip = *ip;
    endpoint.backend.port = number;
    endpoint.backend.state = state_of(read, host);
    endpoint.backend.host = scene_.by_address.host_of(*ip);
    endpoint.node = read.node;
    endpoint.zone = !read.zone.empty() ? read.zone : host ? std::string_view(host->zone) : "";
  }

  // ---- ports
  void add_port(const json::object& port_spec, bool by_selector, IpFamily family) {
    const std::uint16_t number = port_number(port_spec, "port");
    const auto protocol = api::find_string(port_spec, "protocol");
    const auto proto = parse_l4_proto(protocol.empty() ? "TCP" : protocol);
    if (number == 0 || !proto)
      return;  // the API refuses these
    model::ServicePort port;
    port.ns = service_.ns;
    port.name = service_.name;
    port.port_name = api::find_string(port_spec, "name");
    port.proto = *proto;
    port.family = family;
    port.affinity_s = api::affinity_timeout_s(spec_);
    for (const api::LabelWeight& weight : weights_)
      port.groups.push_back({weight.group(), weight.weight});
    std::vector<Endpoint> endpoints =
        by_selector ? pod_endpoints(port_spec, family) : slice_endpoints(port_spec, *proto, family);
    count(endpoints, served_[family]);
    add_rings(port, frontends(number, port_spec, *proto, family), std::move(endpoints));
  }

  std::vector<model::Frontend> frontends(std::uint16_t number, const json::object& port_spec,
                                         L4Proto proto, IpFamily family) {
    std::vector<model::Frontend> out;
    for (const auto& [ip, kind] : addresses_) {
      if (ip.family() != family || is_reserved(ip, number, proto))
        continue;
      out.push_back({ip, number, proto, kind});
      if (contestable_.contains(ip))
        part_.contestable.push_back({ip, number, proto});
    }
    const std::uint16_t node_port =
        api::may_have_node_ports(spec_) ? port_number(port_spec, "nodePort") : std::uint16_t{0};
    if (node_port != 0)
      for (const IpAddress& ip : scene_.inputs.node_addresses)
        if (ip.family() == family && !is_reserved(ip, node_port, proto))
          out.push_back({ip, node_port, proto, FrontendKind::kNodePort});
    return out;
  }

  bool is_reserved(const IpAddress& ip, std::uint16_t number, L4Proto proto) {
    const auto& own = scene_.inputs.node_addresses;
    if (std::find(own.begin(), own.end(), ip) == own.end() ||
        !scene_.inputs.agent_ports.contains({proto, number}))
      return false;
    note(FindingKind::kPortReserved,
         fmt::format("{}/{} on host {} is shoald's own and stays so",
                     SocketAddress{ip, number}.to_string(), to_string(proto), scene_.inputs.self),
         true);
    return true;
  }

  void add_rings(model::ServicePort& port, std::vector<model::Frontend> all,
                 std::vector<Endpoint> endpoints) {
    const Place here{scene_.inputs.self, scene_.zone};
    const auto emit = [&](Clients clients, std::vector<model::Frontend> frontends,
                          std::vector<model::Backend> backends) {
      if (frontends.empty())
        return;
      model::ServicePort& out = part_.ports.emplace_back(port);
      out.clients = clients;
      out.frontends = std::move(frontends);
      out.backends = std::move(backends);
      if (clients == Clients::kAll || clients == Clients::kOutside) {
        std::copy_if(source_ranges_.begin(), source_ranges_.end(),
                     std::back_inserter(out.source_ranges),
                     [&](const IpPrefix& range) { return range.family() == out.family; });
        // Ranges of one family keep the other out: of that only the address that nobody has may
        // come.
        if (!source_ranges_.empty() && out.source_ranges.empty())
          out.source_ranges.push_back(
              IpPrefix::host(out.family == IpFamily::kV4 ? IpAddress::v4(0) : IpAddress()));
      }
    };
    std::vector<model::Frontend> cluster, external;
    for (const model::Frontend& frontend : all)
      (frontend.kind == FrontendKind::kClusterIp ? cluster : external).push_back(frontend);
    const auto inside = [&](bool local, std::vector<Endpoint> of) {
      return local ? of_host(std::move(of), here) : nearest(std::move(of), here, distribution_);
    };
    // Of clients outside there are none without an address for them.
    if (external.empty())
      return emit(Clients::kAll, std::move(cluster), inside(internal_local_, std::move(endpoints)));
    if (!internal_local_ && !external_local_ && distribution_ == Distribution::kEven)
      return emit(Clients::kAll, std::move(all), everywhere(std::move(endpoints)));
    if (internal_local_) {
      emit(Clients::kInside, std::move(cluster), inside(true, endpoints));
      emit(Clients::kInsideExternal, external, inside(false, endpoints));
    } else {
      emit(Clients::kInside, std::move(all), inside(false, endpoints));
    }
    emit(Clients::kOutside, std::move(external),
         external_local_ ? of_host(std::move(endpoints), here) : everywhere(std::move(endpoints)));
  }

  // ---- what others should know
  void count(const std::vector<Endpoint>& endpoints, Served& served) const {
    for (const Endpoint& endpoint : endpoints) {
      if (endpoint.backend.state == BackendState::kReady) {
        served.ready = true;
        if (external_local_)
          served.ready_hosts.emplace(endpoint.node);
        if (endpoint.node == scene_.inputs.self)
          served.ready_here.insert(endpoint.backend.ip);
      } else if (endpoint.backend.state == BackendState::kServing) {
        served.serving = true;
        if (external_local_)
          served.serving_hosts.emplace(endpoint.node);
      }
    }
  }

  void tell_where_backends_are() {
    for (Vip& vip : part_.vips)
      if (vip.local) {
        vip.ready_hosts = served_[vip.ip.family()].ready_hosts;
        vip.serving_hosts = served_[vip.ip.family()].serving_hosts;
      }
    // A pod of two families is one backend.
    std::size_t ready_here = 0;
    for (const auto& [family, served] : served_)
      ready_here = std::max(ready_here, served.ready_here.size());
    if (const std::uint16_t port = port_number(spec_, "healthCheckNodePort");
        port != 0 && api::has_health_check_port(spec_))
      part_.health =
          HealthCheck{port, service_.ns, service_.name, static_cast<std::uint32_t>(ready_here)};
  }

  void find_gaps(bool by_selector) {
    const bool any = std::any_of(served_.begin(), served_.end(),
                                 [](const auto& served) { return served.second.any(); });
    if (!any)
      note(FindingKind::kNoReadyBackend, "no ready backend: connections are refused");
    for (const auto& [family, served] : served_)
      if (any && !served.any())
        note(FindingKind::kNoReadyBackend,
             fmt::format("no ready {0} backend: connections to its {0} addresses are refused",
                         to_string(family)));
    const bool any_ready = std::any_of(served_.begin(), served_.end(),
                                       [](const auto& served) { return served.second.ready; });
    if (!by_selector)
      return;
    for (const api::LabelWeight& weight : weights_) {
      const std::string group = weight.group();
      if (!selected_groups_.contains(group))
        note(FindingKind::kGroupSelectsNothing,
             fmt::format("{}: no pod of this service has the label {}", api::kWeightsAnnotation,
                         group));
      else if (weight.weight > 0 && !ready_groups_.contains(group) && any_ready)
        note(FindingKind::kGroupWithoutReady,
             fmt::format("{}: group {} has no ready pod; its share goes to the other groups",
                         api::kWeightsAnnotation, group));
    }
  }

  const Scene& scene_;
  const view::View& view_;
  const Object& service_;
  const json::object& spec_;
  const bool publish_all_;
  const bool internal_local_;
  const bool external_local_;
  const std::vector<IpFamily> families_;
  const Distribution distribution_;
  std::vector<api::LabelWeight> weights_;
  std::vector<IpPrefix> source_ranges_;
  std::vector<Address> addresses_;
  std::set<IpAddress> contestable_;
  std::vector<Candidate> candidates_;
  std::set<std::string> selected_groups_;
  std::set<std::string> ready_groups_;
  std::map<IpFamily, Served> served_;
  Part part_;
};

}  // namespace

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
  case FindingKind::kPortConflict:
    return "PortConflict";
  case FindingKind::kPortReserved:
    return "PortReserved";
  case FindingKind::kNoSuchFamily:
    return "FamilyNotAvailable";
  }
  return "?";
}

Part compute_service(const Scene& scene, const Object& service) {
  return Compute(scene, service).run();
}

}  // namespace shoal::desired
