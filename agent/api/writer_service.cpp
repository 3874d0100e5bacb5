// SPDX-License-Identifier: Apache-2.0
// A Service's unique addresses and ports, and what is worth a warning about its weights.
#include "agent/api/allocator.h"
#include "agent/api/drain_timeout.h"
#include "agent/api/load_balancer.h"
#include "agent/api/selector.h"
#include "agent/api/service_facts.h"
#include "agent/api/weights.h"
#include "agent/api/writer_plan.h"

#include <algorithm>
#include <fmt/format.h>
#include <iterator>

namespace shoal::api {
namespace json = boost::json;
namespace {

using Planned = std::expected<void, ApiError>;

// ---- refusals
ApiError invalid(const Kind& kind, const json::object& service, std::string_view field,
                 const json::value& value, std::string_view why) {
  Causes causes;
  causes.invalid(std::string(field), value, why);
  return invalid_error(kind, find_string(service, "metadata.name"), causes.take());
}

ApiError exhausted(const json::object& service, std::string_view field, std::string_view why) {
  return ApiError{
      507,
      "InsufficientStorage",
      fmt::format("Service \"{}\": {}: {}", find_string(service, "metadata.name"), field, why),
      {{std::string(field), "FieldValueInvalid", std::string(why)}}};
}

// ---- addresses
// As the server writes them: an IPv6 address has several spellings.
std::vector<std::string> listed_cluster_ips(const json::object& spec) {
  std::vector<std::string> ips;
  const auto add = [&](std::string_view text) {
    const auto ip = IpAddress::parse(text);
    ips.push_back(ip ? ip->to_string() : std::string(text));
  };
  if (const json::array* listed = find_array(spec, "clusterIPs"))
    for (const json::value& ip : *listed)
      if (ip.is_string())
        add(ip.get_string());
  if (ips.empty() && !find_string(spec, "clusterIP").empty())
    add(find_string(spec, "clusterIP"));
  return ips;
}

// None: it has none, or is headless.
std::vector<std::string> allotted_cluster_ips(const json::object& service) {
  const json::object& spec = spec_of(service);
  return has_cluster_ip(spec) && !is_headless(spec) ? listed_cluster_ips(spec)
                                                    : std::vector<std::string>();
}

std::string of_family(const std::vector<std::string>& ips, IpFamily family) {
  for (const std::string& text : ips)
    if (const auto ip = IpAddress::parse(text); ip && ip->family() == family)
      return text;
  return {};
}

std::vector<IpPrefix> of_family(const std::vector<IpPrefix>& prefixes, IpFamily family) {
  std::vector<IpPrefix> out;
  std::ranges::copy_if(prefixes, std::back_inserter(out),
                       [&](const IpPrefix& prefix) { return prefix.family() == family; });
  return out;
}

struct AddressAsk {
  std::string_view field;   // "spec.clusterIP"
  std::string_view config;  // the key that `shoal init` took the pool from
  std::string_view asked;   // empty: any
  Random* random_place = nullptr;
};

std::expected<std::string, ApiError> choose(const AddressPool& pool, const Kind& kind,
                                            const json::object& service, const AddressAsk& ask) {
  if (!ask.asked.empty()) {
    const json::string asked(ask.asked);
    const Result<IpAddress> ip = IpAddress::parse(ask.asked);
    if (!ip || !pool.holds(*ip))
      return std::unexpected(invalid(
          kind, service, ask.field, asked,
          fmt::format("provided IP is not in the valid range ({}: {} when the cluster began)",
                      pool.text(), ask.config)));
    if (!pool.is_free(*ip))
      return std::unexpected(
          invalid(kind, service, ask.field, asked, "provided IP is already allocated"));
    return ip->to_string();
  }
  if (const std::optional<IpAddress> ip = pool.find(ask.random_place))
    return ip->to_string();
  return std::unexpected(exhausted(
      service, ask.field,
      fmt::format("no address is free in {}: delete a Service that has one (the range is {}'s when "
                  "the cluster began, and fixed for its life)",
                  pool.text(), ask.config)));
}

// ---- families
bool cluster_has(const WriterEnv& env, IpFamily family) {
  return !of_family(env.options.service_cidrs, family).empty();
}

// Completes ipFamilies by what the policy asks and the cluster has. Headless services whose
// endpoints are made by hand may name families that the cluster has not.
Planned settle_families(const WriterEnv& env, const Kind& kind, json::object& after) {
  json::object& spec = after["spec"].get_object();
  const json::object* selector = find_object(spec, "selector");
  if (is_headless(spec) && (!selector || selector->empty()))
    return {};
  const std::string_view policy = find_string(spec, "ipFamilyPolicy");
  std::vector<IpFamily> families = ip_families(spec);
  if (policy == kRequireDualStack &&
      (!cluster_has(env, IpFamily::kV4) || !cluster_has(env, IpFamily::kV6)))
    return std::unexpected(invalid(kind, after, "spec.ipFamilyPolicy", json::string(policy),
                                   "this cluster is not configured for dual-stack services"));
  for (std::size_t i = 0; i < families.size(); ++i)
    if (!cluster_has(env, families[i]))
      return std::unexpected(invalid(kind, after, fmt::format("spec.ipFamilies[{}]", i),
                                     json::string(to_string(families[i])),
                                     "not configured on this cluster"));
  const IpFamily other = families.front() == IpFamily::kV4 ? IpFamily::kV6 : IpFamily::kV4;
  if (policy != kSingleStack && families.size() == 1 && cluster_has(env, other))
    families.push_back(other);
  json::array& shown = spec["ipFamilies"].emplace_array();
  for (const IpFamily family : families)
    shown.emplace_back(to_string(family));
  return {};
}

Planned check_family_changes(const Kind& kind, const json::object& before,
                             const json::object& after) {
  const json::object& old_spec = spec_of(before);
  const json::object& spec = spec_of(after);
  if (!has_cluster_ip(old_spec))
    return {};
  if (ip_families(old_spec).front() != ip_families(spec).front())
    return std::unexpected(invalid(kind, after, "spec.ipFamilies[0]",
                                   json::string(to_string(ip_families(spec).front())),
                                   "may not change once set"));
  const auto had = listed_cluster_ips(old_spec);
  const auto asked = listed_cluster_ips(spec);
  if (!asked.empty() && asked.front() != had.front())
    return std::unexpected(
        invalid(kind, after, "spec.clusterIP", json::string(asked.front()), "field is immutable"));
  if (had.size() == 2 && asked.size() == 2 && asked[1] != had[1])
    return std::unexpected(invalid(kind, after, "spec.clusterIPs[1]", json::string(asked[1]),
                                   "may not change once set"));
  const std::string_view policy = find_string(spec, "ipFamilyPolicy");
  if (had.size() == 2 && asked.size() == 1 && policy != kSingleStack)
    return std::unexpected(
        invalid(kind, after, "spec.ipFamilyPolicy", json::string(policy),
                "must be set to 'SingleStack' when releasing the secondary clusterIP"));
  return {};
}

// An address of a family that the service does not have would lead nowhere.
Planned check_external_ips(const Kind& kind, const json::object& after) {
  const json::array* ips = find_array(spec_of(after), "externalIPs");
  const auto families = ip_families(spec_of(after));
  for (std::size_t i = 0; ips && i < ips->size(); ++i) {
    const auto ip = IpAddress::parse(
        (*ips)[i].is_string() ? std::string_view((*ips)[i].get_string()) : std::string_view());
    if (ip && std::ranges::find(families, ip->family()) == families.end())
      return std::unexpected(invalid(
          kind, after, fmt::format("spec.externalIPs[{}]", i), (*ips)[i],
          fmt::format("{} is not among this service's ipFamilies", to_string(ip->family()))));
  }
  return {};
}

// ---- ClusterIPs
Planned plan_cluster_ips(const WriterEnv& env, const Kind& kind, const json::object* before,
                         json::object& after, WritePlan& plan) {
  json::object& spec = after["spec"].get_object();
  const auto had = before ? allotted_cluster_ips(*before) : std::vector<std::string>();
  std::vector<std::string> has;
  if (!has_cluster_ip(spec)) {
    spec.erase("clusterIP");
    spec.erase("clusterIPs");
  } else {
    if (auto done = settle_families(env, kind, after); !done)
      return done;
    if (before)
      if (auto done = check_family_changes(kind, *before, after); !done)
        return done;
    if (auto done = check_external_ips(kind, after); !done)
      return done;
    const auto asked = listed_cluster_ips(spec);
    if (is_headless(spec) || (before && is_headless(spec_of(*before)))) {
      spec["clusterIP"] = kHeadless;
      spec["clusterIPs"] = json::array{kHeadless};
    } else {
      const std::vector<IpFamily> families = ip_families(spec);
      for (std::size_t i = 0; i < families.size(); ++i) {
        std::string ip = of_family(had, families[i]);
        if (ip.empty()) {
          const auto range = of_family(env.options.service_cidrs, families[i]);
          auto chosen =
              choose(AddressPool(env, range, kClusterIpPool), kind, after,
                     {i == 0 ? "spec.clusterIP" : "spec.clusterIPs[1]", "network.service_cidr",
                      of_family(asked, families[i]), &env.random});
          if (!chosen)
            return std::unexpected(std::move(chosen.error()));
          ip = std::move(*chosen);
          take_item(kClusterIpPool, ip, after, plan);
        }
        has.push_back(std::move(ip));
      }
      spec["clusterIP"] = has.front();
      spec["clusterIPs"] = json::array(has.begin(), has.end());
    }
  }
  for (const std::string& ip : had)
    if (std::ranges::find(has, ip) == has.end())
      free_item(kClusterIpPool, ip, plan.txn);
  return {};
}

Planned check_load_balancer_class(const Kind& kind, const json::object* before,
                                  const json::object& after) {
  if (!before || service_type(spec_of(*before)) != ServiceType::kLoadBalancer ||
      service_type(spec_of(after)) != ServiceType::kLoadBalancer)
    return {};
  const std::string_view now = find_string(spec_of(after), "loadBalancerClass");
  if (now == find_string(spec_of(*before), "loadBalancerClass"))
    return {};
  return std::unexpected(
      invalid(kind, after, "spec.loadBalancerClass", json::string(now), "may not change once set"));
}

void show_load_balancer(json::object& service, json::object shown) {
  json::value& status = service["status"];
  if (!status.is_object())
    status.emplace_object();
  status.get_object()["loadBalancer"] = std::move(shown);
}

// Those that it has and keeps, and new ones where it lacks them and they are free. It is pending
// while it lacks some (agent/controllers/load_balancer.cpp goes on from there).
std::expected<std::vector<std::string>, ApiError>
load_balancer_ips(const WriterEnv& env, const Kind& kind, const std::vector<std::string>& had,
                  const json::object& after, WritePlan& plan) {
  const json::object& spec = spec_of(after);
  const std::string asked(find_string(spec, "loadBalancerIP"));
  const auto asked_ip = IpAddress::parse(asked);
  const auto families = ip_families(spec);
  if (asked_ip && std::ranges::find(families, asked_ip->family()) == families.end())
    return std::unexpected(invalid(
        kind, after, "spec.loadBalancerIP", json::string(asked),
        fmt::format("{} is not among this service's ipFamilies", to_string(asked_ip->family()))));
  const auto& pools = env.options.load_balancer_pools;
  const auto lacks = load_balancer_lacks(after, had, pools);
  std::vector<std::string> has;
  for (const IpFamily family : families) {
    const auto lack = std::ranges::find(lacks, family, &LoadBalancerLack::family);
    std::string ip = lack == lacks.end() ? of_family(had, family) : std::string();
    if (lack != lacks.end())
      if (auto found = find_load_balancer_ip(*lack, pools, [&](const IpAddress& address) {
            return !is_taken(env, kLoadBalancerIpPool, address.to_string());
          })) {
        ip = std::move(*found);
        take_item(kLoadBalancerIpPool, ip, after, plan);
      }
    if (!ip.empty())
      has.push_back(std::move(ip));
  }
  return has;
}

Planned plan_load_balancer_ips(const WriterEnv& env, const Kind& kind, const json::object* before,
                               json::object& after, WritePlan& plan) {
  if (auto same = check_load_balancer_class(kind, before, after); !same)
    return same;
  const json::object& spec = spec_of(after);
  const auto had = before ? own_load_balancer_ips(*before) : std::vector<std::string>();
  std::vector<std::string> has;
  if (is_own_load_balancer(spec)) {
    auto chosen = load_balancer_ips(env, kind, had, after, plan);
    if (!chosen)
      return std::unexpected(std::move(chosen.error()));
    has = std::move(*chosen);
  }
  for (const std::string& ip : had)
    if (std::ranges::find(has, ip) == has.end())
      free_item(kLoadBalancerIpPool, ip, plan.txn);
  if (!has.empty()) {
    json::array ingress;
    for (const std::string& ip : has)
      ingress.push_back(json::object{{"ip", ip}, {"ipMode", "VIP"}});
    show_load_balancer(after, {{"ingress", std::move(ingress)}});
  } else if (is_own_load_balancer(spec) || service_type(spec) != ServiceType::kLoadBalancer ||
             !before || service_type(spec_of(*before)) != ServiceType::kLoadBalancer) {
    show_load_balancer(after, {});
  }
  return {};  // of another class: its controller has written the status
}

// ---- node ports
constexpr std::string_view kHealthField = "spec.healthCheckNodePort";
constexpr std::string_view kTcp = "TCP";

std::optional<NodePort> health_check_port(const json::object& spec) {
  const std::int64_t number = find_int(spec, "healthCheckNodePort", 0);
  if (number == 0)
    return std::nullopt;
  return NodePort{std::string(kTcp), static_cast<std::uint16_t>(number)};
}

NodePort node_port_of(const json::object& port) {
  return {std::string(find_string(port, "protocol")),
          static_cast<std::uint16_t>(find_int(port, "nodePort", 0))};
}

std::set<NodePort> node_ports(const json::object& spec) {
  std::set<NodePort> out;
  if (const json::array* ports = find_array(spec, "ports"))
    for (const json::value& port : *ports)
      if (port.is_object() && find_int(port.get_object(), "nodePort", 0) != 0)
        out.insert(node_port_of(port.get_object()));
  if (const auto port = health_check_port(spec))
    out.insert(*port);
  return out;
}

// The ports of one Service, from what it had to what it gets.
class NodePorts {
public:
  NodePorts(const WriterEnv& env, const Kind& kind, const json::object* before, json::object& after,
            WritePlan& plan)
      : pool_(env), kind_(kind), after_(after), plan_(plan) {
    if (before)
      had_ = node_ports(spec_of(*before));
  }

  Planned run() {
    json::object& spec = after_["spec"].get_object();
    // Those that are asked for first, so that none of them is given to another port.
    if (auto done = each_port(
            spec, [&](json::object& port, std::string_view field) { return asked(port, field); });
        !done)
      return done;
    if (auto done = ask_health_port(spec); !done)
      return done;
    if (allots_node_ports(spec))
      if (auto done =
              each_port(spec, [&](json::object& port,
                                  std::string_view field) { return allot(spec, port, field); });
          !done)
        return done;
    if (auto done = allot_health_port(spec); !done)
      return done;
    for (const NodePort& port : had_)
      if (!has_.contains(port))
        free_item(kNodePortPool, port.item(), plan_.txn);
    return {};
  }

private:
  template <class Visit>
  static Planned each_port(json::object& spec, Visit visit) {
    json::value* ports = spec.if_contains("ports");
    if (!ports || !ports->is_array())
      return {};
    json::array& items = ports->get_array();
    for (std::size_t i = 0; i < items.size(); ++i)
      if (items[i].is_object())
        if (auto done = visit(items[i].get_object(), fmt::format("spec.ports[{}].nodePort", i));
            !done)
          return done;
    return {};
  }

  Planned take_asked(const NodePort& port, std::string_view field) {
    const auto refuse = [&](std::string_view why) {
      return std::unexpected(
          invalid(kind_, after_, field, static_cast<std::int64_t>(port.number), why));
    };
    const bool kept = had_.contains(port);
    if (!kept && !pool_.holds(port.number))
      return refuse(fmt::format("provided port is not in the valid range. The range of valid "
                                "ports is {}",
                                pool_.text()));
    if (!has_.insert(port).second || (!kept && !pool_.is_free(port)))
      return refuse("provided port is already allocated");
    if (!kept)
      take_item(kNodePortPool, port.item(), after_, plan_);
    return {};
  }

  Planned asked(const json::object& port, std::string_view field) {
    if (find_int(port, "nodePort", 0) == 0)
      return {};
    return take_asked(node_port_of(port), field);
  }

  std::expected<NodePort, ApiError> any(std::string_view protocol, std::string_view field) {
    std::set<NodePort> taken = has_;
    taken.insert(had_.begin(), had_.end());  // what is let go is free with the next transaction
    const std::optional<NodePort> port = pool_.find(protocol, taken);
    if (!port)
      return std::unexpected(exhausted(
          after_, field,
          fmt::format("no {} port is free in {}: delete a service, or start the cluster with a "
                      "wider network.node_port_range",
                      protocol, pool_.text())));
    has_.insert(*port);
    take_item(kNodePortPool, port->item(), after_, plan_);
    return *port;
  }

  // A port of another protocol with the same number shares its node port, as clients expect of it
  // (DNS: 53/TCP and 53/UDP).
  std::optional<NodePort> siblings(const json::object& spec, const json::object& port) const {
    for (const json::value& other : *find_array(spec, "ports")) {
      if (!other.is_object() || find_int(other.get_object(), "nodePort", 0) == 0 ||
          find_int(other.get_object(), "port", 0) != find_int(port, "port", 0))
        continue;
      NodePort same = node_port_of(other.get_object());
      same.protocol = find_string(port, "protocol");
      if (!has_.contains(same) && (had_.contains(same) || pool_.is_free(same)))
        return same;
    }
    return std::nullopt;
  }

  Planned allot(const json::object& spec, json::object& port, std::string_view field) {
    if (find_int(port, "nodePort", 0) != 0)
      return {};
    if (const auto same = siblings(spec, port)) {
      port["nodePort"] = same->number;
      return take_asked(*same, field);
    }
    const auto chosen = any(find_string(port, "protocol"), field);
    if (!chosen)
      return std::unexpected(chosen.error());
    port["nodePort"] = chosen->number;
    return {};
  }

  Planned ask_health_port(const json::object& spec) {
    const auto port = health_check_port(spec);
    return port ? take_asked(*port, kHealthField) : Planned{};
  }

  Planned allot_health_port(json::object& spec) {
    if (!has_health_check_port(spec) || health_check_port(spec))
      return {};
    const auto chosen = any(kTcp, kHealthField);
    if (!chosen)
      return std::unexpected(chosen.error());
    spec["healthCheckNodePort"] = chosen->number;
    return {};
  }

  NodePortPool pool_;
  const Kind& kind_;
  json::object& after_;
  WritePlan& plan_;
  std::set<NodePort> had_, has_;
};

}  // namespace

Planned plan_allocations(const WriterEnv& env, const Kind& kind, const json::object* before,
                         json::object& after, WritePlan& plan) {
  if (auto done = plan_cluster_ips(env, kind, before, after, plan); !done)
    return done;
  if (auto done = plan_load_balancer_ips(env, kind, before, after, plan); !done)
    return done;
  if (auto done = NodePorts(env, kind, before, after, plan).run(); !done)
    return done;
  // The object itself takes one more.
  if (plan.txn.ops.size() + 1 <= store::kTxnOpsMax)
    return {};
  Causes causes;
  causes.add("spec.ports", "FieldValueTooMany",
             fmt::format("Too many: {} addresses and node ports would be taken and given back at "
                         "once, and at most {} can be: use fewer ports, or set "
                         "allocateLoadBalancerNodePorts to false",
                         plan.txn.ops.size(), store::kTxnOpsMax - 1));
  return std::unexpected(invalid_error(kind, find_string(after, "metadata.name"), causes.take()));
}

void free_allocations(const json::object& service, store::Txn& txn) {
  for (const std::string& ip : allotted_cluster_ips(service))
    free_item(kClusterIpPool, ip, txn);
  for (const std::string& ip : own_load_balancer_ips(service))
    free_item(kLoadBalancerIpPool, ip, txn);
  for (const NodePort& port : node_ports(spec_of(service)))
    free_item(kNodePortPool, port.item(), txn);
}

void settle_load_balancer_status(const json::object& service, json::object& given) {
  const json::object& spec = spec_of(service);
  const json::object* own =
      is_own_load_balancer(spec) ? find_object(service, "status.loadBalancer") : nullptr;
  if (own)
    given["loadBalancer"] = *own;
  else if (service_type(spec) != ServiceType::kLoadBalancer || !find_object(given, "loadBalancer"))
    given["loadBalancer"] = json::object();
}

std::vector<std::string> weight_warnings(const store::Replica& replica, std::string_view ns,
                                         const json::object& service) {
  std::vector<std::string> warnings;
  const Result<std::vector<LabelWeight>> weights = service_weights(service);
  if (weights && weights->empty())
    if (const auto timeout = drain_timeout(service); timeout && *timeout)
      warnings.push_back(fmt::format(
          "metadata.annotations[{}]: has no effect without {}: it is for groups of weight 0",
          kDrainTimeoutAnnotation, kWeightsAnnotation));
  if (!weights || weights->empty())
    return warnings;
  const LabelSelector selector = LabelSelector::from_labels(find_object(service, "spec.selector"));
  std::vector<const json::object*> label_sets;
  std::vector<store::ObjectPtr> held;
  const auto collect = [&](std::string_view resource, std::string_view path) {
    for (store::ObjectPtr& object : replica.list(resource, ns)) {
      const json::object* labels = find_object(object->body, path);
      if (labels && selector.matches(labels))
        label_sets.push_back(labels);
      held.push_back(std::move(object));
    }
  };
  collect("pods", "metadata.labels");
  collect("deployments.apps", "spec.template.metadata.labels");
  collect("replicasets.apps", "spec.template.metadata.labels");
  for (const LabelWeight& group : *weights) {
    const bool any = std::any_of(label_sets.begin(), label_sets.end(), [&](const auto* labels) {
      const json::value* value = labels->if_contains(group.label);
      return value && value->is_string() && value->get_string() == group.value;
    });
    if (!any)
      warnings.push_back(fmt::format(
          "metadata.annotations[{}]: group \"{}\" selects nothing: no pod or template in namespace "
          "\"{}\" that the service selects has this label; its share goes to the other groups",
          kWeightsAnnotation, group.group(), ns));
  }
  return warnings;
}

}  // namespace shoal::api
