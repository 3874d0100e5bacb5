// SPDX-License-Identifier: Apache-2.0
// images.registries: the one key whose value is a list of mappings.
#pragma once

#include "agent/config/config.h"

#include <functional>
#include <string>
#include <string_view>
#include <vector>
#include <yaml-cpp/yaml.h>

namespace shoal::config {

// Tells every problem with its place and key ("images.registries[0].mirrors"); what is wrong is
// left out of the result.
std::vector<Registry> read_registries(
    const YAML::Node& list, const std::string& path,
    const std::function<void(const YAML::Mark&, std::string_view key, std::string what)>& problem);

// "docker.io", "registry.lan:5000", "[fd00::1]:5000": what may stand before the first slash of an
// image's name.
bool is_registry_name(std::string_view text);
// "https://mirror.lan:5000/hub"; without a scheme it is HTTPS.
Result<Mirror> parse_mirror(std::string_view url);

}  // namespace shoal::config
