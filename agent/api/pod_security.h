// SPDX-License-Identifier: Apache-2.0
// Pod Security Standards: what a pod may ask for in its namespace, which says so by its label
// pod-security.kubernetes.io/enforce (privileged, baseline, restricted). Follows Kubernetes' own
// checks of the fields that Shoal acts on, and their words.
//
// A namespace without the label is one of Shoal's own: all of `privileged` but privileged
// containers, capabilities as good (ALL, SYS_ADMIN, SYS_MODULE, ...) and hostPath volumes (whoever
// has the host's folders has the host), which are to be allowed by somebody who knows.
#pragma once

#include <boost/json/object.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::api {

inline constexpr std::string_view kPodSecurityLabel = "pod-security.kubernetes.io/enforce";

enum class PodSecurityLevel : unsigned char { kUnlabelled, kPrivileged, kBaseline, kRestricted };

// Of a namespace; what the label says that is none of the three counts as restricted, as in
// Kubernetes.
PodSecurityLevel pod_security_level(const boost::json::object& ns);
// As the label has it; "unlabelled" has no privileged containers.
std::string_view to_string(PodSecurityLevel level);

// What of a pod's spec the level forbids, each as `reason (what is to be changed)`; empty: all is
// allowed.
std::vector<std::string> pod_security_violations(const boost::json::object& pod_spec,
                                                 PodSecurityLevel level);

}  // namespace shoal::api
