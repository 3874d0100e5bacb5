// SPDX-License-Identifier: Apache-2.0
// A Service's unique addresses, and what is worth a warning about its weights.
#include "agent/api/selector.h"
#include "agent/api/weights.h"
#include "agent/api/writer_plan.h"

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

namespace shoal::api {
namespace json = boost::json;
namespace {

std::string alloc_key(std::string_view pool, std::string_view ip) {
  return fmt::format("/alloc/{}/{}", pool, ip);
}

std::string load_balancer_ip(const json::object& service) {
  const json::array* ingress = find_array(service, "status.loadBalancer.ingress");
  if (!ingress || ingress->empty() || !ingress->front().is_object())
    return {};
  return std::string(find_string(ingress->front().get_object(), "ip"));
}

// Addresses that clients and switches are known to trip over are never given out unasked.
bool is_awkward(const IpAddress& ip, const IpPrefix& prefix) {
  if (!ip.is_v4() || prefix.length() > 24)
    return false;
  const std::uint32_t last = ip.v4_host_order() & 0xff;
  return last == 0 || last == 255;
}

// One pool of addresses: prefixes, and the keys that hold what is taken.
class Pool {
public:
  Pool(const WriterEnv& env, const std::vector<IpPrefix>& prefixes, std::string_view name)
      : env_(env), prefixes_(prefixes), name_(name) {}

  bool holds(const IpAddress& ip) const {
    return std::any_of(prefixes_.begin(), prefixes_.end(),
                       [&](const IpPrefix& p) { return p.contains(ip) && !is_edge(ip, p); });
  }
  bool is_free(const IpAddress& ip) const {
    return !env_.replica.value(alloc_key(name_, ip.to_string()));
  }
  // From a random place on, so that two hosts that allot at the same time seldom meet.
  std::optional<IpAddress> find(bool from_random_place) const {
    for (const IpPrefix& prefix : prefixes_) {
      const std::uint64_t size = std::min(prefix.size(), kSearchMax);
      const std::uint64_t start = from_random_place ? env_.random.below(size) : 0;
      for (std::uint64_t i = 0; i < size; ++i) {
        const IpAddress ip = prefix.address().plus((start + i) % size);
        if (!is_edge(ip, prefix) && !is_awkward(ip, prefix) && is_free(ip))
          return ip;
      }
    }
    return std::nullopt;
  }
  std::string text() const {
    std::string joined;
    for (const IpPrefix& prefix : prefixes_)
      joined += (joined.empty() ? "" : ", ") + prefix.to_string();
    return joined;
  }
  bool empty() const { return prefixes_.empty(); }
  void take(const std::string& ip, const json::object& service, std::string_view owner,
            store::Txn& txn) const {
    const std::string key = alloc_key(name_, ip);
    txn.compares.push_back({key, 0});
    txn.ops.push_back({key, json::serialize(json::object{
                                {"owner", owner}, {"uid", find_string(service, "metadata.uid")}})});
  }

private:
  static constexpr std::uint64_t kSearchMax = 1 << 20;
  // The network's own and its broadcast address. Pools of /31 and /32 have none.
  static bool is_edge(const IpAddress& ip, const IpPrefix& prefix) {
    return prefix.size() > 2 &&
           (ip == prefix.address() || ip == prefix.address().plus(prefix.size() - 1));
  }
  const WriterEnv& env_;
  const std::vector<IpPrefix>& prefixes_;
  std::string_view name_;
};

struct AddressAsk {
  std::string_view field;   // "spec.clusterIP"
  std::string_view config;  // the key that `shoal init` took the pool from
  std::string_view asked;   // empty: any
  bool random_place = false;
};

std::expected<std::string, ApiError> choose(const Pool& pool, const Kind& kind,
                                            const json::object& service, const AddressAsk& ask) {
  const std::string_view name = find_string(service, "metadata.name");
  const auto refuse = [&](std::string_view why) {
    Causes causes;
    causes.invalid(std::string(ask.field), json::string(ask.asked), why);
    return std::unexpected(invalid_error(kind, name, causes.take()));
  };
  if (!ask.asked.empty()) {
    const Result<IpAddress> ip = IpAddress::parse(ask.asked);
    if (!ip || !pool.holds(*ip))
      return refuse(
          fmt::format("provided IP is not in the valid range ({}: {} when the cluster began)",
                      pool.text(), ask.config));
    if (!pool.is_free(*ip))
      return refuse("provided IP is already allocated");
    return ip->to_string();
  }
  if (const std::optional<IpAddress> ip = pool.find(ask.random_place))
    return ip->to_string();
  const std::string message =
      fmt::format("no address is free in {}: delete a Service that has one (the range is {}'s when "
                  "the cluster began, and fixed for its life)",
                  pool.text(), ask.config);
  return std::unexpected(ApiError{507,
                                  "InsufficientStorage",
                                  fmt::format("Service \"{}\": {}: {}", name, ask.field, message),
                                  {{std::string(ask.field), "FieldValueInvalid", message}}});
}

std::expected<void, ApiError> plan_cluster_ip(const WriterEnv& env, const Kind& kind,
                                              const json::object* before, json::object& after,
                                              WritePlan& plan) {
  json::object& spec = after["spec"].get_object();
  const std::string asked(find_string(spec, "clusterIP"));
  std::string ip;
  if (before) {
    ip = find_string(*before, "spec.clusterIP");
    if (!asked.empty() && asked != ip) {
      Causes causes;
      causes.invalid("spec.clusterIP", json::string(asked), "field is immutable");
      return std::unexpected(
          invalid_error(kind, find_string(after, "metadata.name"), causes.take()));
    }
  } else {
    const Pool pool(env, env.options.service_cidrs, kClusterIpPool);
    auto chosen =
        choose(pool, kind, after, {"spec.clusterIP", "network.service_cidr", asked, true});
    if (!chosen)
      return std::unexpected(std::move(chosen.error()));
    ip = *chosen;
    pool.take(ip, after, plan.key, plan.txn);
  }
  spec["clusterIP"] = ip;
  spec["clusterIPs"] = json::array{json::string(ip)};
  return {};
}

std::expected<void, ApiError> plan_load_balancer_ip(const WriterEnv& env, const Kind& kind,
                                                    const json::object* before, json::object& after,
                                                    WritePlan& plan) {
  const bool wanted = find_string(after, "spec.type") == "LoadBalancer";
  const std::string present = before ? load_balancer_ip(*before) : std::string();
  const std::string asked(find_string(after, "spec.loadBalancerIP"));
  std::string ip = wanted ? present : std::string();
  const Pool pool(env, env.options.load_balancer_pools, kLoadBalancerIpPool);
  if (wanted && (ip.empty() || (!asked.empty() && asked != ip))) {
    if (pool.empty()) {
      Causes causes;
      causes.invalid("spec.type", "LoadBalancer",
                     "this cluster has no addresses for load balancers: network.lb_pool was not "
                     "set when it began, and only `shoal init` reads it; use type ClusterIP, or "
                     "begin the cluster anew with it");
      return std::unexpected(
          invalid_error(kind, find_string(after, "metadata.name"), causes.take()));
    }
    auto chosen = choose(pool, kind, after, {"spec.loadBalancerIP", "network.lb_pool", asked});
    if (!chosen)
      return std::unexpected(std::move(chosen.error()));
    ip = *chosen;
    pool.take(ip, after, plan.key, plan.txn);
  }
  if (!present.empty() && present != ip)
    plan.txn.ops.push_back({alloc_key(kLoadBalancerIpPool, present), std::nullopt});
  json::value& status = after["status"];
  if (!status.is_object())
    status.emplace_object();
  json::object shown;
  if (!ip.empty())
    shown["ingress"] = json::array{json::object{{"ip", ip}, {"ipMode", "VIP"}}};
  status.get_object()["loadBalancer"] = std::move(shown);
  return {};
}

}  // namespace

std::expected<void, ApiError> plan_addresses(const WriterEnv& env, const Kind& kind,
                                             const json::object* before, json::object& after,
                                             WritePlan& plan) {
  if (auto done = plan_cluster_ip(env, kind, before, after, plan); !done)
    return done;
  return plan_load_balancer_ip(env, kind, before, after, plan);
}

void free_addresses(const json::object& service, store::Txn& txn) {
  if (const std::string_view ip = find_string(service, "spec.clusterIP"); !ip.empty())
    txn.ops.push_back({alloc_key(kClusterIpPool, ip), std::nullopt});
  if (const std::string ip = load_balancer_ip(service); !ip.empty())
    txn.ops.push_back({alloc_key(kLoadBalancerIpPool, ip), std::nullopt});
}

void keep_addresses(const json::object& before, json::object& after) {
  json::value* spec = after.if_contains("spec");
  const json::object* old_spec = find_object(before, "spec");
  if (!spec || !spec->is_object() || !old_spec)
    return;
  json::object& now = spec->get_object();
  const std::string_view ip = find_string(*old_spec, "clusterIP");
  if (find_string(now, "clusterIP").empty() && !ip.empty())
    now["clusterIP"] = ip;
  if (const json::array* ips = find_array(now, "clusterIPs"); !ips || ips->empty())
    if (const json::value* old_ips = old_spec->if_contains("clusterIPs"))
      now["clusterIPs"] = *old_ips;
}

std::vector<std::string> weight_warnings(const store::Replica& replica, std::string_view ns,
                                         const json::object& service) {
  std::vector<std::string> warnings;
  const Result<std::vector<LabelWeight>> weights = service_weights(service);
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
