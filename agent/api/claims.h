// SPDX-License-Identifier: Apache-2.0
// PersistentVolumeClaims on local storage: a folder of one host. A claim waits for its first
// consumer (WaitForFirstConsumer); the host that it is then bound to is in its annotation, written
// once by compare-and-write, and every later pod that uses the claim runs there. Pure.
#pragma once

#include <boost/json/object.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::api {

inline constexpr std::string_view kSelectedNode = "volume.kubernetes.io/selected-node";
inline constexpr std::string_view kClaimFinalizer = "kubernetes.io/pvc-protection";
inline constexpr std::string_view kLocalStorageClass = "shoal-local";

// The host that has the claim's folder; empty: none yet.
std::string_view selected_node(const boost::json::object& claim);
bool has_access_mode(const boost::json::object& claim, std::string_view mode);
// What a person knows the folder by: "pvc-UID".
std::string volume_name_of(const boost::json::object& claim);

// The claims that a pod's volumes name, each once.
std::vector<std::string> claims_of(const boost::json::object& pod);
// A pod that is on a host and has not ended: the claim stays while there is one.
bool holds_claim(const boost::json::object& pod, std::string_view claim);

}  // namespace shoal::api
