// SPDX-License-Identifier: Apache-2.0
#include "agent/view/members.h"

namespace shoal::view {

void Members::erase(std::string_view node) {
  if (const auto found = by_name_.find(node); found != by_name_.end())
    by_name_.erase(found);
}

const Member* Members::find(std::string_view node) const {
  const auto found = by_name_.find(node);
  return found == by_name_.end() ? nullptr : &found->second;
}

bool Members::alive(std::string_view node) const {
  const Member* member = find(node);
  return member && member->alive;
}

std::vector<std::string> Members::live() const {
  std::vector<std::string> names;
  for (const auto& [name, member] : by_name_)
    if (member.alive)
      names.push_back(name);
  return names;
}

}  // namespace shoal::view
