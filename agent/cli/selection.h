// SPDX-License-Identifier: Apache-2.0
// What get, describe and delete are asked about: "KIND[,KIND] [NAME...]" or "KIND/NAME...". Pure.
#pragma once

#include "agent/cli/kinds.h"

#include <string>
#include <utility>
#include <vector>

namespace shoal::cli {

struct Selection {
  std::vector<const Kind*> kinds;  // whole lists, when names is empty
  std::vector<std::pair<const Kind*, std::string>> names;
};
Result<Selection> parse_selection(const std::vector<std::string>& what);

// The name that "pod/web" and "web" stand for; another kind is kInvalid.
Result<std::string> pod_name(const std::string& text);

// "?labelSelector=...&a=b" out of what is not empty.
std::string query(const std::vector<std::pair<std::string, std::string>>& fields);

}  // namespace shoal::cli
