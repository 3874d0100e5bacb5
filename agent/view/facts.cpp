// SPDX-License-Identifier: Apache-2.0
#include "agent/view/facts.h"

#include "agent/api/schema.h"
#include "netplane/base/strings.h"

#include <boost/json/value.hpp>
#include <limits>

namespace shoal::view {

namespace json = boost::json;
using api::find_array;
using api::find_int;
using api::find_object;
using api::find_path;
using api::find_string;

// ---- metadata

bool is_terminating(const Object& object) {
  return !find_string(object.body, "metadata.deletionTimestamp").empty();
}

const json::object* labels(const Object& object) { return api::labels_of(object.body); }

namespace {

std::string_view string_in(const json::object* map, std::string_view key) {
  if (!map)
    return {};
  const auto* value = map->if_contains(key);
  return value && value->is_string() ? std::string_view(value->get_string()) : std::string_view();
}

}  // namespace

std::string_view label(const Object& object, std::string_view key) {
  return string_in(labels(object), key);
}

std::string_view annotation(const Object& object, std::string_view key) {
  return string_in(api::annotations_of(object.body), key);
}

std::optional<WallTime> created_at(const Object& object) {
  return parse_time(find_string(object.body, "metadata.creationTimestamp"));
}

namespace {

// Reads exactly `width` digits at `at` and moves past them.
std::optional<int> digits(std::string_view text, std::size_t& at, std::size_t width) {
  if (at + width > text.size())
    return std::nullopt;
  const auto number = parse_uint(text.substr(at, width));
  if (!number)
    return std::nullopt;
  at += width;
  return static_cast<int>(*number);
}

bool literal(std::string_view text, std::size_t& at, char wanted) {
  if (at >= text.size() || text[at] != wanted)
    return false;
  ++at;
  return true;
}

// The part after the seconds: an optional fraction, then Z or an offset. In nanoseconds to add.
std::optional<Duration> tail(std::string_view text, std::size_t at) {
  Duration sum{0};
  if (literal(text, at, '.')) {
    std::int64_t scale = 100'000'000;
    const std::size_t begin = at;
    for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at, scale /= 10)
      sum += Duration((text[at] - '0') * scale);
    if (at == begin)
      return std::nullopt;
  }
  if (at < text.size() && (text[at] == 'Z' || text[at] == 'z'))
    return at + 1 == text.size() ? std::optional(sum) : std::nullopt;
  if (at >= text.size() || (text[at] != '+' && text[at] != '-'))
    return std::nullopt;
  const int sign = text[at++] == '+' ? -1 : 1;
  const auto hours = digits(text, at, 2);
  if (!hours || !literal(text, at, ':'))
    return std::nullopt;
  const auto minutes = digits(text, at, 2);
  if (!minutes || at != text.size())
    return std::nullopt;
  return sum + sign * (std::chrono::hours(*hours) + std::chrono::minutes(*minutes));
}

}  // namespace

std::optional<WallTime> parse_time(std::string_view text) {
  std::size_t at = 0;
  const auto year = digits(text, at, 4);
  if (!year || !literal(text, at, '-'))
    return std::nullopt;
  const auto month = digits(text, at, 2);
  if (!month || !literal(text, at, '-'))
    return std::nullopt;
  const auto day = digits(text, at, 2);
  if (!day || !(literal(text, at, 'T') || literal(text, at, 't')))
    return std::nullopt;
  const auto hour = digits(text, at, 2);
  if (!hour || !literal(text, at, ':'))
    return std::nullopt;
  const auto minute = digits(text, at, 2);
  if (!minute || !literal(text, at, ':'))
    return std::nullopt;
  const auto second = digits(text, at, 2);
  if (!second || *hour > 23 || *minute > 59 || *second > 60)
    return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year(*year),
                                         std::chrono::month(static_cast<unsigned>(*month)),
                                         std::chrono::day(static_cast<unsigned>(*day))};
  const auto rest = tail(text, at);
  // Nanoseconds since 1970 in 64 bits end in 2262.
  if (!date.ok() || !rest || *year < 1970 || *year > 2261)
    return std::nullopt;
  return WallTime(std::chrono::sys_days(date).time_since_epoch() + std::chrono::hours(*hour) +
                  std::chrono::minutes(*minute) + std::chrono::seconds(*second) + *rest);
}

std::vector<OwnerRef> owners_of(const Object& object) {
  std::vector<OwnerRef> out;
  const auto* list = find_array(object.body, "metadata.ownerReferences");
  if (!list)
    return out;
  for (const auto& entry : *list) {
    if (!entry.is_object())
      continue;
    const auto& owner = entry.get_object();
    const auto* marked = owner.if_contains("controller");
    out.push_back({std::string(find_string(owner, "apiVersion")),
                   std::string(find_string(owner, "kind")), std::string(find_string(owner, "name")),
                   std::string(find_string(owner, "uid")),
                   marked && marked->is_bool() && marked->get_bool()});
  }
  return out;
}

std::optional<OwnerRef> controller_of(const Object& object) {
  for (OwnerRef& owner : owners_of(object))
    if (owner.controller)
      return std::move(owner);
  return std::nullopt;
}

json::object controller_ref(const Object& owner) {
  return {{"apiVersion", find_string(owner.body, "apiVersion")},
          {"kind", find_string(owner.body, "kind")},
          {"name", owner.name},
          {"uid", owner.uid},
          {"controller", true},
          {"blockOwnerDeletion", true}};
}

std::optional<std::string> resource_of(std::string_view api_version, std::string_view kind) {
  const api::Kind* found = api::find_kind(api_version, kind);
  return found ? std::optional(found->resource()) : std::nullopt;
}

// ---- conditions

const json::object* condition(const Object& object, std::string_view type) {
  const auto* list = find_array(object.body, "status.conditions");
  if (!list)
    return nullptr;
  for (const auto& entry : *list)
    if (entry.is_object() && string_in(&entry.get_object(), "type") == type)
      return &entry.get_object();
  return nullptr;
}

bool condition_true(const Object& object, std::string_view type) {
  return string_in(condition(object, type), "status") == "True";
}

// ---- pods

std::string_view node_of(const Object& pod) { return find_string(pod.body, "spec.nodeName"); }

std::string_view phase_of(const Object& pod) { return find_string(pod.body, "status.phase"); }

bool is_finished(const Object& pod) {
  const auto phase = phase_of(pod);
  return phase == "Succeeded" || phase == "Failed";
}

bool is_active(const Object& pod) { return !is_finished(pod) && !is_terminating(pod); }

bool is_ready(const Object& pod, const Members& members) {
  return is_active(pod) && condition_true(pod, "Ready") && members.alive(node_of(pod));
}

bool is_available(const Object& pod, const Members& members, std::int64_t min_ready_s, WallTime now,
                  std::optional<Duration>* left) {
  if (!is_ready(pod, members))
    return false;
  if (min_ready_s <= 0)
    return true;
  const auto since = parse_time(string_in(condition(pod, "Ready"), "lastTransitionTime"));
  if (!since)
    return false;
  const Duration missing = *since + std::chrono::seconds(min_ready_s) - now;
  if (missing <= Duration(0))
    return true;
  if (left && (!*left || missing < **left))
    *left = missing;
  return false;
}

namespace {

std::uint16_t generation_at(const Object& pod, std::string_view path) {
  const std::int64_t value = find_int(pod.body, path, 0);
  return value < 0 || value > std::numeric_limits<std::uint16_t>::max()
             ? std::uint16_t{0}
             : static_cast<std::uint16_t>(value);
}

}  // namespace

std::vector<model::PodAddress> pod_addresses(const Object& pod) {
  std::vector<model::PodAddress> out;
  const auto add = [&](std::string_view text) {
    const auto ip = IpAddress::parse(text);
    if (!ip || std::ranges::any_of(out, [&](const model::PodAddress& known) {
          return known.ip.family() == ip->family();
        }))
      return;
    out.push_back({*ip, generation_at(pod, out.empty() ? "status.shoalGeneration"
                                                       : "status.shoalGenerationV6")});
  };
  add(find_string(pod.body, "status.podIP"));
  if (const auto* list = find_array(pod.body, "status.podIPs"))
    for (const auto& entry : *list)
      if (entry.is_object())
        add(find_string(entry.get_object(), "ip"));
  return out;
}

std::optional<model::PodAddress> pod_address(const Object& pod, IpFamily family) {
  for (const model::PodAddress& address : pod_addresses(pod))
    if (address.ip.family() == family)
      return address;
  return std::nullopt;
}

std::int64_t restarts_of(const Object& pod) {
  std::int64_t most = 0;
  if (const auto* list = find_array(pod.body, "status.containerStatuses"))
    for (const auto& entry : *list)
      if (entry.is_object())
        most = std::max(most, find_int(entry.get_object(), "restartCount", 0));
  return most;
}

namespace {

std::optional<std::uint16_t> port_number(std::int64_t value) {
  return value >= 1 && value <= 65535 ? std::optional(static_cast<std::uint16_t>(value))
                                      : std::nullopt;
}

std::string_view or_tcp(std::string_view protocol) { return protocol.empty() ? "TCP" : protocol; }

// Ports of the containers that stay: the main ones, then sidecars. Until visit says true.
template <class Visit>
bool any_port(const Object& pod, Visit visit) {
  for (const std::string_view list : {"spec.containers", "spec.initContainers"}) {
    const auto* containers = find_array(pod.body, list);
    for (std::size_t i = 0; containers && i < containers->size(); ++i) {
      const auto* container = (*containers)[i].if_object();
      if (!container ||
          (list == "spec.initContainers" && string_in(container, "restartPolicy") != "Always"))
        continue;
      const auto* ports = find_array(*container, "ports");
      for (std::size_t p = 0; ports && p < ports->size(); ++p)
        if (const auto* port = (*ports)[p].if_object(); port && visit(*port))
          return true;
    }
  }
  return false;
}

}  // namespace

std::optional<std::uint16_t> named_port(const Object& pod, std::string_view name,
                                        std::string_view protocol) {
  std::optional<std::uint16_t> found;
  any_port(pod, [&](const boost::json::object& port) {
    const bool same = string_in(&port, "name") == name &&
                      or_tcp(string_in(&port, "protocol")) == or_tcp(protocol);
    if (same)
      found = port_number(find_int(port, "containerPort", 0));
    return same;
  });
  return found;
}

bool in_host_network(const Object& pod) {
  const auto* value = find_path(pod.body, "spec.hostNetwork");
  return value && value->is_bool() && value->get_bool();
}

std::vector<HostPort> host_ports(const Object& pod) {
  std::vector<HostPort> out;
  any_port(pod, [&](const boost::json::object& spec) {
    const auto port = port_number(find_int(spec, "hostPort", 0));
    const auto inner = port_number(find_int(spec, "containerPort", 0));
    const auto proto = parse_l4_proto(or_tcp(string_in(&spec, "protocol")));
    if (!port || !inner || !proto)
      return false;
    HostPort found{std::nullopt, *port, *proto, *inner};
    if (const auto ip = IpAddress::parse(string_in(&spec, "hostIP")); ip && !ip->is_unspecified())
      found.ip = *ip;
    out.push_back(found);
    return false;
  });
  return out;
}

bool collide(const HostPort& a, const HostPort& b) {
  return a.port == b.port && a.proto == b.proto && (!a.ip || !b.ip || *a.ip == *b.ip);
}

// ---- nodes

bool node_reports_ready(const Object& node) { return condition_true(node, "Ready"); }

bool tolerates(const Object& pod, std::string_view key, std::string_view effect) {
  const auto* list = find_array(pod.body, "spec.tolerations");
  if (!list)
    return false;
  return std::any_of(list->begin(), list->end(), [&](const json::value& value) {
    const json::object* one = value.if_object();
    if (!one)
      return false;
    const std::string_view its_key = find_string(*one, "key");
    const std::string_view its_effect = find_string(*one, "effect");
    const bool exists = find_string(*one, "operator") == "Exists";
    const bool fits = its_key.empty() ? exists : its_key == key;
    return fits && (exists || find_string(*one, "value").empty()) &&
           (its_effect.empty() || its_effect == effect);
  });
}

bool node_schedulable(const Object& node) {
  const auto* value = find_path(node.body, "spec.unschedulable");
  return !(value && value->is_bool() && value->get_bool()) && !is_terminating(node);
}

namespace {

std::optional<IpAddress> internal_ip(const Object& node, IpFamily family) {
  const auto* list = find_array(node.body, "status.addresses");
  if (!list)
    return std::nullopt;
  for (const auto& entry : *list) {
    if (!entry.is_object() || string_in(&entry.get_object(), "type") != "InternalIP")
      continue;
    if (const auto ip = IpAddress::parse(string_in(&entry.get_object(), "address"));
        ip && ip->family() == family)
      return *ip;
  }
  return std::nullopt;
}

}  // namespace

std::optional<IpAddress> node_underlay(const Object& node) {
  return internal_ip(node, IpFamily::kV4);
}

std::optional<IpAddress> node_lan_v6(const Object& node) {
  return internal_ip(node, IpFamily::kV6);
}

bool node_answers(const Object& node) {
  return find_string(node.body, "status.nodeInfo.kubeProxyVersion") == kProxyAnswers;
}

std::vector<IpPrefix> node_pod_cidrs(const Object& node) {
  std::vector<IpPrefix> out;
  const auto add = [&](std::string_view text) {
    const auto prefix = IpPrefix::parse(text);
    if (!prefix)
      return;
    for (const IpPrefix& known : out)
      if (known.is_v4() == prefix->is_v4())
        return;
    out.push_back(*prefix);
  };
  if (const auto* list = find_array(node.body, "spec.podCIDRs"))
    for (const auto& entry : *list)
      if (entry.is_string())
        add(entry.get_string());
  add(find_string(node.body, "spec.podCIDR"));
  return out;
}

std::string_view node_zone(const Object& node) {
  return label(node, "topology.kubernetes.io/zone");
}

// ---- services

bool has_selector(const Object& service) {
  const auto* selector = find_object(service.body, "spec.selector");
  return selector && !selector->empty();
}

std::optional<std::uint16_t> target_port(const Object& pod, const json::object& service_port) {
  const auto* target = service_port.if_contains("targetPort");
  if (!target || target->is_null())
    return port_number(find_int(service_port, "port", 0));
  if (target->is_int64())
    return port_number(target->get_int64() ? target->get_int64()
                                           : find_int(service_port, "port", 0));
  if (!target->is_string())
    return std::nullopt;
  const std::string_view text = target->get_string();
  if (const auto number = parse_uint(text))  // "80", as some clients write it
    return port_number(static_cast<std::int64_t>(*number));
  return named_port(pod, text, string_in(&service_port, "protocol"));
}

}  // namespace shoal::view
