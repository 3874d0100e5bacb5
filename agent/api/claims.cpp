// SPDX-License-Identifier: Apache-2.0
#include "agent/api/claims.h"

#include "agent/api/selector.h"

#include <algorithm>
#include <boost/json/array.hpp>

namespace shoal::api {
namespace json = boost::json;

std::string_view selected_node(const json::object& claim) {
  const json::object* annotations = annotations_of(claim);
  const json::value* node = annotations ? annotations->if_contains(kSelectedNode) : nullptr;
  return node && node->is_string() ? std::string_view(node->get_string()) : std::string_view();
}

bool has_access_mode(const json::object& claim, std::string_view mode) {
  const json::array* modes = find_array(claim, "spec.accessModes");
  return modes && std::ranges::find(*modes, json::value(mode)) != modes->end();
}

std::string volume_name_of(const json::object& claim) {
  return "pvc-" + std::string(find_string(claim, "metadata.uid"));
}

std::vector<std::string> claims_of(const json::object& pod) {
  std::vector<std::string> out;
  const json::array* volumes = find_array(pod, "spec.volumes");
  for (std::size_t i = 0; volumes && i < volumes->size(); ++i) {
    const json::object* volume = (*volumes)[i].if_object();
    const std::string_view name =
        volume ? find_string(*volume, "persistentVolumeClaim.claimName") : std::string_view();
    if (!name.empty() && std::ranges::find(out, name) == out.end())
      out.emplace_back(name);
  }
  return out;
}

bool holds_claim(const json::object& pod, std::string_view claim) {
  const std::string_view phase = find_string(pod, "status.phase");
  if (find_string(pod, "spec.nodeName").empty() || phase == "Succeeded" || phase == "Failed")
    return false;
  return std::ranges::any_of(claims_of(pod),
                             [&](const std::string& name) { return name == claim; });
}

}  // namespace shoal::api
