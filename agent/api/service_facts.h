// SPDX-License-Identifier: Apache-2.0
// What a Service asks for, read from its spec in one place: for admission, for the allocation of
// what must be unique, for the data plane and for tables. Rules are Kubernetes'. All pure; `spec`
// is the object's spec, with or without its defaults.
#pragma once

#include "netplane/base/ip.h"
#include "netplane/base/result.h"

#include <boost/json/object.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::api {

// The loadBalancerClass that this cluster serves; no class means it too. Services of other classes
// are somebody else's to give an address to.
inline constexpr std::string_view kLoadBalancerClass = "shoal.dev/announce";
inline constexpr std::string_view kSourceRangesAnnotation =
    "service.beta.kubernetes.io/load-balancer-source-ranges";
inline constexpr std::string_view kHeadless = "None";  // clusterIP of a headless Service
inline constexpr std::int64_t kAffinityTimeoutDefault_s = 10'800;

enum class ServiceType : std::uint8_t { kClusterIp, kNodePort, kLoadBalancer, kExternalName };
ServiceType service_type(const boost::json::object& spec);

bool is_headless(const boost::json::object& spec);
// Every type but ExternalName has clusterIP, if only "None".
bool has_cluster_ip(const boost::json::object& spec);
// Types whose ports can be reached on the hosts' own addresses.
bool may_have_node_ports(const boost::json::object& spec);
// They get one each even when none is asked for.
bool allots_node_ports(const boost::json::object& spec);
// Balanced from outside only to hosts with a backend of their own: somebody must be told which.
bool has_health_check_port(const boost::json::object& spec);
// Clients from outside may come: externalTrafficPolicy means something.
bool is_externally_accessible(const boost::json::object& spec);
// A load balancer that this cluster gives an address to and announces.
bool is_own_load_balancer(const boost::json::object& spec);

bool is_local(const boost::json::object& spec, std::string_view policy);  // "externalTrafficPolicy"
// How long a client stays with its backend; 0: not at all.
std::uint32_t affinity_timeout_s(const boost::json::object& spec);

inline constexpr std::string_view kSingleStack = "SingleStack";
inline constexpr std::string_view kRequireDualStack = "RequireDualStack";
// spec.ipFamilies, the primary one first; IPv4 when there is none. At most two.
std::vector<IpFamily> ip_families(const boost::json::object& spec);
std::optional<IpFamily> parse_ip_family(std::string_view text);  // "IPv4", "IPv6"

// spec.loadBalancerSourceRanges, or the older annotation. kInvalid names the range.
Result<std::vector<IpPrefix>> load_balancer_source_ranges(const boost::json::object& service);

// The spec of a Service; an empty one when there is none.
const boost::json::object& spec_of(const boost::json::object& service);

}  // namespace shoal::api
