// SPDX-License-Identifier: Apache-2.0
// Facts: what controllers and the data plane read out of objects, each in one place. All pure.
#pragma once

#include "agent/view/members.h"
#include "agent/view/view.h"
#include "netplane/base/ip.h"
#include "netplane/model/model.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::view {

// ---- metadata
bool is_terminating(const Object& object);  // metadata.deletionTimestamp is set
const boost::json::object* labels(const Object& object);
std::string_view label(const Object& object, std::string_view key);       // "" when absent
std::string_view annotation(const Object& object, std::string_view key);  // "" when absent
std::optional<WallTime> created_at(const Object& object);
// RFC 3339 with or without a fraction, in UTC or with an offset.
std::optional<WallTime> parse_time(std::string_view text);

struct OwnerRef {
  std::string api_version;
  std::string kind;
  std::string name;
  std::string uid;
  bool controller = false;
};
std::vector<OwnerRef> owners_of(const Object& object);
std::optional<OwnerRef> controller_of(const Object& object);  // the one marked controller: true
// An ownerReferences entry that marks `owner` as the controller.
boost::json::object controller_ref(const Object& owner);
// "deployments.apps" for ("apps/v1", "Deployment"); nothing for kinds that Shoal does not serve.
std::optional<std::string> resource_of(std::string_view api_version, std::string_view kind);

// ---- conditions
const boost::json::object* condition(const Object& object, std::string_view type);
bool condition_true(const Object& object, std::string_view type);

// ---- pods
std::string_view node_of(const Object& pod);   // spec.nodeName, "" when unbound
std::string_view phase_of(const Object& pod);  // "" and "Pending" mean the same
bool is_finished(const Object& pod);           // Succeeded or Failed
bool is_active(const Object& pod);             // neither finished nor terminating
// Reported ready by its host, not terminating, and its host is alive: what others may count on.
bool is_ready(const Object& pod, const Members& members);
// Ready for at least min_ready_s. `left` gets the time until it will be, when time alone is
// missing.
bool is_available(const Object& pod, const Members& members, std::int64_t min_ready_s, WallTime now,
                  std::optional<Duration>* left = nullptr);
// status.podIP and podIPs, at most one of each family, the primary one first; generation 0: not
// reported.
std::vector<model::PodAddress> pod_addresses(const Object& pod);
std::optional<model::PodAddress> pod_address(const Object& pod, IpFamily family);
std::int64_t restarts_of(const Object& pod);
// A container port by name and protocol; init containers have none.
std::optional<std::uint16_t> named_port(const Object& pod, std::string_view name,
                                        std::string_view protocol);
// It has no network of its own: its addresses are its host's, and its ports too.
bool in_host_network(const Object& pod);
// A port of the pod's host that leads to the pod. No ip: any address of the host.
struct HostPort {
  std::optional<IpAddress> ip;
  std::uint16_t port = 0;
  L4Proto proto = L4Proto::kTcp;
  std::uint16_t container_port = 0;
  bool operator==(const HostPort&) const = default;
};
std::vector<HostPort> host_ports(const Object& pod);
// Not both can be on one host.
bool collide(const HostPort& a, const HostPort& b);

// ---- nodes
bool node_reports_ready(const Object& node);
// A pod's spec.tolerations: whether it takes a taint that has no value.
bool tolerates(const Object& pod, std::string_view key, std::string_view effect);
bool node_schedulable(const Object& node);                   // spec.unschedulable is not set
std::optional<IpAddress> node_underlay(const Object& node);  // its first IPv4 InternalIP
std::optional<IpAddress> node_lan_v6(const Object& node);    // its first IPv6 one
// What a host's data plane says of itself (status.nodeInfo.kubeProxyVersion): that it can be asked
// whose a connection is. Builds that cannot be asked say nothing.
inline constexpr std::string_view kProxyAnswers = "shoal-dsr-2";
bool node_answers(const Object& node);
std::vector<IpPrefix> node_pod_cidrs(const Object& node);
std::string_view node_zone(const Object& node);  // topology.kubernetes.io/zone, "" when unknown

// ---- services
bool has_selector(const Object& service);
// A service port's number at this pod: targetPort as a number, by name, or the port itself.
std::optional<std::uint16_t> target_port(const Object& pod,
                                         const boost::json::object& service_port);

}  // namespace shoal::view
