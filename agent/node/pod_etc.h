// SPDX-License-Identifier: Apache-2.0
// The managed files of a pod: /etc/hosts and /etc/resolv.conf, as the kubelet writes them. Pure.
#pragma once

#include "agent/node/pod_spec.h"
#include "netplane/base/ip.h"

#include <string>
#include <string_view>
#include <vector>

namespace shoal::node {

// What a resolver is told; beyond these bounds libc ignores it.
inline constexpr std::size_t kNameserversMax = 3;
inline constexpr std::size_t kSearchesMax = 32;

// hostname.subdomain.namespace.svc.cluster.local; empty without a subdomain.
std::string fqdn_of(const PodSpec& pod);
// What uname says in the pod, where that is not its host's network: there it is the host's name.
std::string kernel_hostname(const PodSpec& pod);
// host: the text of the host's own, which pods in its network have.
std::string hosts_file(const PodSpec& pod, const std::vector<IpAddress>& addresses,
                       std::string_view host);
// host: the text of the host's own resolv.conf. There is no cluster DNS yet: but for dnsPolicy
// None, a pod resolves what its host resolves, and what dnsConfig adds.
std::string resolv_conf(const PodSpec& pod, std::string_view host);

}  // namespace shoal::node
